"""The arguments of `YOLO.train`: what is not known, or meant otherwise, is refused before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from inspect import Parameter, Signature
from typing import Any

from ultralytics.utils import DEFAULT_CFG_KEYS, YAML
from ultralytics.utils.checks import check_yaml

from coco1k_kd.distill.settings import SETTABLE, Distillation
from coco1k_kd.errors import UserError

PREFIX = "distillation_"
OWN = ("teacher", *(PREFIX + name for name in SETTABLE))
# What Ultralytics takes although its table of settings lacks it: two of today's, and those of earlier versions.
_TOLERATED = (
    "augmentations", "save_dir", "boxes", "hide_labels", "hide_conf", "line_thickness", "label_smoothing",
    "save_hybrid", "crop_fraction", "keras", "end2end", "int8", "half",
)  # fmt: skip
_THEIRS = frozenset((*DEFAULT_CFG_KEYS, *_TOLERATED))
_MEANT = re.compile(r"teacher|distill|kd", re.IGNORECASE)  # how names of arguments begin that mean ours
_SAID_ELSEWHERE = {"temperature": "distillation_tau", "alpha": "distillation_weight"}  # names that papers use


def own_arguments(names: Iterable[str]) -> list[str]:
    """Those of `names` that are arguments of distillation."""
    return [name for name in names if name in ("teacher", "unlabelled") or name.startswith(PREFIX)]


def nearest(name: str) -> str:
    """The known argument that `name` is probably meant to be, as a question to end a message with; "" if none is."""
    short = _MEANT.sub("", name.lower()).lstrip("_") if _MEANT.match(name) else name.lower()
    meant = _SAID_ELSEWHERE.get(name.lower().removeprefix(PREFIX)) or (PREFIX + short if short in SETTABLE else None)
    close = [meant] if meant else get_close_matches(name.lower(), [*OWN, *_THEIRS], n=1)
    return f"; did you mean {close[0]}=?" if close else ""


def check_arguments(given: dict[str, Any], teacher_given: bool, kwargs: dict[str, Any]) -> None:
    """Refuse, each in one line that says what to do, the arguments that Ultralytics would answer with a traceback.

    Args:
        given: our settings, without their prefix.
        teacher_given: whether there is an argument `teacher`.
        kwargs: all others.

    Raises:
        UserError: one is not known, or stands in the wrong place.
    """
    if "layers" in given:
        raise UserError(
            "distillation_layers= is not known here: all levels of the neck are distilled, and "
            "distillation_levels= chooses among them by stride, as (8, 16, 32)"
        )
    for name in given:
        if name not in SETTABLE:
            raise UserError(f"{PREFIX}{name} is not known: choose of {', '.join(SETTABLE)}{nearest(PREFIX + name)}")
    for name in [name for name in kwargs if name not in _THEIRS]:  # in the order of typing
        if name in SETTABLE:
            raise UserError(f"{name}= is not known here: distillation_{name}= is")
        if _MEANT.match(name):
            raise UserError(
                f"{name}= is not known here: give the teacher as teacher=, and with distillation_ before it each of "
                f"{', '.join(SETTABLE)}{nearest(name)}"
            )
        raise UserError(f"{name}= is known neither here nor to Ultralytics{nearest(name)}")
    if not teacher_given and given and not kwargs.get("resume"):
        raise UserError(
            f"distillation_{next(iter(given))}= is given without a teacher: add teacher=, or None for plain training"
        )
    if kwargs.get("cfg"):
        _check_file(kwargs["cfg"])


def _check_file(cfg: Any) -> None:
    """The same of a file of Ultralytics' settings, which has none of ours."""
    try:
        there = YAML.load(check_yaml(cfg))
    except Exception as error:  # whatever Ultralytics' search or its parser raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cfg={cfg} cannot be read: {reason}") from None
    if ours := own_arguments(there):
        raise UserError(f"cfg={cfg} holds {ours[0]}, which Ultralytics cannot read: give it to train()")
    for name in there:
        if name not in _THEIRS:
            raise UserError(f"cfg={cfg}: {name} is not known to Ultralytics{nearest(str(name))}")
    if there.get("resume"):
        raise UserError(f"cfg={cfg} holds resume: give it to train(), as resume=True of a run's last.pt")


def shown_signature(train: Any) -> Signature:
    """The signature of `train` with each of our settings and its default, for `help`."""
    first, *_, rest = Signature.from_callable(train).parameters.values()
    trainer = Signature.from_callable(train).parameters["trainer"]
    ours = [
        Parameter(PREFIX + f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(Distillation)
        if f.name in SETTABLE
    ]
    teacher = Parameter("teacher", Parameter.KEYWORD_ONLY, default=None, annotation="Any")
    return Signature([first, trainer, teacher, *ours, rest], return_annotation="Any")
