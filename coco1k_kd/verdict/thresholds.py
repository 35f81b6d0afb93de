"""From which score on a teacher's boxes are labels: class by class, from labelled images.

The best F1 of a class alone is noise where it has few boxes. Each class is therefore taken together with so many boxes
more that behave as those of all classes do; measured in docs/lab/label-thresholds.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coco1k_kd.verdict.coco import Ranking

MORE = 80  # boxes like those of all classes together
SCORES = np.arange(1, 100) / 100  # thresholds to choose from


def best_thresholds(by_class: Sequence[Ranking], default: float) -> np.ndarray:
    """(C,) the score of best F1 at IoU 0.5 of each class with `MORE` boxes like those of all; of equals the highest.

    Args:
        by_class: matches of the detections with the labelled boxes of C classes (`coco.rankings`).
        default: for all classes, if no detection of any class is right.
    """
    right, found = (np.array([counts[i] for counts in map(_counted, by_class)], float) for i in range(2))
    boxes = np.array([ranking.boxes[0].sum() for ranking in by_class], float)
    if not right.any():
        return np.full(len(boxes), default)
    f1 = shrunk_f1(right, found, boxes, MORE)
    return SCORES[::-1][f1[:, ::-1].argmax(axis=1)]


def shrunk_f1(right: np.ndarray, found: np.ndarray, boxes: np.ndarray, more: float) -> np.ndarray:
    """(C, S) F1 by class and threshold, with `more` boxes of the average kind added to each class.

    Args:
        right, found: (C, S) detections from each threshold on that are right, and all of them.
        boxes: (C,) labelled boxes, some at least.
    """
    share = more / boxes.sum()
    right, found = right + share * right.sum(axis=0), found + share * found.sum(axis=0)
    return 2 * right / (found + boxes[:, None] + more)


def _counted(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    """How many detections of a class are right, and how many there are, from each of SCORES on."""
    counted, hit = ranking.counted[0, 0], ranking.hit[0, 0]
    of_all = np.sort(ranking.score[counted]), np.sort(ranking.score[counted & hit])
    found, right = (len(scores) - np.searchsorted(scores, SCORES) for scores in of_all)
    return right, found
