"""The names of what a study compares.

An arm that distils is named by its loss or a sum of losses (`cwd+response`; `distill.registry` knows them) and may
carry settings of its own after it, as `cwd:tau=2:levels=16,32`.
"""

from __future__ import annotations

from collections.abc import Iterable

from coco1k_kd.distill import registry
from coco1k_kd.verdict.entry import Replicate

BASELINE = "baseline"
STOCK = "ultralytics"  # its own distill_model=
SAME_TIME = "baseline_same_time"
WEIGHT0, RANDOM = "weight0", "random_teacher"  # the controls
_STOCK_COST = 3.4  # of a step, over a plain one: docs/lab/step-times.md

Key = tuple[str, Replicate]  # a run: its arm, and which replicate of it


def kind(arm: str) -> str:
    """The arm without its settings."""
    return arm.partition(":")[0]


def arm_names() -> list[str]:
    """All arms that can be asked for, but for sums of losses, in the order of a report."""
    return [BASELINE, *registry.names(), STOCK, SAME_TIME]


def is_arm(arm: str) -> bool:
    """Whether there is such an arm, whatever settings it carries."""
    return kind(arm) in arm_names() or registry.is_loss(kind(arm))


def in_order(arms: Iterable[str]) -> list[str]:
    """`arms` in the order of a report: sums of losses after all single ones."""
    names = arm_names()
    last_loss = names.index(STOCK) - 0.5

    def place(arm: str) -> tuple[float, str]:
        return (names.index(kind(arm)) if kind(arm) in names else last_loss, arm)

    return sorted(arms, key=place)


def step_cost(arm: str, control_loss: str) -> float:
    """Seconds of the arm's training step over those of a plain one, about: the longest runs start first."""
    loss = control_loss if arm in (WEIGHT0, RANDOM) else kind(arm)
    cost = _STOCK_COST if loss == STOCK else registry.cost(loss) if registry.is_loss(loss) else 1.0
    return 1 + (cost - 1) / int(own_settings(arm).get("every", 1))  # the batches between are plain ones


def own_settings(arm: str) -> dict[str, str]:
    """The settings that an arm carries, as text; ValueError if one is not SETTING=VALUE."""
    return dict(part.split("=", 1) for part in arm.split(":")[1:])


def distilled(arms: Iterable[str]) -> list[str]:
    """Those of `arms` that learn from the teacher."""
    return [arm for arm in arms if kind(arm) == STOCK or registry.is_loss(kind(arm))]


def run_label(arm: str, replicate: Replicate) -> str:
    """The run in words."""
    draw, seed = replicate
    return f"{arm} ({f'draw {draw}, ' * (draw > 0)}seed {seed})"
