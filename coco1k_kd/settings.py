"""What to distil and how: checked once, recorded with the run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ultralytics

from coco1k_kd.distiller import DEFAULT_WEIGHT, LOSSES, SCHEDULES
from coco1k_kd.errors import UserError

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
RATIO_LIMITS = (1e-4, 10.0)  # of gradients KD/task; outside, the distillation does nothing or drowns the task


@dataclass(frozen=True)
class Distillation:
    """What to distil, and how; everything but the teacher itself is plain data and recorded with the run.

    Attributes:
        teacher: path, `YOLO` or module of an Ultralytics detector.
        loss: "cwd" or "mgd".
        weight: factor of the loss, None for the loss's default, "auto" to calibrate it during warm-up so that the
            distillation's gradient is `target_ratio` of the task's.
        schedule: "cosine" (to a tenth at the end of the run) or "constant".
        tau: CWD's temperature.
        mask_ratio: MGD's share of hidden positions.
        precision: of the teacher's forward, "auto", "fp32", "fp16" or "bf16".
        target_ratio: of `weight="auto"`.
    """

    teacher: Any
    loss: str = "cwd"
    weight: float | str | None = None
    schedule: str = "cosine"
    tau: float = 1.0
    mask_ratio: float = 0.65
    precision: str = "auto"
    target_ratio: float = 0.5

    def __post_init__(self) -> None:
        for field, choices in (("loss", LOSSES), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            value = str(getattr(self, field)).lower()
            if value not in choices:
                raise UserError(f"unknown {field} {value!r} for distillation: choose one of {', '.join(choices)}")
            object.__setattr__(self, field, value)
        weight = DEFAULT_WEIGHT[self.loss] if self.weight is None else self.weight
        if weight != "auto":
            try:
                weight = float(weight)
            except (TypeError, ValueError):
                weight = -1.0
            if not 0 <= weight < float("inf"):
                raise UserError(f"distillation_weight={self.weight!r} must be a number >= 0, or 'auto'")
        object.__setattr__(self, "weight", weight)
        for field, low, high in (("tau", 0.0, float("inf")), ("target_ratio", 0.0, RATIO_LIMITS[1])):
            if not low < getattr(self, field) < high:
                raise UserError(f"distillation_{field}={getattr(self, field)} must be above {low} and below {high}")
        if not 0 <= self.mask_ratio < 1:
            raise UserError(f"distillation_mask_ratio={self.mask_ratio} must be in [0, 1)")

    def record(self) -> dict[str, Any]:
        """The settings as plain data, the teacher by its path ("" if it never had one)."""
        teacher = self.teacher.model if isinstance(self.teacher, ultralytics.engine.model.Model) else self.teacher
        path = teacher if isinstance(teacher, (str, Path)) else getattr(teacher, "pt_path", None) or ""
        return {**asdict(replace(self, teacher=None)), "teacher": str(path)}
