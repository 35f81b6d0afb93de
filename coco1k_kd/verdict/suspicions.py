"""Labels that are likely missing or wrong, by what a teacher finds in the same images.

The doubt of each is a guess from 0 to 1. `missing`: a teacher's box that no label overlaps; its doubt is the teacher's
score. `other_class`: a label in whose place the teacher sees another class, and its own nowhere near; likewise.
`unseen`: a label that the teacher does not find with any score; its doubt follows from the share of the labels of that
class and size that the teacher does find, since of a teacher that misses many such objects one more miss says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from coco1k_kd.data.annotations import MEDIUM, SMALL
from coco1k_kd.verdict.coco import Detections, Truth, overlap, pairs

_NEAR = 0.3  # IoU from which on a label and a box of one class are of one object
_SAME_PLACE = 0.7  # of two classes
_SEEN_OFTEN = 10  # labels of a class and size that say how often such are found
_WRONG = 0.05  # of all labels, before the teacher is asked; with it, planted faults are as frequent as their doubt says


@dataclass(frozen=True)
class Suspicion:
    """One label to look at: in which image (its position in the truth), where, and what it may be instead.

    `label`: the annotated class, by position; `found`: the teacher's; -1 where there is none. `box` (4,): left, top,
    width, height in pixels.
    """

    kind: Literal["missing", "other_class", "unseen"]
    image: int
    label: int
    found: int
    box: np.ndarray
    doubt: float


def suspicions(
    truth: Truth, found: Detections, thresholds: np.ndarray, known: np.ndarray, least: float = 0.5
) -> list[Suspicion]:
    """What to look at, the likeliest first.

    Args:
        truth: labels.
        found: what the teacher finds, from low scores on.
        thresholds: (C,) of each class the score from which on a box counts as an object.
        known: (C,) bool, the classes that the teacher knows; it has no say on labels of others.
        least: doubt of what is told.
    """
    d, g = pairs(found.image, truth.image)
    iou = overlap(found.box[d], truth.box[g], truth.crowd[g])
    same = found.category[d] == truth.category[g]
    near = iou >= np.where(same, _NEAR, _SAME_PLACE)
    sure = found.score >= np.maximum(thresholds[found.category], least)
    covered = np.isin(np.arange(len(found.score)), d[near])
    told = [
        Suspicion("missing", int(found.image[i]), -1, int(found.category[i]), found.box[i], float(found.score[i]))
        for i in np.flatnonzero(sure & ~covered)
    ]
    seen = np.isin(np.arange(len(truth.image)), g[near & same])
    asked = ~seen & ~truth.crowd & known[truth.category]
    best: dict[int, int] = {}
    for i, label in zip(d[near & ~same & sure[d]], g[near & ~same & sure[d]], strict=True):
        if asked[label] and found.score[i] > found.score[best.get(label, i)] - 1e-12:
            best[int(label)] = int(i)
    for label, i in best.items():
        classes = int(truth.category[label]), int(found.category[i])
        told.append(
            Suspicion("other_class", int(truth.image[label]), *classes, truth.box[label], float(found.score[i]))
        )
    doubt = _WRONG / (_WRONG + (1 - _WRONG) * (1 - _seen_share(truth, seen)))  # Bayes; a wrong label is never seen
    for label in np.flatnonzero(asked & (doubt >= least)):
        if int(label) not in best:
            classes = int(truth.category[label]), -1
            told.append(Suspicion("unseen", int(truth.image[label]), *classes, truth.box[label], float(doubt[label])))
    return sorted(told, key=lambda one: -one.doubt)


def _seen_share(truth: Truth, seen: np.ndarray) -> np.ndarray:
    """(G,) of the other labels of a label's class and size, the share that is seen; 0 where there are few."""
    kind = truth.category * 3 + np.digitize(truth.area, (SMALL, MEDIUM))
    plain = ~truth.crowd
    number, hits = (np.bincount(kind[of], minlength=3 * len(truth.names)) for of in (plain, plain & seen))
    return np.where(number >= _SEEN_OFTEN, hits / np.maximum(number, 1), 0)[kind]
