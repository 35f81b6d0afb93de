"""The names of what a study compares."""

from __future__ import annotations

from collections.abc import Iterable

BASELINE = "baseline"
LOSSES = ("cwd", "mgd")
STOCK = "ultralytics"  # its own distill_model=
SAME_TIME = "baseline_same_time"
ARMS = (BASELINE, *LOSSES, STOCK, SAME_TIME)
WEIGHT0, RANDOM = "weight0", "random_teacher"  # the controls


def distilled(arms: Iterable[str]) -> list[str]:
    """Those of `arms` that learn from the teacher."""
    return [arm for arm in arms if arm in (*LOSSES, STOCK)]
