"""Draws that are put right by swaps."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from long_tail import make_pool

from coco1k_kd.data.repair import NONE, Features, Goals, repair
from coco1k_kd.data.sampling import (
    draw,
)


def test_a_draw_from_a_scarce_pool_is_the_same_everywhere():
    """No even draw exists, so that repair is stuck 1,200 times; the digest is of the code before it was made faster."""
    pool = make_pool(300, 16)
    ids = [draw(pool, 150, 0, balance, 5) for balance in ("context", "strict")]
    assert hashlib.sha256(np.concatenate(ids).astype("<i8").tobytes()).hexdigest()[:16] == "cf5da2c5cb2b6ae6"


def random_goals(seed: int, images: int, classes: int, bins: int) -> Goals:
    """Classes that images may show, and a histogram of which each image is in one bin; bounds that a draw meets."""
    rng = np.random.default_rng(seed)
    bin_of = rng.integers(0, bins, images)
    features = np.concatenate((rng.random((classes, images)) < 0.4, bin_of == np.arange(bins)[:, None]))
    drawn = np.zeros(images, bool)
    drawn[rng.permutation(images)[: images // 3]] = True
    reached = features[:, drawn].sum(axis=1)
    return Goals(features, reached, np.maximum(reached - 1, 0), reached + 1, np.ones(len(reached), np.int64), classes)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.integers(1, 5), bins=st.integers(1, 4))
def test_sums_over_features_are_the_plain_ones(seed: int, classes: int, bins: int) -> None:
    goals = random_goals(seed, 40, classes, bins)
    numbers = np.random.default_rng(seed).integers(-9, 9, classes + bins).astype(float)
    sums = Features(goals).of_bins(numbers)
    assert (sums == numbers[classes:] @ goals.features[classes:]).all()
    Features(goals).add_classes(sums, numbers)
    assert (sums == numbers @ goals.features).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.integers(1, 5), bins=st.integers(1, 4))
def test_swaps_keep_the_size_and_never_make_it_worse(seed: int, classes: int, bins: int) -> None:
    goals, drawn = random_goals(seed, 60, classes, bins), np.zeros(60, bool)
    drawn[:20] = True
    before = goals.violations(goals.features[:, drawn].sum(axis=1))
    best, fewest = repair(goals, drawn)
    assert best.sum() == 20 == drawn.sum() and drawn[:20].all(), "the draw that was given is left alone"
    assert fewest == goals.violations(goals.features[:, best].sum(axis=1)) <= before


def test_bounds_are_told_apart_and_the_classes_are_set_to_a_level() -> None:
    features = np.ones((3, 4), bool)
    goals = Goals(features, *(np.array(row) for row in ([2, 2, 2], [2, 1, 1], [3, 4, 2], [1, 1, 1])), classes=2)
    assert goals.violations(np.array([0, 5, 4])) == (2, 2, 1), "classes short, context off, classes in surplus"
    assert goals.violations(np.array([2, 4, 2])) == NONE
    for equal, high in ((True, [3, 1, 2]), (False, [9, 1, 2])):
        level = goals.at(3, np.array([9, 1]), equal)
        assert (level.low.tolist(), level.high.tolist(), level.target.tolist()) == ([3, 1, 1], high, [3, 1, 2])
    assert goals.of(np.array([True, False, True, False])).features.shape == (3, 2)
