"""Response distillation: what the student's head says of each anchor is drawn towards what the teacher's says.

Detectors of the same strides have the same anchors, so that dense predictions need no matching and no aligner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import dist2bbox, make_anchors

from coco1k_kd.distill.losses import at_least_float32
from coco1k_kd.distill.registry import built_in
from coco1k_kd.errors import visible

BRANCHES = ("one2many", "one2one")  # of a Detect head, by Ultralytics' names; all but end-to-end heads have the first
LEAST = 0.01  # cells from the centre to a side of a box


class Response(NamedTuple):
    """One branch of a head, before its boxes are decoded.

    Attributes:
        boxes: (N, 4 * bins, A) logits of the distances' distributions; the distances themselves where bins is 1.
        scores: (N, classes, A) logits.
    """

    boxes: Tensor
    scores: Tensor


@built_in(name="response", weight=1.0, cost=1.6, compares="responses", help="what the heads say of every anchor")
class ResponseLoss(nn.Module):
    """Classification and localisation of all anchors; each is normalised by the sum of the teacher's confidences.

    Classification: sum over anchors and shared classes of |q - p| * BCE(z, q), z the student's logit, p and q the
    sigmoids of student and teacher. Yang et al., "Bridging Cross-task Protocol Inconsistency for Distillation in Dense
    Object Detection", arXiv 2308.14286, binary classification distillation loss with beta 1.

    Localisation: sum over anchors of the teacher's confidence times the mean over the four sides of KL(teacher ||
    student) of the distances' distributions. Zheng et al., "Localization Distillation for Dense Object Detection",
    arXiv 2102.12252, temperature 1. Where a head has no distributions (YOLO26), or both have unlike bins, 1 - GIoU of
    the decoded boxes stands for the KL.

    An anchor's confidence is the teacher's highest score among the shared classes; among all of its own if none is
    shared, and then localisation is all there is.

    Args:
        classes: (student's, teacher's) numbers of the classes that both know.
    """

    def __init__(self, classes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.shared = len(classes)
        for side, numbers in zip(("student", "teacher"), zip(*classes, strict=True), strict=False):
            in_order = list(numbers) == list(range(self.shared))  # then a view of the scores will do
            self.register_buffer(f"{side}_classes", None if in_order else torch.tensor(numbers), persistent=False)

    def forward(self, student: Response, teacher: Response, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compare one branch of both heads.

        Args:
            student: of A anchors.
            teacher: of the same anchors. Takes no gradient.
            levels: (N, C, H, W) maps whose positions, in this order, are the anchors.

        Returns:
            Classification and localisation, scalars in float32 or wider.
        """
        q = at_least_float32(teacher.scores.detach())
        classification = q.new_zeros(())
        if self.shared:
            q = self._of_shared(q, self.teacher_classes)
        q = q.sigmoid()
        confidence = q.amax(1)  # (N, A)
        norm = confidence.sum().clamp(min=1.0)  # images with nothing on them must not weigh like others
        if self.shared:
            z = at_least_float32(self._of_shared(student.scores, self.student_classes))
            classification = _Classification.apply(z, q) / norm
        distance = localisation_distance(student.boxes, teacher.boxes.detach(), levels)
        return classification, (distance * confidence).sum() / norm

    def _of_shared(self, scores: Tensor, numbers: Tensor | None) -> Tensor:
        return scores[:, : self.shared] if numbers is None else scores.index_select(1, numbers)


class _Classification(torch.autograd.Function):
    """Sum of |q - p| * BCE(z, q) over the student's logits z and the teacher's scores q, p = sigmoid(z).

    With its gradient sign(p - q) * p * (1 - p) * BCE(z, q) + |q - p| * (p - q), by its formula: autograd's way would
    keep five maps of the size of all scores.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, q: Tensor) -> Tensor:
        p = z.sigmoid()
        distance = p - q
        size = distance.abs()
        entropy = F.binary_cross_entropy_with_logits(z, q, reduction="none")
        value = (size * entropy).sum()
        slope = torch.addcmul(p, p, p, value=-1).mul_(entropy).mul_(distance.sign())
        ctx.save_for_backward(slope.addcmul_(size, distance))
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient, None


def localisation_distance(student: Tensor, teacher: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """(N, A) distances of two heads' boxes, (N, 4 * bins, A): KL of their distributions, or 1 - GIoU."""
    sides = [at_least_float32(boxes).unflatten(1, (4, -1)) for boxes in (student, teacher)]  # (N, 4, bins, A)
    if sides[0].shape == sides[1].shape and sides[0].shape[2] > 1:
        log_p, log_q = (logits.log_softmax(2) for logits in sides)
        return ((log_q - log_p) * log_q.exp()).sum(2).mean(1)
    centres = make_anchors(list(levels), [1.0] * len(levels))[0].T.to(sides[0].dtype)  # in cells, hence without strides
    boxes = [dist2bbox(_distances(logits), centres, xywh=False, dim=1).transpose(1, 2) for logits in sides]
    return 1 - bbox_iou(*boxes, xywh=False, GIoU=True).squeeze(-1)


def _distances(sides: Tensor) -> Tensor:
    """(N, 4, A) expected distances, in cells, of (N, 4, bins, A) logits; of one bin the distances themselves.

    A head without distributions may say negative ones, most of all a fresh one, and a box that is turned inside out or
    empty has no GIoU: none is below `LEAST`.
    """
    if sides.shape[2] == 1:
        return sides.squeeze(2).clamp(min=LEAST)
    bins = torch.arange(sides.shape[2], device=sides.device, dtype=sides.dtype)
    return torch.einsum("nsba,b->nsa", sides.softmax(2), bins)


def shared_classes(student: Mapping[int, str], teacher: Mapping[int, str]) -> list[tuple[int, int]]:
    """(student's, teacher's) numbers of the classes that have the same name in both, whatever their case."""

    def plain(name: object) -> str:
        return visible(str(name)).strip().lower()  # own data have their names so

    numbers = {plain(name): number for number, name in sorted(teacher.items(), reverse=True)}
    return [(number, numbers[plain(name)]) for number, name in sorted(student.items()) if plain(name) in numbers]


def of_levels(response: Response, sizes: Sequence[int], chosen: Sequence[int]) -> Response:
    """The anchors of the `chosen` levels, of all levels with `sizes` positions each."""
    if list(chosen) == list(range(len(sizes))):
        return response
    return Response(*(torch.cat([part.split(list(sizes), -1)[i] for i in chosen], -1) for part in response))
