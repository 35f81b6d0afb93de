"""The trainable half of distillation: aligners, losses, weight, and the figures that show it is alive."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from coco1k_kd.distill import registry
from coco1k_kd.distill.losses import standardise
from coco1k_kd.distill.response import BRANCHES, Response, of_levels

SCHEDULES = ("cosine", "constant")
NORMALISERS = {"channels": standardise, "none": Tensor.float}  # of the features of both sides
FIT_BATCHES = 10  # first batches of a run, from which the aligners get their starting weights
RESPONSE_ITEMS = ("kd_cls", "kd_box")  # what the log shows of a loss of responses
RIDGE = 1e-2  # of the mean squared feature
FINAL_FRACTION = 0.1  # of the weight, at the end of the cosine schedule (DAMO-YOLO, arXiv 2211.15444, section 3.4)


class Answer(NamedTuple):
    """What a detector makes of a batch of images.

    Attributes:
        features: (N, C, H, W) of each level of the neck, finest first.
        responses: of the head's branches, of `response.BRANCHES`, those that are compared.
    """

    features: list[Tensor]
    responses: Mapping[str, Response]


class Term(NamedTuple):
    """A term of the distillation loss.

    Attributes:
        loss: its name.
        branch: of the student's head, whose task loss it stands beside.
        value: a scalar.
        items: what it consists of, by name, for the log.
    """

    loss: str
    branch: str
    value: Tensor
    items: Mapping[str, Tensor]


class Distiller(nn.Module):
    """Measures how far student and teacher are apart, by a loss or a sum of losses.

    Features: each level goes through a 1x1 convolution to the teacher's width, which all losses of features share; both
    sides are standardised alike; a loss is summed over the levels. Responses: one loss for each branch of the head.

    Args:
        student_channels: widths of the student's neck levels.
        teacher_channels: widths of the teacher's.
        loss: of `registry`.
        levels: (student's, teacher's) positions of the levels that are compared; None for all, as many on both sides.
        normalise: of `NORMALISERS`.
        seed: of the losses that draw numbers.
        settings: what the losses' constructors may name beside `channels` and `seed`.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        loss: str,
        levels: Sequence[tuple[int, int]] | None = None,
        normalise: str = "channels",
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.levels = [(i, i) for i in range(len(student_channels))] if levels is None else list(levels)
        self.normalise = NORMALISERS[normalise]
        parts = [part for part in registry.parts(loss) if part.compares != registry.LABELS]
        of_features = [part for part in parts if part.compares == registry.FEATURES]
        widths = [(student_channels[ours], teacher_channels[theirs]) for ours, theirs in self.levels]
        self.aligners = nn.ModuleList(nn.Conv2d(*width, 1) for width in widths if of_features)
        self.fitted_batches = 0
        self._moments: list[tuple[Tensor, Tensor]] = []
        given = dict(settings or {})
        self.losses = nn.ModuleDict(
            {
                part.name: nn.ModuleList(
                    part.make(**given | {"channels": channels, "seed": seed + level})
                    for (level, _), (_, channels) in zip(self.levels, widths, strict=True)
                )
                for part in of_features
            }
        )
        self.responses = nn.ModuleDict({part.name: part.make(**given) for part in parts if part not in of_features})
        self.to(memory_format=torch.channels_last)  # as the teacher: 3x3 convolutions without reordering

    def get_extra_state(self) -> dict[str, Any]:
        """How far the fit has come: a run that is resumed within its first batches goes on fitting."""
        return {"fitted_batches": self.fitted_batches, "moments": self._moments}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the fit from `get_extra_state`."""
        self.fitted_batches = state["fitted_batches"]
        device = self.aligners[0].weight.device if self.aligners else None
        self._moments = [(xx.to(device), xy.to(device)) for xx, xy in state["moments"]]

    def forward(self, student: Answer, teacher: Answer, measure: bool = False) -> tuple[list[Term], list[Tensor]]:
        """Compare what both models make of the same images.

        Args:
            student: its answer.
            teacher: likewise, of the teacher's widths.
            measure: whether to give the agreement.

        Returns:
            A term for each loss of features and each branch of each loss of responses; and, if it is asked for and
            features are compared, the agreement of each level: the mean cosine of student and teacher, normalised, over
            images and positions.
        """
        terms, cosines = self.compare_features(student, teacher, measure)
        return [*terms, *self.compare_responses(student, teacher)], cosines

    def compare_features(
        self, student: Answer, teacher: Answer, measure: bool = False
    ) -> tuple[list[Term], list[Tensor]]:
        """The losses of features alone: see `forward`."""
        values: dict[str, list[Tensor]] = {name: [] for name in self.losses}
        cosines = []
        for place, align in enumerate(self.aligners):
            ours, theirs = self.levels[place]
            aligned = self.normalise(align(student.features[ours]))
            target = self.normalise(teacher.features[theirs])
            if measure:
                cosines.append(F.cosine_similarity(aligned.detach(), target, dim=1).mean())
            for name, losses in self.losses.items():
                values[name].append(losses[place](aligned, target))
        return [Term(name, BRANCHES[0], torch.stack(each).sum(), {}) for name, each in values.items()], cosines

    def compare_responses(self, student: Answer, teacher: Answer) -> list[Term]:
        """The losses of responses alone: one-to-many from one-to-many, one-to-one from one-to-one."""
        ours, theirs = zip(*self.levels, strict=True)
        sizes, their_sizes = ([level[0, 0].numel() for level in answer.features] for answer in (student, teacher))
        compared = [student.features[level] for level in ours]
        terms = []
        for name, loss in self.responses.items():
            for branch in (b for b in BRANCHES if b in student.responses and b in teacher.responses):
                sides = (
                    of_levels(student.responses[branch], sizes, ours),
                    of_levels(teacher.responses[branch], their_sizes, theirs),
                )
                classification, localisation = loss(*sides, compared)
                items = dict(zip(RESPONSE_ITEMS, (classification.detach(), localisation.detach()), strict=True))
                terms.append(Term(name, branch, classification + localisation, items))
        return terms

    @torch.no_grad()
    def fit(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        """Set the aligners to the ridge regression of the teacher's features on the student's, over all batches so far.

        A random aligner sends the student a random gradient until it has been trained, which in a short run is most of
        the run (docs/method.md, "The aligner's start"). Ranks of a distributed run pool their batches and get the same
        weights.

        Args:
            student: all of its levels, (N, C, H, W) each.
            teacher: likewise.
        """
        moments = []
        with torch.autocast(student[0].device.type, enabled=False):  # sums over 100,000 positions need float32
            for ours, theirs in self.levels:
                x = F.pad(student[ours].float(), (0, 0, 0, 0, 0, 1), value=1.0)  # ones: the bias
                x, y = (side.transpose(0, 1).flatten(1) for side in (x, self.normalise(teacher[theirs])))
                moments.append((x @ x.T, x @ y.T))
        if dist.is_initialized():
            for moment in (m for pair in moments for m in pair):
                dist.all_reduce(moment)
        if self._moments:
            moments = [(a + c, b + d) for (a, b), (c, d) in zip(self._moments, moments, strict=True)]
        self._moments = moments
        for aligner, (xx, xy) in zip(self.aligners, moments, strict=True):
            xx, xy = xx.double().cpu(), xy.double().cpu()
            penalty = torch.full((len(xx),), RIDGE * float(xx.diagonal()[:-1].mean()), dtype=xx.dtype)
            penalty[-1] = 0.0  # the bias is free
            solution = torch.linalg.solve(xx + penalty.diag(), xy).T
            aligner.weight.copy_(solution[:, :-1, None, None])
            aligner.bias.copy_(solution[:, -1])
        self.fitted_batches += 1
        if self.fitted_batches == FIT_BATCHES:
            self._moments = []


def gradient_ratios(distillation: Sequence[Sequence[Tensor]], task: Sequence[Tensor]) -> Tensor:
    """Norms of gradients of the distillation over that of the task loss, all at the student's neck features.

    All of what both say to the student's body enters there, so that the cut gives the true balance at the price of the
    head alone. The ranks of a distributed run pool theirs and get the same ratios.

    Args:
        distillation: for each ratio the gradients at all levels.
        task: likewise of the task loss.

    Returns:
        A ratio for each of `distillation`; NaN where it or the task's gradient is not finite, or the task's is zero.
    """
    sides = (*distillation, task)
    squares = torch.stack([torch.stack([g.float().square().sum() for g in side]).sum() for side in sides])
    if dist.is_initialized():
        dist.all_reduce(squares)
    ratios = (squares[:-1] / squares[-1]).sqrt()
    return torch.where(ratios.isfinite() & squares[-1].isfinite(), ratios, float("nan"))


def schedule_factor(schedule: str, epoch: int, epochs: int) -> float:
    """Share of the weight in force in `epoch` (from 0) of `epochs`; "cosine" goes from 1 to `FINAL_FRACTION`."""
    if schedule == "constant" or epochs < 2:
        return 1.0
    progress = min(epoch / (epochs - 1), 1.0)
    return FINAL_FRACTION + (1 - FINAL_FRACTION) * (1 + math.cos(math.pi * progress)) / 2
