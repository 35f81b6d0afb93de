"""Precision over recall, and precision over score (calibration), with bands from resamples of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coco1k_kd.verdict.coco import THRESHOLDS, Ranking
from coco1k_kd.verdict.matching import matched
from coco1k_kd.verdict.precision import RECALLS, curve

IOUS = (0.5, 0.75)  # of the precision-recall curves
_RESAMPLES = 100  # of the images, for the bands: their standard deviation is known to 7%
_BINS = np.linspace(0, 1, 11)  # of the scores
_LEAST = 0.05  # score from which a box counts for calibration: below are boxes that nobody uses
_FEW = 20  # boxes; a bin with fewer is not shown


@dataclass(frozen=True)
class Curve:
    """Precision (R,) over recall (R,), mean over classes, between the ends of its 95% interval."""

    recall: np.ndarray
    precision: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """The share of right boxes by their score (bins,), between the ends of its 95% interval."""

    confidence: np.ndarray
    precision: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: float  # expected calibration error


@dataclass(frozen=True)
class RunCurves:
    """One run's precision (IoUs, R, 1 + B), and by bin its boxes, right boxes (bins, 1 + B) and sum of scores."""

    precision: np.ndarray
    boxes: np.ndarray
    hits: np.ndarray
    scores: np.ndarray


def of_run(annotations: Path, predictions: Path) -> RunCurves:
    """Figures of one run under the images as they are, then under resamples that are the same for every run."""
    truth, _, rankings = matched(annotations, predictions)
    images = len(truth.image_ids)
    drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=_RESAMPLES)
    weights = np.concatenate([np.ones((images, 1)), drawn.T], axis=1)
    levels = [int(np.argmin(np.abs(THRESHOLDS - iou))) for iou in IOUS]
    shown = [ranking for ranking in rankings if ranking.boxes[0].any()]
    precision = np.stack(
        [np.nanmean([curve(ranking, level, weights) for ranking in shown], axis=0) for level in levels]
    )
    score, image, hit, counted = (np.concatenate(parts) for parts in zip(*map(_at_50, rankings), strict=True))
    bins = np.clip(np.digitize(score, _BINS) - 1, 0, len(_BINS) - 2)
    used = counted & (score >= _LEAST)
    boxes, hits = (
        np.stack([weights[image[part & (bins == b)]].sum(axis=0) for b in range(len(_BINS) - 1)])
        for part in (used, used & hit)
    )
    scores = np.bincount(bins[used], score[used], minlength=len(_BINS) - 1)
    return RunCurves(precision, boxes, hits, scores)


def _at_50(ranking: Ranking) -> tuple[np.ndarray, ...]:
    """Scores, images, hits and what counts at IoU 0.5."""
    return ranking.score, ranking.image, ranking.hit[0, 0], ranking.counted[0, 0]


def best_threshold(rankings: Sequence[Ranking]) -> float:
    """The score from which up F1 of all classes together at IoU 0.5 is highest; 0 without a right box."""
    score, _, hit, counted = (np.concatenate(parts) for parts in zip(*map(_at_50, rankings), strict=True))
    boxes = sum(int(ranking.boxes[0].sum()) for ranking in rankings)
    order = np.argsort(-score, kind="stable")
    hits, found = np.cumsum(hit[order]), np.cumsum(counted[order])
    f1 = 2 * hits / np.maximum(found + boxes, 1)
    return float(score[order][np.argmax(f1)]) if len(f1) and f1.max() > 0 else 0.0


def precision_recall(runs: Sequence[RunCurves], iou: int) -> Curve:
    """Mean over runs; the band is of the images."""
    mean = np.mean([run.precision[iou] for run in runs], axis=0)
    return Curve(RECALLS, mean[:, 0], *_band(mean))


def calibration(runs: Sequence[RunCurves]) -> Calibration | None:
    """All runs' boxes together; None where no bin has enough."""
    boxes, hits, scores = (np.sum([getattr(run, name) for run in runs], axis=0) for name in ("boxes", "hits", "scores"))
    enough = boxes[:, 0] >= _FEW * len(runs)
    if not enough.any():
        return None
    share = np.divide(hits, boxes, out=np.zeros_like(hits), where=boxes > 0)
    confidence = scores / np.maximum(boxes[:, 0], 1)
    error = float(np.abs(share[:, 0] - confidence) @ boxes[:, 0] / boxes[:, 0].sum())
    return Calibration(confidence[enough], share[enough, 0], *_band(share[enough]), error)


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of the first column by the spread of the others."""
    reach = 1.96 * values[:, 1:].std(axis=1)
    return np.clip(values[:, 0] - reach, 0, 1), np.clip(values[:, 0] + reach, 0, 1)
