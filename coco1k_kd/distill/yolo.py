"""`YOLO` with a teacher: what users import. The work is done by `trainer.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import DEFAULT_CFG_KEYS, LOGGER, YAML
from ultralytics.utils.checks import check_yaml

from coco1k_kd.distill.seams import detect_head, neck_strides
from coco1k_kd.distill.settings import SETTABLE, Distillation
from coco1k_kd.distill.trainer import STATE, DistillationTrainer
from coco1k_kd.errors import UserError

NOT_GIVEN = object()  # a teacher that is None is plain training by intent
_PREFIX = "distillation_"
_MEANT = re.compile(r"teacher|distill|kd", re.IGNORECASE)  # how names of arguments begin that mean ours


class _WithTeacher:
    """What `YOLO` adds to Ultralytics' models: `train` with a teacher."""

    def train(
        self,
        trainer: type[DetectionTrainer] | None = None,
        *,
        teacher: Any = NOT_GIVEN,
        **kwargs: Any,
    ) -> Any:
        """Train as Ultralytics does, distilling from `teacher` if there is one.

        Args:
            trainer: Ultralytics' `trainer=`, any subclass of the task's own trainer; it is given the teacher.
            teacher: path, `YOLO` or module of an Ultralytics model for any of `seams.TASKS`; None is plain training.
            **kwargs: Ultralytics' training arguments, and each setting of `Distillation` with `distillation_` before
                its name: `distillation_loss="cwd+response"`, `distillation_weight=2.0`; None is its default. With
                `resume=True` all of it, teacher included, comes from the checkpoint.

        Returns:
            Ultralytics' training metrics.

        Raises:
            UserError: a setting, the student or the teacher is unfit; nothing has been written.
            DistillationError: the distillation turned out not to happen.
        """
        own = [name for name in kwargs if name.startswith(_PREFIX)]
        given = {name.removeprefix(_PREFIX): value for name in own if (value := kwargs.pop(name)) is not None}
        _check_arguments(teacher, given, kwargs)
        teacher = None if teacher is NOT_GIVEN else teacher
        settings = Distillation.of(teacher, given, _PREFIX)
        if kwargs.get("resume"):
            settings = self._resumed_settings(teacher, given, kwargs)
        if settings is None or settings.teacher is None:
            return super().train(trainer=trainer, **kwargs)
        if kwargs.get("distill_model"):
            raise UserError("teacher= and Ultralytics' own distill_model= are both given: choose one")
        if "dis" in kwargs:
            raise UserError(
                "dis= is the weight of Ultralytics' own distill_model=: with teacher= use distillation_weight="
            )
        strides = neck_strides(detect_head(self.model, "student"))
        own = self.task_map[self.task]["trainer"]
        if trainer and not (isinstance(trainer, type) and issubclass(trainer, own)):
            name = getattr(trainer, "__name__", trainer)
            raise UserError(f"trainer={name} does not train the task {self.task}: derive it from {own.__name__}")
        return super().train(trainer=DistillationTrainer.bind(settings, trainer or own, strides), **kwargs)

    def tune(self, *args: Any, **kwargs: Any) -> Any:
        """Tune as Ultralytics does, which has no teacher."""
        if ours := _own_arguments(kwargs):
            raise UserError(
                f"tune cannot take {ours[0]}=, since it runs Ultralytics' own training: tune the student alone, then "
                "train(teacher=..., cfg='best_hyperparameters.yaml')"
            )
        return super().tune(*args, **kwargs)

    def _resumed_settings(self, teacher: Any, given: dict[str, Any], kwargs: dict[str, Any]) -> Distillation | None:
        """Settings of the checkpoint that `resume` continues; None if it was trained without a teacher."""
        resume = kwargs["resume"]
        if isinstance(resume, (str, Path)):
            kwargs["resume"] = resume = _whole_checkpoint(resume)
            ckpt = load_checkpoint(resume)[1]
        else:
            ckpt = self.ckpt or {}
        saved = (ckpt.get("optimizer") or {}).get(STATE)
        if saved is None:
            if teacher is not None:
                raise UserError(
                    "resume: this checkpoint was not distilled (or is finished); start anew to use a teacher"
                )
            return None
        names = {field.name for field in fields(Distillation)} - {"teacher"}
        teacher = teacher if teacher is not None else saved["teacher"]
        if not teacher:
            raise UserError("resume: the teacher was given as a module, which no checkpoint holds; pass teacher= again")
        settings = Distillation(teacher, **{name: saved[name] for name in names if name in saved})
        wanted = replace(settings, **given)
        changed = [k for k in given if getattr(wanted, k) != getattr(settings, k)]
        if changed:
            there = getattr(settings, changed[0])
            raise UserError(f"resume: distillation_{changed[0]} differs from the checkpoint's {there!r}")
        return settings


class YOLO(_WithTeacher, ultralytics.YOLO):
    """Ultralytics' `YOLO` whose `train` takes a teacher; the same in everything else."""

    def __init__(self, model: Any = None, task: str | None = None, verbose: bool = False) -> None:
        chosen = () if model is None else (_whole_checkpoint(model),)  # without one, Ultralytics' own choice
        super().__init__(*chosen, task=task, verbose=verbose)
        if not isinstance(self, YOLO):  # Ultralytics turns into its RTDETR, YOLOWorld or YOLOE, which refuse a teacher
            self.__class__ = type(type(self).__name__, (_WithTeacher, type(self)), {"__module__": __name__})


def _own_arguments(names: Iterable[str]) -> list[str]:
    """Those of `names` that are arguments of distillation."""
    return [name for name in names if name == "teacher" or name.startswith("distillation_")]


def _check_arguments(teacher: Any, given: dict[str, Any], kwargs: dict[str, Any]) -> None:
    """Refuse, each in one line that says what to do, the arguments that Ultralytics would answer with a traceback."""
    if isinstance(teacher, str) and not teacher.strip():
        raise UserError("teacher='' is empty: give a checkpoint (.pt) or a YOLO, or None for plain training")
    if "layers" in given:
        raise UserError(
            "distillation_layers= is not known here: all levels of the neck are distilled, and "
            "distillation_levels= chooses among them by stride, as (8, 16, 32)"
        )
    for name in [name for name in kwargs if name not in DEFAULT_CFG_KEYS]:  # in the order of typing
        if name in SETTABLE:
            raise UserError(f"{name}= is not known here: distillation_{name}= is")
        if _MEANT.match(name):
            raise UserError(
                f"{name}= is not known here: give the teacher as teacher=, and with distillation_ before it each of "
                f"{', '.join(SETTABLE)}"
            )
    if teacher is NOT_GIVEN and given and not kwargs.get("resume"):
        raise UserError(
            f"distillation_{next(iter(given))}= is given without a teacher: add teacher=, or None for plain training"
        )
    if kwargs.get("cfg") and (ours := _own_arguments(YAML.load(check_yaml(kwargs["cfg"])))):
        raise UserError(f"cfg={kwargs['cfg']} holds {ours[0]}, which Ultralytics cannot read: give it to train()")


def _whole_checkpoint(path: Any) -> Any:
    """`path`, put back from the spare beside it if a kill has left a torn or missing last.pt; a model as it is."""
    if not isinstance(path, (str, Path)):
        return path
    last = Path(path)
    spare = last.with_name("previous.pt")
    if last.name != "last.pt" or not spare.exists():
        return path
    try:
        load_checkpoint(last)
    except Exception as error:  # a torn file fails in as many ways as there are places to tear it
        LOGGER.warning(f"{last} is torn ({type(error).__name__}); going on from the epoch before, {spare.name}")
        spare.replace(last)
    return path
