"""The score from which on a box is taken."""

from __future__ import annotations

import numpy as np

from coco1k_kd.verdict.coco import Ranking
from coco1k_kd.verdict.thresholds import best_thresholds


def test_the_threshold_is_that_of_the_best_f1() -> None:
    def ranking(score: list[float], hit: list[bool], boxes: int) -> Ranking:
        ones, hits = np.ones((1, 1, len(hit)), bool), np.array(hit)[None, None]
        return Ranking(np.array(score), np.zeros(len(hit), int), hits, ones, np.array([[boxes]]))

    many = ranking([0.9, 0.8, 0.7, 0.4, 0.3], [True, True, True, False, False], 10)
    few = ranking([0.6], [False], 2)
    assert best_thresholds([many, few], 0.3).tolist() == [0.7, 0.7]
    assert best_thresholds([few], 0.3).tolist() == [0.3]
