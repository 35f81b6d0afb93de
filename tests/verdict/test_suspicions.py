"""Which labels a teacher doubts, on made-up boxes."""

from __future__ import annotations

import numpy as np

from coco1k_kd.verdict.coco import Detections, Truth
from coco1k_kd.verdict.suspicions import Suspicion, suspicions

CAT, DOG, EGG = range(3)
LIMITS, KNOWN = np.full(3, 0.4), np.ones(3, bool)


def told(labels: list, found: list, known: np.ndarray = KNOWN, crowds: tuple[int, ...] = ()) -> list[Suspicion]:
    """Labels (image, class, box), findings (image, class, box, score)."""
    box = np.array([row[2] for row in labels], float).reshape(-1, 4)
    number = 1 + max(row[0] for row in [*labels, *found])
    truth = Truth(
        np.arange(number),
        [f"{n}.jpg" for n in range(number)],
        np.arange(3),
        ["cat", "dog", "egg"],
        np.array([row[0] for row in labels], int),
        np.array([row[1] for row in labels], int),
        box,
        box[:, 2] * box[:, 3],
        np.isin(np.arange(len(labels)), crowds),
    )
    detections = Detections(
        np.array([row[0] for row in found], int),
        np.array([row[1] for row in found], int),
        np.array([row[2] for row in found], float).reshape(-1, 4),
        np.array([row[3] for row in found], float),
    )
    return suspicions(truth, detections, LIMITS, known)


HERE, NEAR, FAR = [10, 10, 100, 100], [15, 12, 100, 100], [300, 300, 100, 100]


def kinds(found: list[Suspicion]) -> list[tuple]:
    return [(one.kind, one.image, one.label, one.found, round(one.doubt, 3)) for one in found]


def test_what_no_label_overlaps_is_missing() -> None:
    assert kinds(told([(0, CAT, HERE)], [(0, CAT, NEAR, 0.9), (0, DOG, FAR, 0.8), (0, CAT, FAR, 0.45)])) == [
        ("missing", 0, -1, DOG, 0.8)
    ]
    assert told([(1, CAT, HERE)], [(0, DOG, FAR, 0.3)]) == []  # below the threshold
    assert told([(0, DOG, [0, 0, 500, 500])], [(0, DOG, FAR, 0.9)], crowds=(0,)) == []  # within a crowd


def test_another_class_in_the_same_place() -> None:
    found = told([(0, CAT, HERE)], [(0, DOG, NEAR, 0.7), (0, EGG, HERE, 0.6)])
    assert kinds(found) == [("other_class", 0, CAT, DOG, 0.7)] and found[0].box.tolist() == HERE
    assert told([(0, CAT, HERE)], [(0, DOG, NEAR, 0.7), (0, CAT, NEAR, 0.1)]) == []  # its own class is seen, too
    assert told([(0, CAT, HERE)], [(0, DOG, NEAR, 0.7)], np.array([False, True, True])) == []


def test_a_label_that_is_not_found_where_all_others_are() -> None:
    labels = [(image, CAT, HERE) for image in range(50)]
    seen = [(image, CAT, NEAR, 0.6) for image in range(50)]
    assert kinds(told(labels, [one for one in seen if one[0] != 7])) == [("unseen", 7, CAT, -1, 0.725)]
    assert told(labels, seen[:30]) == []  # of a teacher that misses many it says nothing
    assert told(labels[:5], seen[:4]) == []  # nor do few
    assert told(labels, seen[1:], np.array([False, True, True])) == []


def test_the_likeliest_comes_first_and_nothing_is_told_of_nothing() -> None:
    found = told([], [(0, DOG, FAR, 0.6), (1, CAT, HERE, 0.9), (1, EGG, FAR, 0.7)])
    assert [one.doubt for one in found] == [0.9, 0.7, 0.6]
    assert told([(0, CAT, HERE)], []) == []
