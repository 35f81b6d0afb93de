"""The distillation term on top of Ultralytics' criterion, and what is measured of it on the way."""

from __future__ import annotations

import statistics
from concurrent.futures import Future
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from coco1k_kd.distill.distiller import FIT_BATCHES, Distiller, gradient_ratio
from coco1k_kd.distill.seams import neck_features
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.teacher import Teacher
from coco1k_kd.errors import UserError

MEASURE_EVERY = 50  # steps between two measurements of gradient ratio and agreement: under 1% of the time
CALIBRATE_EVERY, CALIBRATION = 10, 10  # steps between two during calibration; how many of them set the weight
TARGET = "teacher_features"  # key of a batch: the teacher's answer, or a future of it, on its way to the criterion


class DistillationCriterion:
    """Ultralytics' criterion of the student plus the distillation term, scaled like the rest (loss x batch).

    Called as Ultralytics calls its own: (predictions, batch) -> (losses to be summed, detached items by name).
    """

    def __init__(
        self, task: Any, head: nn.Module, teacher: Teacher, distiller: Distiller, settings: Distillation
    ) -> None:
        self.task, self.head, self.teacher, self.distiller, self.settings = task, head, teacher, distiller, settings
        self.weight = 1.0 if settings.weight == "auto" else settings.weight  # before the schedule
        self.factor = 1.0  # the schedule's
        self.calibrating = settings.weight == "auto"
        self.calibration: list[float] = []  # the last measured ratios at weight 1, from which the weight is set
        self.scale = 1.0  # the gradient scaler's
        self.step, self.last_step = 0, 0  # of the epoch; the last is always measured, however short the epoch
        self.broken: Tensor | None = None  # was our loss ever not finite while the task's was? kept on the device
        self.measured: list[Tensor] = []  # per measured step: ratio, then a cosine per level

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the student's raw training predictions, (N, ...) each, and Ultralytics' batch."""
        losses, items = self.task(preds, batch)
        features = [
            level.view_as(level) for level in neck_features(preds)
        ]  # to measure at, one level apart from another
        target = batch[TARGET]
        if isinstance(target, Future):
            target = target.result()
        if self.settings.aligner == "fitted" and self.distiller.fitted_batches < FIT_BATCHES:
            self.distiller.fit(features, target)
        half = self.teacher.dtype != torch.float32
        self.step += 1
        every = CALIBRATE_EVERY if self.calibrating else MEASURE_EVERY
        measure = self.step % every == 0 or self.step == self.last_step or (self.calibrating and self.step == 1)
        levels = features if half else [level.float() for level in features]
        with torch.autocast(batch["img"].device.type, self.teacher.dtype if half else None, enabled=half):
            value, cosines = self.distiller(levels, target, measure)
        broken = torch.isfinite(losses.detach()).all() & ~torch.isfinite(value.detach())
        self.broken = broken if self.broken is None else self.broken | broken
        if measure:
            self._measure(value, features, cosines, batch)
        term = self.weight * self.factor * len(batch["img"]) * value
        return torch.cat([losses.reshape(-1), term.reshape(1)]), {**items, "kd_loss": value.detach()}

    def _measure(self, value: Tensor, features: list[Tensor], cosines: list[Tensor], batch: dict[str, Any]) -> None:
        """Measure the gradients' ratio, and note it with the agreement.

        The task's gradient is taken through a copy of the head: a compiled student's task loss does not hang on the
        features it returns. A copy, since another forward in train mode moves the batch norm.
        """
        cut = [level.detach().requires_grad_() for level in features]
        task = self.task(deepcopy(self.head)(list(cut)), batch)[0].sum()
        trained = [i for i in self.distiller.levels if features[i].requires_grad]  # freeze= may leave out some
        if not trained:
            raise UserError("freeze= leaves none of the distilled levels to train: there is nothing to distil into")
        ours, theirs = ([side[i] for i in trained] for side in (features, cut))
        ratio = gradient_ratio((value * len(batch["img"]), ours), (task, theirs), self.scale)
        if self.calibrating and torch.isfinite(ratio):
            self.calibrate([*self.calibration, float(ratio)])
        self.measured.append(torch.stack([self.weight * self.factor * ratio, *cosines]))

    def calibrate(self, ratios: list[float]) -> None:
        """Set the weight that brings the median of the last of `ratios` to the target; single batches scatter."""
        self.calibration = ratios[-CALIBRATION:]
        self.weight = self.settings.target_ratio / max(statistics.median(self.calibration), 1e-12)

    def take_measurements(self) -> Tensor:
        """Mean of the measurements since the last call: ratio KD/task, then the cosine of each distilled level."""
        nothing = torch.full((1, 1 + len(self.distiller.levels)), float("nan"))  # an epoch that was cut short
        mean = (torch.stack(self.measured) if self.measured else nothing).nanmean(dim=0).cpu()
        self.measured.clear()
        return mean

    def __getattr__(self, name: str) -> Any:
        """Be Ultralytics' criterion in everything else (an end-to-end head's `update`, for one)."""
        if name == "task":  # not yet set: while being copied
            raise AttributeError(name)
        return getattr(self.task, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the student (EMA, checkpoint) gets Ultralytics' criterion alone: no teacher, no distiller."""
        return deepcopy(self.task, memo)
