"""A label's certainty on its way through Ultralytics: as the fraction of its class, which mosaics and mixups keep.

Ultralytics' assigner cuts the fraction off. `Assigner` reads it before: a box's score weights the target of the anchors
that it is given, and what may be an object or not leaves its anchors without a loss of classification.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coco1k_kd.errors import DistillationError

_SCORED = 0.5  # a score of 1 becomes this fraction; 0 is a label that a person gave
_DOUBTED = 0.75  # the fraction of a box that is neither object nor background


def coded(labels: np.ndarray, scores: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(n, 1) float32 classes of which the fraction tells the certainty.

    Args:
        labels: (n,) whole numbers.
        scores: (n,) in (0, 1]; what weighs 1 may be given as 0.
        kept: (n,) bool, of those that are labels; the others are neither object nor background.
    """
    return (labels + np.where(kept, _SCORED * scores, _DOUBTED)).astype(np.float32)[:, None]


def weights_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of coded classes, of any shape: the weight of each, and whether it is neither object nor background."""
    fraction = labels - labels.floor()
    weight = torch.where(fraction > 0, fraction / _SCORED, torch.ones_like(fraction))
    return weight, fraction > (_SCORED + _DOUBTED) / 2


def attach(criterion: Any) -> None:
    """Have Ultralytics' criterion, in place, read coded classes. A batch without any has the loss that it had."""
    for loss in detection_losses(criterion):
        loss.assigner = Assigner(loss.assigner)
        loss.bce = Classification(loss.bce, loss.assigner)


def detection_losses(criterion: Any) -> tuple[Any, ...]:
    """The parts of Ultralytics' criterion that assign labels to anchors: two for an end-to-end head, else one."""
    return (criterion,) if hasattr(criterion, "assigner") else (criterion.one2many, criterion.one2one)


class Assigner(nn.Module):
    """Ultralytics' task-aligned assigner, for labels of more or less certainty."""

    def __init__(self, assigner: nn.Module) -> None:
        super().__init__()
        self.assigner = assigner
        self.undecided: Tensor | None = None  # (N, A) bool: the anchors of the last batch that may be objects or not

    @torch.no_grad()
    def forward(
        self, scores: Tensor, boxes: Tensor, anchors: Tensor, labels: Tensor, truth: Tensor, given: Tensor, **more: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As Ultralytics' own: `labels` (N, M, 1) are coded, `truth` (N, M, 4) corners, `given` (N, M, 1) a mask."""
        weight, doubted = weights_of(labels)
        found = self.assigner(scores, boxes, anchors, labels, truth, given * ~doubted, **more)
        classes, targets, target_scores, foreground, index = found
        self.undecided = torch.zeros_like(foreground)
        if labels.shape[1]:
            target_scores = target_scores * weight[..., 0].gather(1, index)[..., None]
            self.undecided = _inside(anchors, truth, doubted) & ~foreground
        return classes, targets, target_scores, foreground, index


class Classification(nn.Module):
    """Ultralytics' loss of classification, (N, A, C), which says nothing to the anchors that are undecided."""

    def __init__(self, bce: nn.Module, assigner: Assigner) -> None:
        super().__init__()
        self.bce, self.assigner = bce, assigner

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """As Ultralytics' own. DistillationError if it is asked before the labels have been assigned."""
        undecided, self.assigner.undecided = self.assigner.undecided, None
        if undecided is None:
            raise DistillationError("Ultralytics' loss no longer assigns labels before it classifies: the pool is lost")
        return self.bce(scores, targets).masked_fill(undecided[..., None], 0.0)


def _inside(anchors: Tensor, boxes: Tensor, chosen: Tensor) -> Tensor:
    """(N, A) whether an anchor (A, 2) lies in one of the `chosen` (N, M, 1) of the boxes (N, M, 4)."""
    low, high = boxes[:, :, None].chunk(2, -1)
    return (((anchors > low) & (anchors < high)).all(-1) & chosen).any(1)
