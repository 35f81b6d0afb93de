"""What to distil and how: checked once, recorded with the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import ultralytics

from coco1k_kd.distill import reading, registry
from coco1k_kd.distill.distiller import NORMALISERS, SCHEDULES
from coco1k_kd.distill.reading import Reader, number, one_of
from coco1k_kd.errors import UserError

ALIGNERS = ("fitted", "random")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
STATE = "distillation"  # key of our entry in the optimizer's state dict, hence in last.pt
RATIO_LIMITS = (1e-4, 10.0)  # of gradients KD/task; outside, the distillation does nothing or drowns the task


def _setting(default: Any, read: Reader, of_a_loss: bool = False) -> Any:
    """A setting and how it is read; one `of_a_loss` is handed to the losses whose constructors name it."""
    return field(default=default, metadata={"read": read, "of_a_loss": of_a_loss})


@dataclass(frozen=True)
class _Settings:
    """The settings of a distillation as values; everything but the teacher is plain data and recorded with the run.

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
    loss: str = _setting("cwd", reading.lower)
    weight: float | tuple[float, ...] | str | None = None
    schedule: str = _setting("cosine", one_of(SCHEDULES))
    tau: float = _setting(1.0, number(lambda x: 0 < x < math.inf, "above 0"), of_a_loss=True)
    mask_ratio: float = _setting(0.65, number(lambda x: 0 <= x < 1, "in [0, 1)"), of_a_loss=True)
    levels: tuple[int, ...] | None = _setting(None, reading.strides)
    normalise: str = _setting("channels", one_of(NORMALISERS))
    aligner: str = _setting("fitted", one_of(ALIGNERS))
    precision: str = _setting("auto", one_of(PRECISIONS))
    target_ratio: float = _setting(
        0.5, number(lambda x: 0 < x < RATIO_LIMITS[1], f"above 0 and below {RATIO_LIMITS[1]:g}")
    )
    every: int = _setting(
        1, number(lambda x: x >= 1 and x == x // 1 < math.inf, "a whole number of batches, 1 or more", int)
    )
    lesson: str = _setting("", reading.text)
    share: float = _setting(0.5, number(lambda x: 0 < x < 1, "above 0 and below 1"), of_a_loss=True)
    soft: bool = _setting(True, number(lambda x: x in (0, 1), "0 or 1", bool), of_a_loss=True)
    low: float = _setting(0.1, number(lambda x: 0 < x <= 1, "a score above 0"), of_a_loss=True)
    loss_file: str = ""
    teacher_sha256: str = ""


class Distillation(_Settings):
    """What to distil, and how: settings as a user gives them, read and checked. `UserError` if one means nothing."""

    def __init__(self, teacher: Any, **given: Any) -> None:
        read = {f.name: f.metadata["read"] for f in fields(_Settings) if f.metadata}
        values = {f.name: f.default for f in fields(_Settings) if f.name != "teacher"} | given
        values |= {name: reader(name, values[name]) for name, reader in read.items()}
        parts = _parts(values["loss"], values["loss_file"])
        files = {part.file for part in parts} - {""}
        if len(files) > 1:
            raise UserError(f"the losses of {values['loss']} are registered in different files: put them into one")
        values["loss_file"] = "".join(files)
        names = [part.name for part in parts if part.compares != registry.LABELS]
        asked = values["weight"]
        values["weight"] = registry.default_weight(parts) if asked is None else reading.weight(asked, names)
        super().__init__(teacher, **values)

    @classmethod
    def of(cls, teacher: Any, given: Mapping[str, Any], prefix: str = "distillation_") -> Distillation:
        """Settings from what a user gives, by names of `SETTABLE`. `UserError` if no part of the loss has one of them.

        `prefix` is how the user writes the names.
        """
        settings = cls(teacher, **given)
        for name in given.keys() & OF_LOSSES:
            if not any(part.takes(name) for part in settings.parts()):
                raise UserError(f"{prefix}{name} is not a setting of the loss {settings.loss}")
        if settings.lesson and not settings.by_labels:
            raise UserError(f"{prefix}lesson is for the losses pool and fill, and the loss is {settings.loss}")
        return settings

    def parts(self) -> tuple[registry.Loss, ...]:
        """The losses whose sum is distilled by, also in a process that has not imported the user's own."""
        return _parts(self.loss, self.loss_file)

    def compared(self) -> tuple[registry.Loss, ...]:
        """Those of `parts` that compare student and teacher, batch by batch."""
        return tuple(part for part in self.parts() if part.compares != registry.LABELS)

    @property
    def by_labels(self) -> bool:
        """Whether a part teaches by boxes that the teacher has found before."""
        return len(self.compared()) < len(self.parts())

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weight of each compared part, before the schedule; 1 where it is still to be calibrated."""
        parts = self.compared()
        each = (1.0,) if self.weight == "auto" else self.weight if isinstance(self.weight, tuple) else (self.weight,)
        return dict(zip((part.name for part in parts), each * (len(parts) // len(each)), strict=True))

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
OF_LOSSES = frozenset(f.name for f in fields(Distillation) if f.metadata.get("of_a_loss"))
OF_AN_ARM = tuple(name for name in SETTABLE if name not in ("loss", "loss_file", "lesson"))


def _parts(loss: str, file: str) -> tuple[registry.Loss, ...]:
    if file:
        registry.load(file)
    return registry.parts(loss)
