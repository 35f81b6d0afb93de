"""`YOLO` with a teacher: what users import. The work is done by `trainer.py`."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER

from coco1k_kd.distill.arguments import PREFIX, check_arguments, own_arguments, shown_signature
from coco1k_kd.distill.pool import PoolTrainer
from coco1k_kd.distill.seams import detect_head, neck_strides
from coco1k_kd.distill.settings import STATE, Distillation
from coco1k_kd.distill.trainer import DistillationTrainer
from coco1k_kd.errors import UserError

NOT_GIVEN = object()  # a teacher that is None is plain training by intent


class _WithTeacher:
    """What `YOLO` adds to Ultralytics' models: `train` with a teacher."""

    def train(self, trainer: type[DetectionTrainer] | None = None, *, teacher: Any = NOT_GIVEN, **kwargs: Any) -> Any:
        """Train as Ultralytics does, distilling from `teacher` if there is one.

        Args:
            trainer: Ultralytics' `trainer=`, any subclass of the task's own trainer; it is given the teacher.
            teacher: path, `YOLO` or module of an Ultralytics model for any of `seams.TASKS`; None is plain training.
            **kwargs: Ultralytics' training arguments, and each setting of `Distillation` with `distillation_` before
                its name: `distillation_loss="cwd+response"`, `distillation_weight=2.0`; None is its default. With
                `resume=True` all of it, teacher included, comes from the checkpoint of an unfinished run; one that was
                not distilled goes on only with `teacher=None`.

        Returns:
            Ultralytics' training metrics.

        Raises:
            UserError: an argument, the student, the teacher or what is to be resumed is unfit; no run folder is left.
            DistillationError: the distillation turned out not to happen.
        """
        own = [name for name in kwargs if name.startswith(PREFIX)]
        given = {name.removeprefix(PREFIX): value for name in own if (value := kwargs.pop(name)) is not None}
        check_arguments(given, teacher is not NOT_GIVEN, kwargs)
        if isinstance(teacher, str) and not teacher.strip():
            raise UserError("teacher='' is empty: give a checkpoint (.pt) or a YOLO, or None for plain training")
        if kwargs.get("resume"):
            settings = self._resumed_settings(teacher, given, kwargs)
        else:
            settings = Distillation.of(None if teacher is NOT_GIVEN else teacher, given, PREFIX)
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
        if settings.by_labels:
            if self.task != "detect":
                raise UserError(
                    f"the loss {settings.loss}: a teacher labels with boxes, and this student is for {self.task}"
                )
            if not settings.lesson:
                raise UserError(f"the loss {settings.loss} learns from images without labels: add unlabelled=DIR")
            trainer = PoolTrainer.bind(settings, trainer or own)
        if settings.compared():
            trainer = DistillationTrainer.bind(settings, trainer or own, strides)
        return super().train(trainer=trainer, **kwargs)

    train.__signature__ = shown_signature(train)

    def tune(self, *args: Any, **kwargs: Any) -> Any:
        """Tune as Ultralytics does, which has no teacher."""
        if ours := own_arguments(kwargs):
            raise UserError(
                f"tune cannot take {ours[0]}=, since it runs Ultralytics' own training: tune the student alone, then "
                "train(teacher=..., cfg='best_hyperparameters.yaml')"
            )
        return super().tune(*args, **kwargs)

    def _resumed_settings(self, teacher: Any, given: dict[str, Any], kwargs: dict[str, Any]) -> Distillation | None:
        """Settings of the checkpoint that `resume` continues; None if it was trained without a teacher."""
        resume = kwargs["resume"]
        if not isinstance(resume, (bool, str, Path)):
            raise UserError(f"resume={resume!r}: give True, or the path of a run's last.pt")
        ckpt = self.ckpt or {} if resume is True else _read(kwargs, "resume")
        if ckpt.get("epoch", -1) < 0 or ckpt.get("optimizer") is None:  # Ultralytics would train anew, and plainly
            last = getattr(getattr(self, "trainer", None), "last", None)
            last = last if last and last.exists() else "RUN/weights/last.pt"
            raise UserError(
                f"resume: {self.model_name if resume is True else resume} has not been trained, or is finished: an "
                f"interrupted run goes on by YOLO('{last}').train(resume=True); to start anew leave out resume="
            )
        saved = ckpt["optimizer"].get(STATE)
        if saved is None:
            if teacher is not None:
                raise UserError(
                    "resume: this checkpoint was not distilled: go on without a teacher by teacher=None, or start anew "
                    "with one"
                )
            return None
        names = {field.name for field in fields(Distillation)} - {"teacher"}
        teacher = saved["teacher"] if teacher in (None, NOT_GIVEN) else teacher
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


def _read(kwargs: dict[str, Any], name: str) -> dict[str, Any]:
    """The checkpoint that an argument names, put back where it is torn. UserError if there is none to read."""
    path = kwargs[name] = _whole_checkpoint(kwargs[name])
    try:
        return load_checkpoint(Path(path).resolve(strict=True))[1]
    except Exception as error:  # as many kinds as there are files that are none
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name}={path} cannot be read: {reason}; give a run's last.pt") from None


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
