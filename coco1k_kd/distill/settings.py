"""What to distil and how: checked once, recorded with the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import ultralytics

from coco1k_kd.distill import registry
from coco1k_kd.distill.distiller import NORMALISERS, SCHEDULES
from coco1k_kd.errors import UserError

ALIGNERS = ("fitted", "random")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
STATE = "distillation"  # key of our entry in the optimizer's state dict, hence in last.pt
_OF_A_LOSS = {"of_a_loss": True}  # handed to the losses whose constructors name it
RATIO_LIMITS = (1e-4, 10.0)  # of gradients KD/task; outside, the distillation does nothing or drowns the task


@dataclass(frozen=True)
class Distillation:
    """What to distil, and how; everything but the teacher itself is plain data and recorded with the run.

    Attributes:
        teacher: path, `YOLO` or module of an Ultralytics detector.
        loss: of `registry.names()`, or a sum, as "cwd+response"; in any case.
        weight: factor of the loss, of a sum one for all parts or one for each, "1,3" or (1, 3). None for the losses'
            defaults, "auto" to calibrate it during warm-up so that the distillation's gradient is `target_ratio` of the
            task's, each part of a sum having its share.
        schedule: "cosine" (to a tenth at the end of the run) or "constant".
        tau: CWD's temperature.
        mask_ratio: MGD's share of hidden positions.
        levels: strides of the levels to distil, "16,32" or (16, 32); None for all.
        normalise: "channels" compares features whose channels are standardised, "none" as they are.
        aligner: how the aligners start, "fitted" to the first batches, or "random".
        precision: of the teacher's forward, "auto", "fp32", "fp16" or "bf16".
        target_ratio: of `weight="auto"`.
        every: batches from one that is taught to the next; those between are plain ones, without a teacher's forward.
        lesson: the file of boxes that the teacher has found, for the losses `pool` and `fill`; `unlabelled=` makes it.
        share: of `pool` in every batch.
        soft: whether the score of such a box weighs its target; otherwise it is as good as a person's.
        low: the score from which on such a box is not taken for background.
        loss_file: the Python file that registers a loss of your own; known by itself where that has been imported.
        teacher_sha256: of the teacher's weights; one that differs is refused. "" takes any: it is known once loaded.
    """

    teacher: Any
    loss: str = "cwd"
    weight: float | tuple[float, ...] | str | None = None
    schedule: str = "cosine"
    tau: float = field(default=1.0, metadata=_OF_A_LOSS)
    mask_ratio: float = field(default=0.65, metadata=_OF_A_LOSS)
    levels: tuple[int, ...] | None = None
    normalise: str = "channels"
    aligner: str = "fitted"
    precision: str = "auto"
    target_ratio: float = 0.5
    every: int = 1
    lesson: str = ""
    share: float = field(default=0.5, metadata=_OF_A_LOSS)
    soft: bool = field(default=True, metadata=_OF_A_LOSS)
    low: float = field(default=0.1, metadata=_OF_A_LOSS)
    loss_file: str = ""
    teacher_sha256: str = ""

    def __post_init__(self) -> None:
        for name, choices in (
            ("schedule", SCHEDULES),
            ("normalise", NORMALISERS),
            ("aligner", ALIGNERS),
            ("precision", PRECISIONS),
        ):
            value = str(getattr(self, name)).lower()
            if value not in choices:
                raise UserError(f"unknown {name} {value!r} for distillation: choose one of {', '.join(choices)}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "loss", str(self.loss).lower())
        object.__setattr__(self, "lesson", str(self.lesson))
        files = {part.file for part in self.parts()} - {""}
        if len(files) > 1:
            raise UserError(f"the losses of {self.loss} are registered in different files: put them into one")
        object.__setattr__(self, "loss_file", "".join(files))
        object.__setattr__(self, "weight", self._read_weight())
        self._set_number("tau", lambda x: 0 < x < math.inf, "above 0")
        self._set_number("mask_ratio", lambda x: 0 <= x < 1, "in [0, 1)")
        object.__setattr__(self, "levels", _strides(self.levels))
        high = RATIO_LIMITS[1]
        self._set_number("target_ratio", lambda x: 0 < x < high, f"above 0 and below {high:g}")
        self._set_number("every", lambda x: x >= 1 and x == x // 1 < math.inf, "a whole number of batches, 1 or more")
        object.__setattr__(self, "every", int(self.every))
        self._set_number("share", lambda x: 0 < x < 1, "above 0 and below 1")
        self._set_number("low", lambda x: 0 < x <= 1, "a score above 0")
        self._set_number("soft", lambda x: x in (0, 1), "0 or 1")
        object.__setattr__(self, "soft", bool(self.soft))

    @classmethod
    def of(cls, teacher: Any, given: Mapping[str, Any], prefix: str = "distillation_") -> Distillation:
        """Settings from what a user gives, by name. `UserError` if one is unknown, or no part of the loss has it.

        `prefix` is how the user writes the names.
        """
        for name in given:
            if name not in SETTABLE:
                raise UserError(f"{prefix}{name} is not known: choose of {', '.join(SETTABLE)}")
        settings = cls(teacher, **given)
        for name in given.keys() & OF_LOSSES:
            if not any(part.takes(name) for part in settings.parts()):
                raise UserError(f"{prefix}{name} is not a setting of the loss {settings.loss}")
        return settings

    def parts(self) -> tuple[registry.Loss, ...]:
        """The losses whose sum is distilled by, also in a process that has not imported the user's own."""
        if self.loss_file:
            registry.load(self.loss_file)
        return registry.parts(self.loss)

    def compared(self) -> tuple[registry.Loss, ...]:
        """Those of `parts` that compare student and teacher, batch by batch."""
        return tuple(part for part in self.parts() if part.compares != registry.LABELS)

    @property
    def by_labels(self) -> bool:
        """Whether a part teaches by boxes that the teacher has found before."""
        return len(self.compared()) < len(self.parts())

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each compared part, before the schedule; 1 where it is still to be calibrated."""
        parts = self.compared()
        each = (1.0,) if self.weight == "auto" else self.weight if isinstance(self.weight, tuple) else (self.weight,)
        return dict(zip((part.name for part in parts), each * (len(parts) // len(each)), strict=True))

    def _read_weight(self) -> float | tuple[float, ...] | str:
        """`weight` as a number, or one for each part; `UserError` if it is neither."""
        names = [part.name for part in self.compared()]
        if self.weight is None:
            return registry.default_weight(self.parts())
        if self.weight == "auto":
            return "auto"
        given = self.weight.split(",") if isinstance(self.weight, str) else self.weight
        each = list(given) if isinstance(given, Iterable) else [given]
        try:
            numbers = tuple(float(number) for number in each)
        except (TypeError, ValueError):
            numbers = (math.nan,)
        if not all(0 <= number < math.inf for number in numbers):
            raise UserError(f"distillation_weight={self.weight!r} must be a number >= 0, or 'auto'")
        if len(numbers) not in (1, len(names)):
            raise UserError(
                f"distillation_weight={self.weight!r} must be one number, or one for each of {', '.join(names)}"
            )
        return numbers[0] if len(numbers) == 1 else numbers

    def _set_number(self, name: str, fits: Callable[[float], bool], must_be: str) -> None:
        """Turn a field into a float, also from text as a command line gives it; `UserError` if it does not fit."""
        given = getattr(self, name)
        try:
            value = float(given)
        except (TypeError, ValueError):
            value = math.nan
        if not fits(value):
            raise UserError(f"distillation_{name}={given!r} must be {must_be}")
        object.__setattr__(self, name, value)

    def shared_levels(
        self, student: Sequence[int], teacher: Sequence[int], named: str = "distillation_levels"
    ) -> list[tuple[int, int]]:
        """Where the levels to distil are among the student's and the teacher's, of these strides.

        `named` is who asks for them. `UserError` if both models have none in common, or not those that are asked for.
        """
        shared = [stride for stride in student if stride in teacher]
        if not shared:
            raise UserError(
                f"teacher and student have no level in common: the strides of the teacher's neck are "
                f"{', '.join(map(str, teacher))}, of the student's {', '.join(map(str, student))}"
            )
        chosen = shared if self.levels is None else self.levels
        if missing := set(chosen) - set(shared):
            raise UserError(f"{named}: the models have no stride {min(missing)}, only {', '.join(map(str, shared))}")
        return [(list(student).index(stride), list(teacher).index(stride)) for stride in chosen]

    def record(self) -> dict[str, Any]:
        """The settings as plain data, the teacher by its path ("" if it never had one)."""
        teacher = self.teacher.model if isinstance(self.teacher, ultralytics.engine.model.Model) else self.teacher
        path = teacher if isinstance(teacher, (str, Path)) else getattr(teacher, "pt_path", None) or ""
        if Path(path).is_file():
            path = Path(path).resolve()  # the run may be resumed from another folder
        plain = asdict(replace(self, teacher=None)) | {"teacher": str(path)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}  # YAML has no tuples

    def arguments(self) -> dict[str, Any]:
        """The same as they are given to `YOLO.train`, for a run's args.yaml."""
        record = self.record()
        theirs = {name: record.pop(name) for name in ("teacher", "teacher_sha256")}
        return {**theirs, **{f"distillation_{name}": value for name, value in record.items()}}


SETTABLE = tuple(f.name for f in fields(Distillation) if f.name not in ("teacher", "teacher_sha256"))
OF_LOSSES = frozenset(f.name for f in fields(Distillation) if f.metadata == _OF_A_LOSS)
OF_AN_ARM = tuple(name for name in SETTABLE if name not in ("loss", "loss_file", "lesson"))


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
