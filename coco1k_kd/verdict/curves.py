"""Precision against recall, and precision against confidence: figures for the report's plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from coco1k_kd.data.groups import groups_of
from coco1k_kd.verdict.coco import THRESHOLDS
from coco1k_kd.verdict.matching import matched
from coco1k_kd.verdict.precision import RECALLS, curve

_BINS = 10  # of confidence


class PrecisionRecall(msgspec.Struct, frozen=True):
    """Precision at COCO's 101 recalls, mean over classes and runs, with the bootstrap's 95% band."""

    recall: list[float]
    precision: list[float]
    low: list[float]
    high: list[float]


class Calibration(msgspec.Struct, frozen=True):
    """Mean confidence and precision of detections by bins of confidence; bins without detections are left out.

    `error` is the expected calibration error: the mean of |precision - confidence|, weighted with the detections
    (C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017; for detections F. Kueppers et al., CVPRW 2020).
    """

    confidence: list[float]
    precision: list[float]
    detections: list[int]
    error: float


def precision_recall(
    annotations: Path,
    predictions: Sequence[Path],
    iou: float = 0.5,
    resamples: int = 200,
    seed: int = 0,
    pattern: str | None = None,
) -> PrecisionRecall:
    """The curve of an arm whose runs saved these predictions.

    The band is the percentile bootstrap's over images and runs. Of few runs it sees less than their spread: it is for
    the eye, the verdict does not come from it. With a `pattern` (--groups) whole groups of images are drawn.
    """
    rng = np.random.default_rng(seed)
    at, by_run = _threshold(iou), []
    weights: np.ndarray | None = None
    for path in predictions:
        truth, _, rankings = matched(annotations, path)
        if weights is None:
            images = len(truth.image_ids)
            group = groups_of(pattern, truth.files).number if pattern else np.arange(images)
            number = int(group.max()) + 1
            drawn = rng.multinomial(number, np.full(number, 1 / number), size=resamples).T[group]
            weights = np.concatenate([np.ones((images, 1)), drawn], axis=1)
        total, classes = np.zeros((len(RECALLS), weights.shape[1])), np.zeros(weights.shape[1])
        for ranking in rankings:
            if ranking.boxes[0].any():
                of_class = curve(ranking, at, weights)
                total += np.nan_to_num(of_class)
                classes += ~np.isnan(of_class[0])
        by_run.append(total / np.maximum(classes, 1))
    curves = np.stack(by_run)
    chosen = rng.integers(0, len(curves), (len(curves), resamples))
    resampled = curves[chosen, :, 1 + np.arange(resamples)].mean(axis=0)  # (B, 101)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    mean = curves[..., 0].mean(axis=0)
    return PrecisionRecall(*(x.tolist() for x in (RECALLS, mean, np.minimum(low, mean), np.maximum(high, mean))))


def calibration(annotations: Path, predictions: Sequence[Path]) -> Calibration:
    """Confidence against precision at IoU 0.5 of all detections of an arm's runs; crowds and the like do not count."""
    at, scores, hits = _threshold(0.5), [], []
    for path in predictions:
        for ranking in matched(annotations, path)[2]:
            counted = ranking.counted[0, at]
            scores.append(ranking.score[counted])
            hits.append(ranking.hit[0, at][counted])
    score, hit = np.concatenate(scores), np.concatenate(hits)
    place = np.clip((score * _BINS).astype(int), 0, _BINS - 1)
    number, total, right = (np.bincount(place, w, _BINS) for w in (None, score, hit.astype(float)))
    seen = number > 0
    confidence, precision = total[seen] / number[seen], right[seen] / number[seen]
    error = float(np.abs(total - right).sum() / max(len(score), 1))
    return Calibration(confidence.tolist(), precision.tolist(), number[seen].astype(int).tolist(), error)


def _threshold(iou: float) -> int:
    (found,) = np.flatnonzero(np.isclose(THRESHOLDS, iou))
    return int(found)
