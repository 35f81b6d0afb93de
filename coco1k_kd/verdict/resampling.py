"""COCO average precision under image weights, for thousands of resamples at once.

A resample of the images is a vector of whole-number weights: how often each image was drawn. COCOeval's matches do not
change with it, so they are computed once and only counted again. Only the hits matter to the precision envelope;
the false alarms between two of them are one number. Throughout: I images, D detections, T IoU thresholds, P ranks at
which some threshold has a hit, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

_RECALLS = 100  # COCO reads the precision at the recalls 0/100, 1/100, ..., 100/100
_BLOCK = 2**22  # P x B worked on at a time: 32 MB
_LEAST = 256  # resamples worked on at a time: fewer, and calling numpy takes longer than what it does


@dataclass(frozen=True)
class Ranking:
    """What one model found of one class in one range of box sizes, best score first."""

    score: np.ndarray  # (D,)
    image: np.ndarray  # (D,) position of the detection's image among the I images
    hit: np.ndarray  # (T, D) bool: matches a box that counts
    counted: np.ndarray  # (T, D) bool: hit or false alarm; the rest is ignored (crowd, other size)
    boxes: np.ndarray  # (I,) ground-truth boxes that count


def rank(score: np.ndarray, image: np.ndarray, hit: np.ndarray, counted: np.ndarray, boxes: np.ndarray) -> Ranking:
    """Order detections as COCOeval does: by score, and where scores are equal as they come."""
    order = np.argsort(-score, kind="stable")
    return Ranking(score[order], image[order], hit[:, order], counted[:, order], boxes)


def average_precision(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """AP per IoU threshold of every resample, as COCOeval gives it when an image of weight w is there w times.

    `weights` is (I, B), whole numbers as floats. Returns (T, B), fractions; NaN where a resample has no box of the
    class, which COCOeval leaves out of its means.
    """
    ap = np.zeros((len(ranking.hit), weights.shape[1]), weights.dtype)
    positions = np.flatnonzero(ranking.hit.any(axis=0))
    step = max(_BLOCK // max(len(positions), 1), _LEAST)
    for start in range(0, weights.shape[1], step):
        block = np.ascontiguousarray(weights[:, start : start + step])
        boxes = ranking.boxes.astype(weights.dtype) @ block
        if len(positions):
            _add_precision(ranking, positions, block, boxes, ap[:, start : start + step])
        ap[:, start : start + step][:, boxes == 0] = np.nan
    return ap


def bootstrap_weights(images: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (I, B) of resamples with replacement, each of as many images as there are."""
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=replicates)
    return np.ascontiguousarray(drawn.T, dtype=float)


def _add_precision(
    ranking: Ranking, positions: np.ndarray, weights: np.ndarray, boxes: np.ndarray, ap: np.ndarray
) -> None:
    """Fill `ap` (T, B) for a class that has hits at `positions` (P,)."""
    counted = ranking.counted.any(axis=0)
    found = _found(ranking, positions, counted, weights)
    of_hit = weights[ranking.image[positions]]
    all_hits = ranking.hit[:, positions].astype(weights.dtype) @ of_hit
    recalls, offset = _recalls_reached(boxes, int(all_hits.max()), weights.dtype)
    whole = of_hit.astype(np.int32)
    for hit, counts, hits, out in zip(ranking.hit, ranking.counted, all_hits, ap, strict=True):
        if not hit.any():
            continue
        ignored = counted & ~counts
        ranks = np.flatnonzero((hit | ignored)[: np.flatnonzero(hit)[-1] + 1])[::-1]
        left_out = weights[ranking.image[ranks[ignored[ranks]]]]  # last rank first
        rows = np.where(hit[ranks], np.searchsorted(positions, ranks), -1).tolist()
        _walk(rows, hits, found, of_hit, whole, left_out, recalls, offset, out)


def _walk(
    rows: list[int],
    hits: np.ndarray,
    found: np.ndarray,
    of_hit: np.ndarray,
    whole: np.ndarray,
    left_out: np.ndarray,
    recalls: np.ndarray,
    offset: np.ndarray,
    ap: np.ndarray,
) -> None:
    """AP (B,) of one threshold, from its last hit to its first, so that the envelope is a running maximum.

    `rows` are the hits' rows among the positions, -1 for a detection that is counted at other thresholds, but not here.
    One resample is one element of a vector: numpy works on thousands of them at once, in the processor's cache.
    """
    hits, number = hits.copy(), (offset + hits).astype(np.int32)
    too_many, later = left_out.sum(axis=0), iter(left_out)
    envelope, precision, fewer = np.zeros_like(hits), np.empty_like(hits), np.empty_like(hits)
    reached = recalls[number]
    for row in rows:
        if row < 0:
            too_many -= next(later)
            continue
        np.subtract(found[row], too_many, out=precision)
        np.maximum(precision, 1, out=precision)  # nothing found, no hits: 0 / 1
        np.divide(hits, precision, out=precision)
        np.maximum(envelope, precision, out=envelope)
        np.subtract(hits, of_hit[row], out=hits)
        np.subtract(number, whole[row], out=number)
        np.take(recalls, number, out=fewer, mode="clip")
        np.subtract(reached, fewer, out=reached)
        np.multiply(reached, envelope, out=reached)
        np.add(ap, reached, out=ap)
        reached, fewer = fewer, reached
    ap += reached * envelope  # recall 0 is reached without a hit
    ap /= _RECALLS + 1


def _found(ranking: Ranking, positions: np.ndarray, counted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Detections that count at any threshold, up to each position: (P, B)."""
    ranks = np.flatnonzero(counted[: positions[-1] + 1])
    cells = np.searchsorted(positions, ranks), ranking.image[ranks]
    shape = (len(positions), len(ranking.boxes))
    found = csr_matrix((np.ones(len(ranks), weights.dtype), cells), shape=shape) @ weights
    for row in range(1, len(found)):  # np.cumsum along this axis takes three times as long
        np.add(found[row - 1], found[row], out=found[row])
    return found


def _recalls_reached(boxes: np.ndarray, most: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """How many of COCO's 101 recall thresholds so many hits reach, to the last bit of COCOeval's searchsorted.

    Returns a flat table, and where in it each resample's 0 hits are; there are entries for up to `most` hits.
    """
    numbers, which = np.unique(boxes, return_inverse=True)
    table = np.empty((len(numbers), most + 1), dtype)
    hits = np.arange(most + 1.0)
    for row, number in zip(table, numbers, strict=True):
        recall = hits / max(number, 1)
        nearest = np.rint(recall * _RECALLS)
        row[:] = nearest + (nearest * (1 / _RECALLS) <= recall)
    return table.ravel(), which * (most + 1)


def mean_over_classes(values: Iterable[np.ndarray]) -> np.ndarray:
    """Mean over the classes that have boxes (not NaN), NaN where none has."""
    stacked = np.stack(list(values))
    present = ~np.isnan(stacked)
    count = present.sum(axis=0)
    return np.where(count > 0, np.where(present, stacked, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
