"""The distillation term on top of Ultralytics' criterion, and what is measured of it on the way."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from coco1k_kd.distill.distiller import FIT_BATCHES, RESPONSE_ITEMS, Answer, Distiller, Term, gradient_ratios
from coco1k_kd.distill.response import BRANCHES, Response
from coco1k_kd.distill.seams import branch_gains, student_answer
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.teacher import Teacher
from coco1k_kd.errors import UserError

MEASURE_EVERY = 50  # steps between two measurements of gradient ratio and agreement: under 1% of the time
CALIBRATE_EVERY, CALIBRATION = 10, 10  # steps between two during calibration; how many of them set the weight
TARGET = "teacher"  # key of a batch: the teacher's answer, or a future of it, on its way to the criterion


class DistillationCriterion:
    """Ultralytics' criterion of the student plus, on a taught batch, the distillation term, scaled alike (x batch).

    Called as Ultralytics calls its own: (predictions, batch) -> (losses to be summed, detached items by name).
    """

    def __init__(
        self,
        task: Any,
        head: nn.Module,
        teacher: Teacher,
        distiller: Distiller,
        settings: Distillation,
        scale: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Take the gradient scaler's present factor as `scale`; reading it makes the host wait for a GPU."""
        self.task, self.head, self.teacher, self.distiller, self.settings = task, head, teacher, distiller, settings
        self.loss_weights = settings.loss_weights  # of each part, before the schedule
        self.factor = 1.0  # the schedule's
        self.calibrating = settings.weight == "auto"
        self.calibration: list[list[float]] = []  # the last measured ratios of the parts at weight 1
        self.scale = scale
        self.step, self.last_step = 0, 0  # taught ones of the epoch; the last is always measured
        self.sums: dict[str, Tensor] = {}  # of what the log shows, over the taught steps of the epoch
        self.seen: list[Tensor] = []  # per step of the epoch: the task's loss and the parts'
        self.measured: list[Tensor] = []  # per measured step: ratios, then a cosine per level

    def start_epoch(self, steps: int, factor: float) -> None:
        """Begin an epoch of so many taught steps, in which the schedule multiplies the weights by `factor`."""
        self.step, self.last_step, self.factor = 0, steps, factor
        self.seen.clear()
        self.sums = {}

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the student's raw training predictions, (N, ...) each, and Ultralytics' batch.

        A batch without the teacher's answer is a plain one: the log shows the mean of the epoch's taught ones with it.
        """
        losses, items = self.task(preds, batch)
        if TARGET not in batch:
            nothing = losses.detach().new_zeros(())
            return losses, {**items, **(self.mean_items() or dict.fromkeys(self._item_names(), nothing))}
        answer = student_answer(preds, respond=len(self.distiller.responses) > 0)
        features = [_apart(level) for level in answer.features]
        responses = {name: Response(*map(_apart_by_anchor, each)) for name, each in answer.responses.items()}
        target = batch[TARGET]
        if isinstance(target, Future):
            target = target.result()
        fitted = self.settings.aligner == "fitted" and self.distiller.aligners
        if fitted and self.distiller.fitted_batches < FIT_BATCHES:
            self.distiller.fit(features, target.features)
        half = self.teacher.dtype != torch.float32
        self.step += 1
        every = CALIBRATE_EVERY if self.calibrating else MEASURE_EVERY
        measure = self.step % every == 0 or self.step == self.last_step or (self.calibrating and self.step == 1)
        levels = features if half else [level.float() for level in features]
        with torch.autocast(batch["img"].device.type, self.teacher.dtype if half else None, enabled=half):
            terms, cosines = self.distiller(Answer(levels, responses), target, measure)
        values = self._by_part(terms)
        self.seen.append(torch.stack([losses.detach().sum().float(), *(v.detach() for v in values.values())]))
        if measure:
            self._measure(terms, features, target, cosines, batch)
        total = self.factor * len(batch["img"]) * self._weighted(terms)
        shown = self._items(terms, values)
        self.sums = {name: self.sums.get(name, 0) + value for name, value in shown.items()}
        return torch.cat([losses.reshape(-1), total.reshape(1)]), {**items, **shown}

    def mean_items(self) -> dict[str, Tensor]:
        """What the log shows of the epoch's taught steps, on average; nothing if there were none."""
        return {name: total / self.step for name, total in self.sums.items()}

    def _item_names(self) -> list[str]:
        """The names of `_items`, for an epoch whose first batch is a plain one."""
        parts = [f"kd_{name}" for name in self.loss_weights] if len(self.loss_weights) > 1 else []
        return ["kd_loss", *parts, *(RESPONSE_ITEMS if len(self.distiller.responses) else ())]

    def _by_part(self, terms: Sequence[Term]) -> dict[str, Tensor]:
        """The loss of each part, without its weight, over all branches."""
        return {name: torch.stack([t.value for t in terms if t.loss == name]).sum() for name in self.loss_weights}

    def _weighted(self, terms: Sequence[Term]) -> Tensor:
        """The terms with their weights. Each is multiplied by what its branch's task loss is multiplied by.

        So the balance of task and distillation follows the schedule alone, on an end-to-end head, too.
        """
        gains = branch_gains(self.task)
        return torch.stack([self.loss_weights[t.loss] * gains[t.branch] * t.value for t in terms]).sum()

    def _items(self, terms: Sequence[Term], values: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the log shows: the sum, each part of a sum, and what the parts consist of; all without weights."""
        items = {"kd_loss": torch.stack(list(values.values())).sum().detach()}
        if len(values) > 1:
            items |= {f"kd_{name}": value.detach() for name, value in values.items()}
        for term in terms:
            for name, value in term.items.items():
                items[name] = items[name] + value if name in items else value
        return items

    def _measure(
        self,
        terms: Sequence[Term],
        features: list[Tensor],
        target: Answer,
        cosines: list[Tensor],
        batch: dict[str, Any],
    ) -> None:
        """Measure the gradients' ratios at the neck's features, and note them with the agreement.

        The gradients of task and responses are taken through a copy of the head: a compiled student's task loss does
        not hang on the features it returns. A copy, since another forward in train mode moves the batch norm.
        """
        compared = [ours for ours, _ in self.distiller.levels]
        where = [i for i in compared if features[i].requires_grad]  # freeze= may leave out some
        if not where and self.distiller.aligners:
            raise UserError("freeze= leaves none of the distilled levels to train: there is nothing to distil into")
        where = where or compared  # responses have the head to teach
        cut = [level.detach().requires_grad_() for level in features]
        preds = deepcopy(self.head)(list(cut))
        size, scale, gains = len(batch["img"]), self.scale(), branch_gains(self.task)

        def gradients(value: Tensor, at: Sequence[Tensor]) -> list[Tensor]:
            return list(torch.autograd.grad(value * scale, [at[i] for i in where], retain_graph=True))

        def at_features(which: Sequence[Term], at: Sequence[Tensor]) -> dict[str, list[Tensor]]:
            # The one-to-one branch sees features that Ultralytics has detached: nothing of it enters the body.
            return {t.loss: gradients(gains[t.branch] * size * t.value, at) for t in which if t.branch == BRANCHES[0]}

        ours = at_features([t for t in terms if t.loss not in self.distiller.responses], features)
        ours |= at_features(self.distiller.compare_responses(student_answer(preds), target), cut)
        theirs = gradients(self.task(preds, batch)[0].sum(), cut)
        parts = [ours[name] for name in self.loss_weights]
        if self.calibrating:
            ratios = gradient_ratios(parts, theirs)
            if ratios.isfinite().all():
                self.calibrate([*self.calibration, ratios.tolist()])
        weights = [self.factor * weight for weight in self.loss_weights.values()]  # those of this step
        parts = [[w * g for g in part] for w, part in zip(weights, parts, strict=True)]
        total = [torch.stack(level).sum(0) for level in zip(*parts, strict=True)]
        self.measured.append(torch.stack([*gradient_ratios([total, *parts], theirs), *cosines]))

    def calibrate(self, ratios: list[list[float]]) -> None:
        """Set the weights that bring the medians of the last of `ratios` to the target; single batches scatter.

        Each part of a sum gets an equal share of the target.
        """
        self.calibration = ratios[-CALIBRATION:]
        share = self.settings.target_ratio / len(self.loss_weights)
        medians = [statistics.median(part) for part in zip(*self.calibration, strict=True)]
        self.loss_weights = {
            n: share / max(median, 1e-12) for n, median in zip(self.loss_weights, medians, strict=True)
        }

    @property
    def broken(self) -> bool:
        """Whether our loss was ever not finite in this epoch while the task's was."""
        if not self.seen:
            return False
        finite = torch.stack(self.seen).isfinite()  # one look for all steps: each would have the host wait for a GPU
        return bool((finite[:, 0] & ~finite[:, 1:].all(1)).any())

    def take_measurements(self) -> Tensor:
        """Mean of the measurements since the last call: the ratio KD/task, each part's, each level's cosine."""
        nothing = torch.full((1, 1 + len(self.loss_weights) + len(self.distiller.aligners)), float("nan"))  # cut short
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


def _apart(level: Tensor) -> Tensor:
    """A view of a level to measure at, apart from the others, whose gradient has the level's own layout.

    The teacher's layout would stay with the gradient, and the student's sums round differently from a baseline's.
    """
    view = level.view_as(level)
    if view.requires_grad and view.is_contiguous():
        view.register_hook(Tensor.contiguous)
    return view


def _apart_by_anchor(part: Tensor) -> Tensor:
    """The same of a part of a response, (N, C, A): Ultralytics' loss gives it a gradient laid out as (N, A, C)."""
    view = part.transpose(1, 2)
    if view.requires_grad:
        view.register_hook(Tensor.contiguous)
    return view.transpose(1, 2)
