"""From which score on a teacher's boxes are labels: class by class, that of the best F1 on labelled images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coco1k_kd.verdict.coco import Ranking

FEW = 10  # boxes: a class with fewer takes the threshold of all classes together


def best_thresholds(by_class: Sequence[Ranking], default: float) -> np.ndarray:
    """(C,) the score of best F1 at IoU 0.5 of each class; `default` where nothing was right.

    Args:
        by_class: matches of the detections with the labelled boxes of C classes (`coco.rankings`).
        default: for all classes, if no detection of any class is right.
    """
    parts = [_counted(ranking) for ranking in by_class]
    number = [int(ranking.boxes[0].sum()) for ranking in by_class]
    scores, hits = (np.concatenate([part[i] for part in parts]) for i in range(2))
    of_all = _best(scores, hits, sum(number), default)
    return np.array(
        [_best(*part, boxes, of_all) if boxes >= FEW else of_all for part, boxes in zip(parts, number, strict=True)]
    )


def _counted(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    counted = ranking.counted[0, 0]
    return ranking.score[counted], ranking.hit[0, 0][counted]


def _best(scores: np.ndarray, hits: np.ndarray, boxes: int, default: float) -> float:
    """The score from which on detections have the best F1; of equals the highest. Equal scores stay together."""
    if not hits.any():
        return default
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], np.cumsum(hits[order])
    f1 = 2 * right / (np.arange(1, len(scores) + 1) + boxes)
    last = np.append(scores[1:] < scores[:-1], True)
    return float(scores[last][np.argmax(f1[last])])
