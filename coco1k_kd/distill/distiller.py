"""The trainable half of distillation: aligners, losses, weight, and the figures that show it is alive. Pure torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from coco1k_kd.distill import registry
from coco1k_kd.distill.losses import standardise

SCHEDULES = ("cosine", "constant")
NORMALISERS = {"channels": standardise, "none": Tensor.float}  # of the features of both sides
FIT_BATCHES = 10  # first batches of a run, from which the aligners get their starting weights
RIDGE = 1e-2  # of the mean squared feature
INNER_SCALE = 2.0**16  # of gradients taken in the forward pass: those of a mean underflow in float16
FINAL_FRACTION = 0.1  # of the weight, at the end of the cosine schedule (DAMO-YOLO, arXiv 2211.15444, section 3.4)


class Distiller(nn.Module):
    """Aligns the student's levels to the teacher's widths and measures how far they are apart.

    Each level: 1x1 convolution to the teacher's width, both sides standardised alike, then the loss; levels are summed.

    Args:
        student_channels: widths of the student's neck levels.
        teacher_channels: widths of the teacher's, as many levels.
        loss: "cwd" or "mgd".
        tau: CWD's temperature.
        mask_ratio: MGD's share of hidden positions.
        levels: which of them are compared, by position; None for all.
        normalise: of `NORMALISERS`.
        seed: of MGD's masks.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        loss: str,
        tau: float = 1.0,
        mask_ratio: float = 0.65,
        levels: Sequence[int] | None = None,
        normalise: str = "channels",
        seed: int = 0,
    ) -> None:
        super().__init__()
        widths = list(zip(student_channels, teacher_channels, strict=True))
        self.levels = list(range(len(widths)) if levels is None else levels)
        self.normalise = NORMALISERS[normalise]
        self.aligners = nn.ModuleList(nn.Conv2d(*widths[level], 1) for level in self.levels)
        self.fitted_batches = 0
        self._moments: list[tuple[Tensor, Tensor]] = []
        self.losses = nn.ModuleList(
            part.make(channels=teacher_channels[level], seed=seed + level, tau=tau, mask_ratio=mask_ratio)
            for part in registry.parts(loss)
            for level in self.levels
        )
        self.to(memory_format=torch.channels_last)  # as the teacher: 3x3 convolutions without reordering

    def get_extra_state(self) -> dict[str, Any]:
        """How far the fit has come: a run that is resumed within its first batches goes on fitting."""
        return {"fitted_batches": self.fitted_batches, "moments": self._moments}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the fit from `get_extra_state`."""
        device = self.aligners[0].weight.device
        self.fitted_batches = state["fitted_batches"]
        self._moments = [(xx.to(device), xy.to(device)) for xx, xy in state["moments"]]

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], measure: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Compare both models' neck levels, those of `levels`.

        Args:
            student: all of its levels, (N, C, H, W) each.
            teacher: likewise, of the teacher's widths.
            measure: whether to give the agreement.

        Returns:
            The summed loss, a scalar, and the agreement of each compared level if it is asked for: the mean cosine of
            student and teacher, normalised, over images and positions.
        """
        terms, cosines = [], []
        for align, loss, level in zip(self.aligners, self.losses, self.levels, strict=True):
            kept = cosines if measure else None
            compare = partial(_compare, align, loss, teacher[level], kept, self.normalise)
            parameters = [p for p in (*align.parameters(), *loss.parameters()) if p.requires_grad]
            terms.append(_AtOnce.apply(compare, student[level], *parameters))
        return torch.stack(terms).sum(), cosines

    @torch.no_grad()
    def fit(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        """Set the aligners to the ridge regression of the teacher's features on the student's, over all batches so far.

        A random aligner sends the student a random gradient until it has been trained, which in a short run is most of
        the run (docs/method.md, "The aligner's start"). Ranks of a distributed run pool their batches and get the same
        weights.
        """
        moments = []
        with torch.autocast(student[0].device.type, enabled=False):  # sums over 100,000 positions need float32
            for level in self.levels:
                x = F.pad(student[level].float(), (0, 0, 0, 0, 0, 1), value=1.0)  # ones: the bias
                x, y = (side.transpose(0, 1).flatten(1) for side in (x, self.normalise(teacher[level])))
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


def _compare(
    align: nn.Module,
    loss: nn.Module,
    target: Tensor,
    cosines: list[Tensor] | None,
    normalise: Callable[[Tensor], Tensor],
    features: Tensor,
) -> tuple[Tensor, torch.dtype]:
    """A level's loss and the precision of its convolutions; the agreement joins `cosines` if they are asked for."""
    convolved = align(features)
    aligned, target = normalise(convolved), normalise(target)
    if cosines is not None:
        cosines.append(F.cosine_similarity(aligned.detach(), target, dim=1).mean())
    return loss(aligned, target), convolved.dtype


class _AtOnce(torch.autograd.Function):
    """A level's loss whose gradients are taken in the forward pass, so that its maps are gone before the next level.

    Autograd would keep the maps of all levels until the backward pass, beside all of the student's. The loss is a
    scalar: its gradients wait, in the precision in which they were computed, for the factor that comes from above.
    """

    @staticmethod
    def forward(ctx: Any, compare: Callable[..., Any], features: Tensor, *parameters: Tensor) -> Tensor:
        # Laid out as the teacher's are: one order for both sides, and no transposing between them.
        level = features.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.enable_grad():
            value, precision = compare(level)
            gradient, *gradients = torch.autograd.grad(value * INNER_SCALE, (level, *parameters))
        if features.is_contiguous():  # or a student's sums would round differently from a baseline's
            gradient = gradient.contiguous()
        ctx.save_for_backward(gradient, *(g.to(precision) for g in gradients))  # autocast has computed them in it
        ctx.dtypes = [p.dtype for p in parameters]
        return value.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        gradient, *gradients = ctx.saved_tensors
        factor = factor / INNER_SCALE
        scaled = (g.to(dtype) * factor for g, dtype in zip(gradients, ctx.dtypes, strict=True))
        return None, gradient * factor, *scaled


def gradient_ratio(
    distillation: tuple[Tensor, Sequence[Tensor]], task: tuple[Tensor, Sequence[Tensor]], scale: float = 1.0
) -> Tensor:
    """Norm of the distillation term's gradient over that of the task loss, both at the student's neck features.

    All of both gradients enters the student's body there, so the cut gives the true balance at the price of the head
    alone. The ranks of a distributed run pool theirs and get the same ratio.

    Args:
        distillation: the loss and the features on which it hangs, none of which depends on another.
        task: likewise.
        scale: keeps float16 gradients from underflow and cancels out.
    """

    def squared_norm(loss: Tensor, features: Sequence[Tensor]) -> Tensor:
        gradients = torch.autograd.grad(loss * scale, list(features), retain_graph=True)
        return torch.stack([g.float().square().sum() for g in gradients]).sum()

    norms = torch.stack([squared_norm(*distillation), squared_norm(*task)])
    if dist.is_initialized():
        dist.all_reduce(norms)
    return (norms[0] / norms[1]).sqrt()


def schedule_factor(schedule: str, epoch: int, epochs: int) -> float:
    """Share of the weight in force in `epoch` (from 0) of `epochs`; "cosine" goes from 1 to `FINAL_FRACTION`."""
    if schedule == "constant" or epochs < 2:
        return 1.0
    progress = min(epoch / (epochs - 1), 1.0)
    return FINAL_FRACTION + (1 - FINAL_FRACTION) * (1 + math.cos(math.pi * progress)) / 2
