"""What a study compares: each arm is a value, read once from its name.

An arm that distils is named by its loss or a sum of losses (`cwd+response`; `distill.registry` knows them) and may
carry settings of its own after it, as `cwd:tau=2:levels=16,32` or `cwd:teacher=big.pt`. `names.py` has the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coco1k_kd import names
from coco1k_kd.distill import registry
from coco1k_kd.errors import UserError, nearest
from coco1k_kd.verdict.entry import Replicate

if TYPE_CHECKING:
    from coco1k_kd.distill.settings import Distillation

_TEACHER = "teacher"  # the setting of an arm that is not one of its distillation
_DISTILLED = names.Named("", teacher=True)  # what all arms of losses are


@dataclass(frozen=True)
class Arm:
    """One of the trainings that a study compares. Arms of one name are equal.

    Attributes:
        name: as it was typed, in lower case but for the file of a teacher.
        row: what it is, apart from its losses.
        parts: the losses whose sum it distils by; none where it does not, or Ultralytics does.
        own: its settings, as text, by name.
    """

    name: str
    row: names.Named = field(default=_DISTILLED, compare=False)
    parts: tuple[registry.Loss, ...] = field(default=(), compare=False)
    own: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return self.name

    @property
    def plain(self) -> str:
        """The name without settings."""
        return self.row.name or self.loss

    @property
    def loss(self) -> str:
        """The sum of its losses by name; "" where there are none."""
        return "+".join(part.name for part in self.parts)

    @property
    def teacher(self) -> str:
        """The file of its own teacher, as it was typed; "" where it learns from that of the study, or from none."""
        return self.own.get(_TEACHER, "")

    @property
    def settings(self) -> dict[str, str]:
        """The settings of its distillation, as text."""
        return {name: value for name, value in self.own.items() if name != _TEACHER}

    @property
    def learns(self) -> bool:
        """Whether it learns from the teacher."""
        return self.row.teacher

    @property
    def control(self) -> bool:
        """Whether it is there to judge others by, and never the answer."""
        return self.row.control

    @property
    def stock(self) -> bool:
        """Whether Ultralytics distils it."""
        return self.row.name == names.STOCK

    @property
    def compared(self) -> tuple[registry.Loss, ...]:
        """Those of its losses that compare student and teacher, batch by batch."""
        return tuple(part for part in self.parts if part.compares != registry.LABELS)

    @property
    def taught(self) -> set[str]:
        """Those of its losses that learn from boxes which were found before: of `pool` and `fill`."""
        return {part.name for part in self.parts} - {part.name for part in self.compared}

    @property
    def lesson(self) -> tuple[str, str, str]:
        """Which boxes it learns from: the control that it is, its own teacher, and the losses that learn from boxes.

        "" for none, and for the study's teacher.
        """
        return self.row.name, self.teacher, "+".join(sorted(self.taught))

    @property
    def cost(self) -> float:
        """Seconds of its training step over those of a plain one, about: the longest runs start first."""
        cost = registry.cost(self.parts) if self.parts else self.row.cost
        return 1 + (cost - 1) / int(float(self.own.get("every", 1)))  # the batches between are plain ones

    @property
    def simpler(self) -> list[str]:
        """The names of the arms to which it adds something: another teacher, settings to its losses, or a loss."""
        if self.own:
            return [self.with_teacher("").name if self.teacher else self.plain]
        return [part.name for part in self.parts] if len(self.parts) > 1 and not self.control else []

    @property
    def folder(self) -> str:
        """How the names of its run folders begin."""
        prefix = "control_" if self.control else "kd_" if self.learns else ""
        return "_".join([prefix + self.plain, *(f"{name}={Path(value).name}" for name, value in self.own.items())])

    def having(self, own: Mapping[str, str]) -> Arm:
        """The same with these settings of its own, and no others."""
        return replace(self, name=":".join([self.plain, *(f"{key}={value}" for key, value in own.items())]), own=own)

    def with_teacher(self, file: str) -> Arm:
        """The same, taught by the teacher of this file; by that of the study for ""."""
        return self.having(self.settings | ({_TEACHER: file} if file else {}))

    def like(self, other: Arm) -> Arm:
        """This control, distilled by the losses of `other`."""
        return replace(self, parts=other.parts)

    def distillation(self, weight: float | str | None = None) -> Distillation:
        """What an arm of losses asks for, `weight` being the study's. UserError if its settings do not fit."""
        from coco1k_kd.distill.settings import OF_AN_ARM, Distillation  # here, since Ultralytics takes seconds

        if self.teacher and any(part.compares == registry.LABELS for part in self.parts):
            raise UserError(f"arm {self}: it learns what the study's --teacher has labelled; leave out {_TEACHER}=")
        known = (*OF_AN_ARM, _TEACHER)
        for name in self.settings:
            if name not in known:
                raise UserError(
                    f"arm {self}: unknown setting {name!r}{nearest(name, known)}: choose of {', '.join(known)}"
                )
        try:
            return Distillation.of(None, {"loss": self.loss, "weight": weight, **self.settings}, f"arm {self}: ")
        except UserError as error:
            if "weight" in self.own or weight is None:
                raise
            raise UserError(f"--distillation-weight {weight}, arm {self}: {error}") from None


BASELINE, STOCK, SAME_TIME, WEIGHT0, RANDOM, POOL_SELF, POOL_TRUTH, POOL_PLACEBO = (
    Arm(row.name, row, registry.parts(row.loss) if row.loss else ()) for row in names.NAMED.values()
)
Key = tuple[Arm, Replicate]  # a run: its arm, and which replicate of it


def read_arm(text: str) -> Arm:
    """The arm that a user names, or a record on disk. UserError if there is none such; its settings are not judged."""
    plain, *written = text.split(":")
    plain = plain.lower()
    row = names.NAMED.get(plain)
    if row and row.control and not row.loss:
        raise UserError(f"arm {plain} is a control: leave it out and give --controls")
    known = [*arm_names(), *registry.names()]
    if unknown := [part for part in plain.split("+") if not row and part not in registry.names()]:
        near = nearest(unknown[0] if "+" in plain else plain, known)
        raise UserError(f"unknown arm {plain}{near}: choose of {', '.join(arm_names())}, or a sum of losses")
    own: dict[str, str] = {}
    for part in written:
        setting, _, value = part.partition("=")
        setting = setting.lower()
        if not value:
            raise UserError(f"arm {text}: settings are given as {plain}:SETTING=VALUE")
        if setting in own:
            raise UserError(f"arm {text} has the setting {setting} twice")
        own[setting] = value if setting == _TEACHER else value.lower()
    if row and not row.loss and (own.keys() - ({_TEACHER} if row.teacher else set())):
        losses = ", ".join(registry.names())
        raise UserError(f"arm {text}: only arms of a loss take settings ({losses})")
    loss = row.loss if row else plain
    arm = Arm(plain, row or _DISTILLED, registry.parts(loss) if loss else ())
    return arm.having(own)


def arm_names() -> list[str]:
    """All arms that can be asked for, but for sums of losses, in the order of a report."""
    first, *others = (name for name, row in names.NAMED.items() if not row.control or row.loss)
    return [first, *registry.names(), *others]


def in_order(arms: Iterable[Arm]) -> list[Arm]:
    """`arms` in the order of a report: sums of losses after all single ones."""
    order = arm_names()
    last_loss = len(registry.names()) + 0.5
    return sorted(arms, key=lambda arm: (order.index(arm.plain) if arm.plain in order else last_loss, arm.name))


def distilled(arms: Iterable[Arm]) -> list[Arm]:
    """Those of `arms` that learn from the teacher."""
    return [arm for arm in arms if arm.learns]


def run_label(arm: Arm, replicate: Replicate) -> str:
    """The run in words."""
    draw, seed = replicate
    return f"{arm} ({f'draw {draw}, ' * (draw > 0)}seed {seed})"
