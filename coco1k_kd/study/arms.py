"""The names of what a study compares.

An arm that distils may carry settings of its own after its loss, as `cwd:tau=2:levels=16,32`.
"""

from __future__ import annotations

from collections.abc import Iterable

BASELINE = "baseline"
LOSSES = ("cwd", "mgd")
STOCK = "ultralytics"  # its own distill_model=
SAME_TIME = "baseline_same_time"
ARMS = (BASELINE, *LOSSES, STOCK, SAME_TIME)
WEIGHT0, RANDOM = "weight0", "random_teacher"  # the controls
LONGEST_FIRST = (STOCK, "mgd", "cwd", RANDOM, WEIGHT0, BASELINE, SAME_TIME)  # by the time of a step: docs/benchmarks.md

Replicate = tuple[int, int]  # (draw of the train images, seed of the training); draw 0 when there is one subset
Key = tuple[str, Replicate]  # a run: its arm, and which replicate of it


def kind(arm: str) -> str:
    """The arm without its settings."""
    return arm.partition(":")[0]


def own_settings(arm: str) -> dict[str, str]:
    """The settings that an arm carries, as text; ValueError if one is not SETTING=VALUE."""
    return dict(part.split("=", 1) for part in arm.split(":")[1:])


def distilled(arms: Iterable[str]) -> list[str]:
    """Those of `arms` that learn from the teacher."""
    return [arm for arm in arms if kind(arm) in (*LOSSES, STOCK)]


def run_label(arm: str, replicate: Replicate) -> str:
    """The run in words."""
    draw, seed = replicate
    return f"{arm} ({f'draw {draw}, ' * (draw > 0)}seed {seed})"
