"""What to distil and how: checked once, recorded with the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import ultralytics

from coco1k_kd.distill import registry
from coco1k_kd.distill.distiller import NORMALISERS, SCHEDULES
from coco1k_kd.errors import UserError

ALIGNERS = ("fitted", "random")
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
        levels: strides of the levels to distil, "16,32" or (16, 32); None for all.
        normalise: "channels" compares features whose channels are standardised, "none" as they are.
        aligner: how the aligners start, "fitted" to the first batches, or "random".
        precision: of the teacher's forward, "auto", "fp32", "fp16" or "bf16".
        target_ratio: of `weight="auto"`.
        teacher_sha256: of the teacher's weights; one that differs is refused. "" takes any: it is known once loaded.
    """

    teacher: Any
    loss: str = "cwd"
    weight: float | str | None = None
    schedule: str = "cosine"
    tau: float = 1.0
    mask_ratio: float = 0.65
    levels: tuple[int, ...] | None = None
    normalise: str = "channels"
    aligner: str = "fitted"
    precision: str = "auto"
    target_ratio: float = 0.5
    teacher_sha256: str = ""

    def __post_init__(self) -> None:
        for field, choices in (
            ("schedule", SCHEDULES),
            ("normalise", NORMALISERS),
            ("aligner", ALIGNERS),
            ("precision", PRECISIONS),
        ):
            value = str(getattr(self, field)).lower()
            if value not in choices:
                raise UserError(f"unknown {field} {value!r} for distillation: choose one of {', '.join(choices)}")
            object.__setattr__(self, field, value)
        object.__setattr__(self, "loss", str(self.loss).lower())
        if len(registry.parts(self.loss)) > 1:
            raise UserError(f"sums of losses are not supported yet: {self.loss}")
        if self.weight is None:
            object.__setattr__(self, "weight", registry.default_weight(self.loss))
        elif self.weight != "auto":
            self._set_number("weight", lambda x: 0 <= x < math.inf, "a number >= 0, or 'auto'")
        self._set_number("tau", lambda x: 0 < x < math.inf, "above 0")
        self._set_number("mask_ratio", lambda x: 0 <= x < 1, "in [0, 1)")
        object.__setattr__(self, "levels", _strides(self.levels))
        high = RATIO_LIMITS[1]
        self._set_number("target_ratio", lambda x: 0 < x < high, f"above 0 and below {high:g}")

    def _set_number(self, field: str, fits: Callable[[float], bool], must_be: str) -> None:
        """Turn a field into a float, also from text as a command line gives it; `UserError` if it does not fit."""
        given = getattr(self, field)
        try:
            value = float(given)
        except (TypeError, ValueError):
            value = math.nan
        if not fits(value):
            raise UserError(f"distillation_{field}={given!r} must be {must_be}")
        object.__setattr__(self, field, value)

    def positions(self, strides: Sequence[int], named: str = "distillation_levels") -> list[int]:
        """Where among the models' levels, of these `strides`, those to distil are; `named` is who asks for them."""
        chosen = strides if self.levels is None else self.levels
        if missing := set(chosen) - set(strides):
            raise UserError(f"{named}: the models have no stride {min(missing)}, only {', '.join(map(str, strides))}")
        return [strides.index(stride) for stride in chosen]

    def record(self) -> dict[str, Any]:
        """The settings as plain data, the teacher by its path ("" if it never had one)."""
        teacher = self.teacher.model if isinstance(self.teacher, ultralytics.engine.model.Model) else self.teacher
        path = teacher if isinstance(teacher, (str, Path)) else getattr(teacher, "pt_path", None) or ""
        if Path(path).is_file():
            path = Path(path).resolve()  # the run may be resumed from another folder
        levels = self.levels and list(self.levels)  # YAML has no tuples
        return {**asdict(replace(self, teacher=None)), "levels": levels, "teacher": str(path)}


OF_AN_ARM = tuple(f.name for f in fields(Distillation) if f.name not in ("teacher", "loss", "teacher_sha256"))


def _strides(levels: object) -> tuple[int, ...] | None:
    """Strides from text or a sequence, in ascending order; None is all of them."""
    if levels is None:
        return None
    parts = levels.split(",") if isinstance(levels, str) else levels if isinstance(levels, Iterable) else [levels]
    try:
        strides = sorted(int(str(part)) for part in parts)
    except ValueError:
        strides = []
    if not strides or strides[0] < 1 or len(set(strides)) < len(strides):
        raise UserError(f"distillation_levels={levels!r} must be strides, as 16,32")
    return tuple(strides)
