"""`YOLO` with a teacher: what users import. The work is done by `trainer.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER

from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.trainer import STATE, DistillationTrainer
from coco1k_kd.errors import UserError


class YOLO(ultralytics.YOLO):
    """Ultralytics' `YOLO` whose `train` takes a teacher; the same in everything else."""

    def __init__(self, model: Any = None, task: str | None = None, verbose: bool = False) -> None:
        chosen = () if model is None else (_whole_checkpoint(model),)  # without one, Ultralytics' own choice
        super().__init__(*chosen, task=task, verbose=verbose)

    def train(
        self,
        trainer: type[DetectionTrainer] | None = None,
        *,
        teacher: Any = None,
        distillation_loss: str | None = None,
        distillation_weight: float | str | None = None,
        distillation_schedule: str | None = None,
        distillation_tau: float | None = None,
        distillation_mask_ratio: float | None = None,
        distillation_levels: str | Sequence[int] | None = None,
        distillation_normalise: str | None = None,
        distillation_aligner: str | None = None,
        distillation_precision: str | None = None,
        distillation_target_ratio: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Train as Ultralytics does, distilling from `teacher` if there is one.

        Args:
            trainer: Ultralytics' `trainer=`; with a teacher, a `DistillationTrainer` or nothing.
            teacher: path, `YOLO` or module of any Ultralytics detector with as many levels; None is plain training.
            distillation_loss: "cwd" (default) or "mgd", in any case.
            distillation_weight: factor of the loss; None for its default, "auto" to calibrate. See `Distillation` for
                this and the rest. With `resume=True` all of it, teacher included, comes from the checkpoint.
            **kwargs: Ultralytics' training arguments.

        Returns:
            Ultralytics' training metrics.

        Raises:
            UserError: a setting or the teacher is unfit; nothing has been written.
            DistillationError: the distillation turned out not to happen.
        """
        given = {
            "loss": distillation_loss,
            "weight": distillation_weight,
            "schedule": distillation_schedule,
            "tau": distillation_tau,
            "mask_ratio": distillation_mask_ratio,
            "levels": distillation_levels,
            "normalise": distillation_normalise,
            "aligner": distillation_aligner,
            "precision": distillation_precision,
            "target_ratio": distillation_target_ratio,
        }
        given = {k: v for k, v in given.items() if v is not None}
        settings = Distillation(teacher, **given)
        if kwargs.get("resume"):
            settings = self._resumed_settings(teacher, given, kwargs)
        if settings is None or settings.teacher is None:
            return super().train(trainer=trainer, **kwargs)
        if kwargs.get("distill_model"):
            raise UserError("teacher= and Ultralytics' own distill_model= are both given: choose one")
        if trainer and not issubclass(trainer, DistillationTrainer):
            raise UserError(
                f"trainer={trainer.__name__} knows no teacher: derive it from coco1k_kd's DistillationTrainer"
            )
        return super().train(trainer=(trainer or DistillationTrainer).bind(settings), **kwargs)

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
