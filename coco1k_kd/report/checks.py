"""What a comparison says of how it was made: commit, failed runs, audit, witness and controls."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from coco1k_kd.verdict.entry import Word


class Git(Struct):
    """The program's own commit."""

    commit: str
    dirty: bool


class Failure(Struct):
    """A run that ended without a result; what is left of its arm is reported."""

    arm: str
    draw: int
    seed: int
    message: str


class Witness(Struct):
    """Where Ultralytics' own AP is farthest from COCOeval's."""

    agrees: bool
    difference: float
    of: str
    tolerance: Annotated[float, Meta(ge=0)]


class Audit(Struct, omit_defaults=True):
    """What was equal in all runs; unequal runs have no comparison."""

    passed: bool
    runs: int = 0
    compared: list[str] = []
    excepted: Annotated[dict[str, list[str]], Meta(description="by arm what may differ from the baseline")] = {}
    witness: Annotated[Witness | None, Meta(description="Ultralytics' own AP of the same checkpoints")] = None


class Weight0(Struct):
    """Distillation with weight 0, which must be the baseline."""

    passed: bool
    loss: str
    draw: int
    seed: int
    dir: str
    state_difference: float
    state_tolerance: float
    d_ap_last: float
    sentence: str


class Placebo(Struct):
    """A teacher that knows nothing, against the baseline."""

    loss: str
    d_ap: float
    verdict: Word


class Controls(Struct, omit_defaults=True):
    """What the controls that have run have found."""

    weight0: Weight0 | None = None
    random_teacher: Placebo | None = None
