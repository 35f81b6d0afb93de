"""The arms that no loss names: one table, which the losses, the study and the report share.

A loss of such a name is refused. `study/arms.py` reads the names of all arms.
"""

from __future__ import annotations

from dataclasses import dataclass

BASELINE = "baseline"
STOCK = "ultralytics"  # its own distill_model=
SAME_TIME = "baseline_same_time"
WEIGHT0, RANDOM = "weight0", "random_teacher"
POOL_SELF, POOL_TRUTH, POOL_PLACEBO = "pool_self", "pool_truth", "pool_placebo"
STUDENT, TEACHER = "student", "teacher"  # as they are given: rows of a report


@dataclass(frozen=True)
class Named:
    """An arm that no loss names.

    Attributes:
        name: as it stands in --arms, folders and reports.
        teacher: whether it learns from the teacher.
        control: whether it is there to judge others by, and is never the answer.
        loss: what it learns by, if it is always the same; else a control learns as another arm does, and nobody asks
            for it by its name.
        cost: seconds of its training step over those of a plain one, where it has no losses.
    """

    name: str
    teacher: bool = False
    control: bool = False
    loss: str = ""
    cost: float = 1.0


_ROWS = (
    Named(BASELINE),
    Named(STOCK, teacher=True, cost=3.4),  # docs/lab/step-times.md
    Named(SAME_TIME),
    Named(WEIGHT0, teacher=True, control=True),
    Named(RANDOM, teacher=True, control=True),
    Named(POOL_SELF, teacher=True, control=True, loss="pool"),
    Named(POOL_TRUTH, teacher=True, control=True, loss="pool"),
    Named(POOL_PLACEBO, teacher=True, control=True, loss="pool"),
)
NAMED = {row.name: row for row in _ROWS}
CONTROLS = frozenset(row.name for row in _ROWS if row.control)
