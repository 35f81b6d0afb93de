"""Average precision as COCOeval gives it, and how much of it each image has.

An image's influence is the derivative of AP by the image's weight: by how much AP would rise if the image were there a
little more often. The sum of its squares is the variance of AP over samples of images (the infinitesimal jackknife:
L. A. Jaeckel 1972; B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6), which thousands
of resamples would only estimate. AP is differentiated as the area under its precision envelope; COCO's 101 recall
thresholds are steps, which have no derivative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from coco1k_kd.verdict.coco import Ranking

RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassFigures:
    """AP of one class by box size and IoU threshold (A, T), NaN without boxes; influences (A, I), and on AP50 (I,)."""

    ap: np.ndarray
    influence: np.ndarray
    influence50: np.ndarray


def figures(ranking: Ranking) -> ClassFigures:
    """AP and influences of one class."""
    sizes, thresholds, _ = ranking.hit.shape
    images = ranking.boxes.shape[1]
    ap = np.full((sizes, thresholds), np.nan)
    influence, influence50 = np.zeros((sizes, images)), np.zeros(images)
    for a in range(sizes):
        boxes = int(ranking.boxes[a].sum())
        if not boxes:
            continue
        needed = np.searchsorted(np.arange(boxes + 1) / boxes, RECALLS)  # hits that reach each recall
        share, of_detections = 0.0, np.zeros(len(ranking.score))
        for t in range(thresholds):
            ap[a, t], area, each = _of_threshold(ranking.hit[a, t], ranking.counted[a, t], boxes, needed)
            of_detections += each / thresholds
            share += area / thresholds
            if (a, t) == (0, 0):
                influence50 = _by_image(ranking, each) - area * ranking.boxes[a] / boxes
        influence[a] = _by_image(ranking, of_detections) - share * ranking.boxes[a] / boxes
    return ClassFigures(ap, influence, influence50)


def _of_threshold(
    hit: np.ndarray, counted: np.ndarray, boxes: int, needed: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """AP at 101 recalls, the area under the envelope, and each detection's (D,) part in the area's derivative."""
    hits = np.flatnonzero(hit)
    if not len(hits):
        return 0.0, 0.0, np.zeros(len(hit))
    number = np.cumsum(counted)[hits]
    precision = np.arange(1, len(hits) + 1) / number
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at_recall = np.append(envelope, 0.0)[np.minimum(np.maximum(needed, 1), len(hits) + 1) - 1]
    peak = np.where(precision >= envelope, np.arange(len(hits)), len(hits))
    peak = np.minimum.accumulate(peak[::-1])[::-1]  # where each hit's envelope is reached
    gain = np.bincount(peak, minlength=len(hits)) / number / boxes
    rises, falls = (np.append(np.cumsum(x[::-1])[::-1], 0.0) for x in (gain, gain * precision))
    following = np.cumsum(hit) - hit  # first hit at or after each detection
    part = np.where(counted, -falls[following], 0.0)
    part[hits] += rises[:-1] + envelope / boxes
    return float(at_recall.mean()), float(envelope.sum()) / boxes, part


def curve(ranking: Ranking, threshold: int, weights: np.ndarray, size: int = 0) -> np.ndarray:
    """Precision at COCO's 101 recalls, when an image of weight w is there w times: (101, B) for `weights` (I, B).

    NaN where a resample has no box of the class.
    """
    hit, counted = ranking.hit[size, threshold], ranking.counted[size, threshold]
    hits = np.flatnonzero(hit)  # the envelope has its corners there, and hits are few among the detections
    following = np.cumsum(hit) - hit  # first hit at or after each detection
    images = ranking.boxes.shape[1]
    between = csr_array((counted.astype(float), (following, ranking.image)), shape=(len(hits) + 1, images))
    boxes = ranking.boxes[size] @ weights
    found = np.cumsum(weights[ranking.image[hits]], axis=0)
    number = np.cumsum((between @ weights)[:-1], axis=0)
    precision = np.divide(found, number, out=np.zeros_like(found), where=number > 0)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    result = np.full((len(RECALLS), weights.shape[1]), np.nan)
    for column in np.flatnonzero(boxes):
        reached = np.searchsorted(found[:, column] / boxes[column], RECALLS)
        result[:, column] = np.append(envelope[:, column], 0.0)[reached]
    return result


def _by_image(ranking: Ranking, of_detections: np.ndarray) -> np.ndarray:
    return np.bincount(ranking.image, of_detections, minlength=ranking.boxes.shape[1])
