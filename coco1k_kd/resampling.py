"""COCO average precision under image weights, for thousands of resamples at once.

A resample of the images is a vector of whole-number weights: how often each image was drawn. COCOeval's matches do not
change with it, so they are computed once and only counted again. Only the hits matter to the precision envelope;
the false alarms between two of them are one number. Throughout: I images, D detections, T IoU thresholds, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

_RECALLS = 100  # COCO reads the precision at the recalls 0/100, 1/100, ..., 100/100
_BLOCK = 2**18  # numbers worked on at a time: few enough for the processor's cache, enough for numpy


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


def pool(first: Ranking, second: Ranking) -> Ranking:
    """Both models' detections as of 2 I images, first the first model's: weights then choose whose to take."""
    return rank(
        np.concatenate([first.score, second.score]),
        np.concatenate([first.image, second.image + len(first.boxes)]),
        np.concatenate([first.hit, second.hit], axis=1),
        np.concatenate([first.counted, second.counted], axis=1),
        np.concatenate([first.boxes, second.boxes]),
    )


def average_precision(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """AP per IoU threshold of every resample, as COCOeval gives it when an image of weight w is there w times.

    `weights` is (I, B), whole numbers as float64. Returns (T, B), fractions; NaN where a resample has no box of the
    class, which COCOeval leaves out of its means.
    """
    boxes = ranking.boxes @ weights
    ap = np.zeros((len(ranking.hit), weights.shape[1]))
    for group in _groups(ranking):
        step = max(_BLOCK // len(group.positions), 64)
        for start in range(0, weights.shape[1], step):
            block = slice(start, start + step)
            _add_precision(group, ranking, weights[:, block], boxes[block], ap[:, block])
    ap[:, boxes == 0] = np.nan
    return ap


def bootstrap_weights(images: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (I, B) of resamples with replacement, each of as many images as there are."""
    return rng.multinomial(images, np.full(images, 1 / images), size=replicates).T.astype(float)


def swap_weights(images: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (2 I, B) for `pool`: for each image, a coin decides which of the two models' detections are taken."""
    first = rng.integers(0, 2, size=(images, replicates)).astype(float)
    return np.concatenate([first, 1 - first])


@dataclass(frozen=True)
class _Group:
    """IoU thresholds at which the same detections count, so that the false alarms between hits are added up once."""

    thresholds: list[int]
    positions: np.ndarray  # (P,) ranks at which any of these thresholds has a hit
    between: csr_matrix  # (P, I) counted detections of each image, after the previous position and up to this one


def _groups(ranking: Ranking) -> Iterator[_Group]:
    same: dict[bytes, list[int]] = {}
    for threshold, counted in enumerate(ranking.counted):
        same.setdefault(counted.tobytes(), []).append(threshold)
    for thresholds in same.values():
        positions = np.flatnonzero(ranking.hit[thresholds].any(axis=0))
        if not len(positions):
            continue
        counted = np.flatnonzero(
            ranking.counted[thresholds[0], : positions[-1] + 1]
        )  # what follows the last hit is idle
        row = np.searchsorted(positions, counted)
        shape = (len(positions), len(ranking.boxes))
        between = csr_matrix((np.ones(len(counted)), (row, ranking.image[counted])), shape=shape)
        yield _Group(thresholds, positions, between)


def _add_precision(group: _Group, ranking: Ranking, weights: np.ndarray, boxes: np.ndarray, ap: np.ndarray) -> None:
    found = _running(group.between @ weights)
    hit_weights = weights[ranking.image[group.positions]]
    for threshold in group.thresholds:
        rows = np.flatnonzero(ranking.hit[threshold, group.positions])
        if not len(rows):
            continue
        hits = _running(hit_weights[rows])
        precision = hits / (found[rows] + np.spacing(1))
        for row in range(len(rows) - 2, -1, -1):  # np.maximum.accumulate along this axis takes three times as long
            np.maximum(precision[row], precision[row + 1], out=precision[row])
        reached = _recalls_reached(hits, boxes)
        reached[1:] -= reached[:-1].copy()
        ap[threshold] = np.einsum("pb,pb->b", precision, reached) / (_RECALLS + 1)


def _running(rows: np.ndarray) -> np.ndarray:
    """Cumulative sum down the rows, in place: np.cumsum along this axis takes three times as long."""
    for row in range(1, len(rows)):
        np.add(rows[row - 1], rows[row], out=rows[row])
    return rows


def _recalls_reached(hits: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How many of COCO's 101 recall thresholds hits / boxes reaches, to the last bit: searchsorted, only faster."""
    recall = hits / np.maximum(boxes, 1)
    nearest = np.rint(recall * _RECALLS)
    return nearest + (nearest * (1 / _RECALLS) <= recall)


def mean_over_classes(values: Iterable[np.ndarray]) -> np.ndarray:
    """Mean over the classes that have boxes (not NaN), NaN where none has."""
    stacked = np.stack(list(values))
    present = ~np.isnan(stacked)
    count = present.sum(axis=0)
    return np.where(count > 0, np.where(present, stacked, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
