"""Why AP is lost: TIDE's kinds of error, each as the AP50 that would be won if there were no such errors.

D. Bolya, S. Foley, J. Hays, J. Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020
(arXiv 2008.08115), section 2. A detection that matches no box is one of: *localisation* (overlaps a box of its class
by 0.1 to 0.5), *classification* (overlaps a box of another class by 0.5), *duplicate* (its box is taken),
*background* (overlaps nothing by 0.1) and *both* (the rest). *Missed* are boxes without a detection that one of the
first two would correct. Intervals are those of docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from coco1k_kd.data.groups import Groups, equal_groups, groups_of
from coco1k_kd.verdict.coco import Detections, Ranking, Truth, match, overlap, pairs, rank_within, read_detections
from coco1k_kd.verdict.entry import Difference, Replicate
from coco1k_kd.verdict.intervals import estimate
from coco1k_kd.verdict.looks import ALPHA
from coco1k_kd.verdict.matching import kept, truth_of
from coco1k_kd.verdict.precision import figures

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(len(KINDS))
_FOREGROUND, _BACK = 0.5, 0.1  # IoU
_MOST = 100  # detections of an image


class KindOfError(msgspec.Struct, frozen=True):
    """AP50 lost to one kind of error (a fraction): by the arm, by the other arm, and the arm's less the other's."""

    arm: Difference
    against: Difference
    difference: Difference


@dataclass(frozen=True)
class Losses:
    """AP50 of one model, and by kind of error (K) what it loses, with each image's (I) influence on the loss."""

    ap50: float
    lost: np.ndarray  # (K,)
    influence: np.ndarray  # (K, I)


def errors_by_kind(
    annotations: Path,
    runs: Mapping[Replicate, Path],
    against: Mapping[Replicate, Path],
    pattern: str | None = None,
    overlap: float = 0.0,
    level: float = ALPHA,
) -> dict[str, KindOfError]:
    """The kinds of error of two arms, paired over images and runs; both map a (draw, seed) to a predictions file.

    `pattern`: --groups, where images are not independent. `overlap`: share of images that two draws have in common.
    `level`: the error that the intervals `ci` of all kinds' differences share, so that they hold all at once.
    """
    keys = sorted(runs)
    sides = ([losses_of(annotations, side[key]) for key in keys] for side in (runs, against))
    groups = groups_of(pattern, truth_of(annotations).files) if pattern else None
    return compare_losses(*sides, keys, groups, overlap, level)


def compare_losses(
    ours: Sequence[Losses],
    theirs: Sequence[Losses],
    keys: Sequence[Replicate],
    groups: Groups | None = None,
    overlap: float = 0.0,
    level: float = ALPHA,
) -> dict[str, KindOfError]:
    """`errors_by_kind` of losses, one of each arm per (draw, seed) of `keys`."""
    draws = [draw for draw, _ in keys]
    images = float(ours[0].influence.shape[1])
    if groups:
        images = float(equal_groups(np.bincount(groups.number)))
    found = {}
    for kind, name in enumerate(KINDS):
        lost = [np.array([run.lost[kind] for run in side]) for side in (ours, theirs)]
        influence = [np.stack([run.influence[kind] for run in side], axis=-1) for side in (ours, theirs)]
        lost.append(lost[0] - lost[1])
        influence.append(influence[0] - influence[1])
        influence = [groups.sums(part.T).T for part in influence] if groups else influence
        told = (
            estimate(*of, draws, images, overlap).summary(level / len(KINDS))
            for of in zip(lost, influence, strict=True)
        )
        found[name] = KindOfError(*told)
    return found


@kept(64)
def losses_of(annotations: Path, predictions: Path) -> Losses:
    """The losses of one file of predictions."""
    truth = truth_of(annotations)
    return losses(truth, read_detections(predictions, truth))


def losses(truth: Truth, found: Detections) -> Losses:
    """TIDE's decomposition of one model's detections."""
    order = np.lexsort((-found.score, found.image))
    found = found[order[rank_within(found.image[order]) < _MOST]]
    boxes = np.flatnonzero(~truth.crowd)
    of, kind, correctable = _errors(truth, found, boxes)
    ignored = _in_crowds(truth, found) & (kind >= 0)
    hit, counted = kind < 0, ~ignored
    whole = _figures(truth, found.category, found, hit, counted, boxes)
    lost, influence = [], []
    for number in range(_MISSED):
        wrong = kind == number
        fixed = wrong & correctable if number in (_CLASSIFICATION, _LOCALISATION) else np.zeros_like(wrong)
        category = np.where(fixed, truth.category[of], found.category) if len(boxes) else found.category
        ap, each = _figures(truth, category, found, hit | fixed, (counted & ~wrong) | fixed, boxes)
        lost.append(ap - whole[0])
        influence.append(each - whole[1])
    seen = np.concatenate([of[hit], of[correctable]])
    ap, each = _figures(truth, found.category, found, hit, counted, boxes[np.isin(boxes, seen)])
    return Losses(whole[0], np.array([*lost, ap - whole[0]]), np.stack([*influence, each - whole[1]]))


def _errors(truth: Truth, found: Detections, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each detection: the box it belongs to, its kind of error (-1: none), and whether it is the one that a
    correction would match to its box."""
    number = len(found.score)
    d, g = pairs(found.image, truth.image[boxes])
    g = boxes[g]
    iou = overlap(found.box[d], truth.box[g], np.zeros(len(g), bool))
    near = iou > 0
    d, g, iou = d[near], g[near], iou[near]
    alike = found.category[d] == truth.category[g]
    of, kind = np.zeros(number, int), np.full(number, _BACKGROUND)
    own_match = match(truth, found, truth.crowd[None], np.array([_FOREGROUND]))[0, 0]
    matched = np.flatnonzero(np.isin(own_match, boxes))
    used = np.isin(np.arange(len(truth.image)), own_match[matched])

    def best(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Largest IoU of each detection among the chosen pairs, 0 without one, and its box (the first of equals)."""
        largest, box = np.zeros(number), np.zeros(number, int)
        order = np.lexsort((-g[chosen], iou[chosen], d[chosen]))  # of a detection the last is written last
        at = d[chosen][order]
        largest[at], box[at] = iou[chosen][order], g[chosen][order]
        return largest, box

    any_iou, _ = best(np.ones(len(d), bool))
    own, own_box = best(alike)
    other, other_box = best(~alike)
    second, _ = best(alike & used[g])
    kind[any_iou > _BACK] = _BOTH
    kind[second >= _FOREGROUND] = _DUPLICATE
    kind[other >= _FOREGROUND] = _CLASSIFICATION
    kind[(own >= _BACK) & (own <= _FOREGROUND)] = _LOCALISATION
    of = np.where(kind == _CLASSIFICATION, other_box, own_box)
    kind[matched] = -1
    of[matched] = own_match[matched]
    candidates = np.flatnonzero(np.isin(kind, (_CLASSIFICATION, _LOCALISATION)) & ~used[of])
    candidates = candidates[np.lexsort((candidates, -found.score[candidates]))]
    _, first = np.unique(of[candidates], return_index=True)
    correctable = np.zeros(number, bool)
    correctable[candidates[first]] = True
    return of, kind, correctable


def _in_crowds(truth: Truth, found: Detections) -> np.ndarray:
    """Whether half of a detection lies in a crowd of its class."""
    crowds = np.flatnonzero(truth.crowd)
    classes = len(truth.names)
    cell = truth.image[crowds] * classes + truth.category[crowds]
    d, g = pairs(found.image * classes + found.category, cell)
    covered = overlap(found.box[d], truth.box[crowds[g]], np.ones(len(g), bool)) > _FOREGROUND
    return np.isin(np.arange(len(found.score)), d[covered])


def _figures(
    truth: Truth, category: np.ndarray, found: Detections, hit: np.ndarray, counted: np.ndarray, boxes: np.ndarray
) -> tuple[float, np.ndarray]:
    """AP50, mean over the classes that have boxes, and each image's influence on it."""
    images = len(truth.image_ids)
    classes = np.unique(truth.category[~truth.crowd])
    ap, influence = 0.0, np.zeros(images)
    for number in classes:
        order = np.flatnonzero((category == number) & counted)
        order = order[np.argsort(-found.score[order], kind="stable")]
        shown = np.bincount(truth.image[boxes[truth.category[boxes] == number]], minlength=images)
        ones = np.ones((1, 1, len(order)), bool)
        of_class = figures(Ranking(found.score[order], found.image[order], hit[None, None, order], ones, shown[None]))
        if shown.any():  # else all boxes of the class are missed
            ap += float(of_class.ap[0, 0]) / len(classes)
            influence += of_class.influence[0] / len(classes)
    return ap, influence
