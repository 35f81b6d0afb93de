"""Feature-distillation losses: CWD and MGD. Pure torch, no Ultralytics."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coco1k_kd.distill.registry import built_in

MASKS_APART = 100_003  # between the seeds of two masks in a row: a prime, so that those of neighbouring seeds differ
SHIFT = 3.0  # standardised features seldom lie below -3: shifted up, they pass the ReLU, and are shifted back


def cwd_loss(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Channel-wise distillation: the KL divergence between the spatial distributions of each channel.

    tau^2 / (N*C) * sum_{n,c} KL( softmax_HW(teacher / tau) || softmax_HW(student / tau) ), Shu et al., "Channel-wise
    Knowledge Distillation for Dense Prediction", arXiv 2011.13256, equations 2 to 4 (there without the mean over N).

    Args:
        student: (N, C, H, W), already aligned to the teacher's width.
        teacher: (N, C, H, W). Takes no gradient.
        tau: temperature, > 0.

    Returns:
        Scalar in float32 (float64 for float64 inputs), whatever the autocast precision of the inputs.

    Raises:
        ValueError: shapes differ or are not 4-dimensional, or tau is not positive.
    """
    _check_shapes(student, teacher)
    if not tau > 0:
        raise ValueError(f"tau must be positive, not {tau}")
    n, c = teacher.shape[:2]
    by_pixel = _by_pixel(teacher)

    def logits(x: Tensor) -> Tensor:
        x = at_least_float32(x)
        x = x.permute(0, 2, 3, 1).flatten(1, 2) if by_pixel else x.flatten(2)
        return x if tau == 1 else x / tau

    divergence = _Divergence.apply(logits(student), logits(teacher.detach()), 1 if by_pixel else 2)
    return divergence * (tau**2 / (n * c))


def _by_pixel(x: Tensor) -> bool:
    """Whether to take the softmax of (N, C, H, W) maps as they lie in memory, (N, HW, C), and not channel by channel.

    Not on a card: ATen's softmax over a middle dimension keeps few of its cores busy there.
    """
    return x.device.type != "cuda" and x.is_contiguous(memory_format=torch.channels_last)


class _Divergence(torch.autograd.Function):
    """Sum of KL( softmax(teacher) || softmax(student) ) along one dimension, with its gradient q - p.

    By its formula, since autograd's way over two log-softmaxes and a KL keeps and walks more maps.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, dim: int) -> Tensor:
        log_q, log_p = student.log_softmax(dim), teacher.log_softmax(dim)
        p = log_p.exp()
        value = log_p.sub_(log_q).mul_(p).sum()
        ctx.save_for_backward(log_q.exp_().sub_(p))
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (difference,) = ctx.saved_tensors
        return difference * gradient, None, None


# Weights are chosen by measurement, not copied: docs/method.md, "Weights". Costs: docs/lab/step-times.md.
@built_in(name="cwd", weight=1.0, cost=1.5, help="where each channel of the features is active")
class CWDLoss(nn.Module):
    """`cwd_loss` as a module, to stand beside `MGDLoss`: no parameters."""

    def __init__(self, tau: float = 1.0) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See `cwd_loss`."""
        return cwd_loss(student, teacher, self.tau)


@built_in(name="mgd", weight=4.0, cost=2.1, help="the teacher's features from half-hidden ones")
class MGDLoss(nn.Module):
    """Masked generative distillation: hide part of the student's map, generate the teacher's whole map from the rest.

    mean( (T - G(M * S))^2 ), M zero with probability `mask_ratio` at each position, one mask for all channels, G =
    conv3x3, ReLU, conv3x3. Yang et al., "Masked Generative Distillation", arXiv 2205.01529, equations 4 to 6. There
    it is alpha/N * sum_{C,H,W}; here the mean over C, H and W too, so that its weight depends neither on the resolution
    nor on the level: the paper's alpha = our weight / (C*H*W).

    Args:
        channels: the teacher's width C.
        mask_ratio: in [0, 1); 0.65 in the paper.
        seed: of the masks' own generator, so that a distilled run leaves the global random streams alone.
    """

    def __init__(self, channels: int, mask_ratio: float = 0.65, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= mask_ratio < 1:
            raise ValueError(f"mask_ratio must be in [0, 1), not {mask_ratio}")
        self.mask_ratio = mask_ratio
        self.generation = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        # It starts as the identity: a random generator sends the student a random gradient.
        for layer, shift in ((self.generation[0], SHIFT), (self.generation[2], -SHIFT)):
            nn.init.dirac_(layer.weight)
            nn.init.constant_(layer.bias, shift)
        self.seed, self.calls = seed, 0

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Take (N, C, H, W) student and teacher, give a scalar in float32 or wider; a new mask at every call."""
        _check_shapes(student, teacher)
        n, _, h, w = teacher.shape
        numbers = torch.Generator(student.device).manual_seed(self.seed + MASKS_APART * self.calls)
        self.calls += 1
        # Drawn where it is used: a copy from the host would have the device wait for it at every level.
        mask = torch.rand((n, 1, h, w), generator=numbers, device=student.device) >= self.mask_ratio
        generated = self.generation(student * mask)
        return F.mse_loss(at_least_float32(generated), at_least_float32(teacher.detach()))

    def get_extra_state(self) -> int:
        """How many masks there were: a resumed run goes on with the next, each rank of it with its own seed's."""
        return self.calls

    def set_extra_state(self, state: int) -> None:
        """Restore the count from `get_extra_state`."""
        self.calls = state


def standardise(features: Tensor) -> Tensor:
    """Give each channel of (N, C, H, W) mean 0 and variance 1 over the batch and the positions, in float32 or wider.

    Student and teacher pass through the same function: what is compared is where a channel is active, not how loudly.
    """
    return F.batch_norm(at_least_float32(features), None, None, training=True)


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 4 or student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must both be (N, C, H, W) and equal"
        )


def at_least_float32(x: Tensor) -> Tensor:
    """The same in a precision in which it can be summed."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
