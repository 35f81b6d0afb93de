"""The draw: exact, even, near its source, the same everywhere, and as good as a linear program can prove."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from long_tail import make_pool

from coco1k_kd.data.sampling import (
    TOLERANCE,
    UNIT,
    Pool,
    draw,
    drift,
    goals,
    level_of,
    levels,
    priorities,
    rake,
    systematic,
)
from coco1k_kd.errors import UserError


def counted(pool: Pool, ids: np.ndarray) -> np.ndarray:
    return pool.presence[np.isin(pool.ids, ids)].sum(axis=0)


def histogram(presence: np.ndarray) -> np.ndarray:
    return np.bincount(presence.sum(axis=1), minlength=presence.shape[1] + 1) / len(presence)


@pytest.mark.parametrize("seed", range(3))
def test_context_is_even_and_near_the_source(seed: int):
    pool = make_pool(6000, 24)
    ids = draw(pool, 400, seed, "context", TOLERANCE["train"])
    chosen = np.isin(pool.ids, ids)
    assert len(set(ids.tolist())) == chosen.sum() == 400
    counts = counted(pool, ids)[1:]
    assert counts.min() == counts.max()  # every class but person
    assert counts[0] > 1.5 * 400 * pool.supply[-1] / len(pool.ids)  # what a uniform draw has of the rarest class
    for share in (
        histogram(pool.presence[chosen]) - histogram(pool.presence),
        pool.presence[chosen, 0].mean() - pool.presence[:, 0].mean(),
    ):
        assert np.abs(share).max() <= 0.02
    sizes = pool.sizes[chosen].sum(axis=0) / pool.sizes[chosen].sum() - pool.sizes.sum(axis=0) / pool.sizes.sum()
    assert np.abs(sizes).max() <= 0.03


def test_strict_has_person_even_as_well():
    pool = make_pool(6000, 24)
    counts = counted(pool, draw(pool, 400, 0, "strict", 2))
    assert counts.min() == counts.max() == levels(pool, 400, "strict", 2)[1]


def test_without_person_context_evens_all_classes():
    pool = make_pool(3000, 16, person=False)
    counts = counted(pool, draw(pool, 200, 0, "context", 2))
    assert counts.min() == counts.max()


def test_scarce_and_missing_classes_take_all_there_is():
    pool = make_pool(3000, 16)
    instances = pool.instances.copy()
    instances[:, 14] = 0  # missing
    instances[2:, 13] = 0
    instances[:2, 13] = 1  # two images only
    pool = Pool(pool.names, pool.ids, instances, pool.sizes)
    counts = counted(pool, draw(pool, 300, 0, "context", 2))
    assert counts[13] == 2
    others = np.delete(counts, [0, 13, 14])
    assert others.min() == others.max() == level_of(counts, pool.supply)


def test_a_draw_is_the_same_everywhere():
    """The digest was taken once: other Pythons, numpys and machines must draw the same images."""
    pool = make_pool(3000, 16)
    ids = [draw(pool, 150, seed, balance, 2) for seed in (0, 1) for balance in ("context", "strict")]
    assert hashlib.sha256(np.concatenate(ids).astype("<i8").tobytes()).hexdigest()[:16] == "c6fd9faf8fa54d32"
    assert len({tuple(i.tolist()) for i in ids}) == 4


def test_the_order_of_the_pool_does_not_matter():
    pool = make_pool(1500, 12)
    mixed = np.argsort(priorities(pool.ids, 99))
    other = Pool(pool.names, pool.ids[mixed], pool.instances[mixed], pool.sizes[mixed])
    assert draw(pool, 100, 0, "context", 2).tolist() == draw(other, 100, 0, "context", 2).tolist()


def test_the_whole_pool_and_more_than_that():
    pool = make_pool(60, 5)
    assert draw(pool, 60, 0, "context", 2).tolist() == pool.ids.tolist()
    with pytest.raises(UserError, match="61 images are wanted, but only 60 have a valid box"):
        draw(pool, 61, 0, "context", 2)


def test_raking_meets_every_goal_on_average():
    pool = make_pool(6000, 24)
    level = levels(pool, 400, "context", 2)[1]
    base = goals(pool, 400, "context", 2).at(level, pool.supply[1:], equal=True)
    weights = rake(base, 400)
    reached = np.array([weights[feature].sum() for feature in base.features]) / UNIT
    assert np.abs(reached - base.target)[: base.classes].max() < 1
    assert np.abs(reached - base.target).max() / 400 < 0.02
    assert weights.max() <= UNIT


def test_drift_is_in_points_of_the_source():
    names, ids = ("person", "a"), np.arange(4)
    pool = Pool(
        names, ids, np.array([[1, 0], [1, 1], [0, 2], [0, 1]]), np.array([[1, 0, 0], [1, 1, 0], [0, 0, 2], [0, 1, 0]])
    )
    assert drift(pool, ids) == {"histogram": 0, "sizes": 0, "person": 0}
    assert drift(pool, ids[:2]) == {"histogram": 25, "sizes": 33.33, "person": 50}
    assert drift(pool, ids[1:3]) == {"histogram": 25, "sizes": 16.67, "person": 0}, "what is rarer counts as well"


def test_systematic_draws_exactly_and_by_weight():
    weights = np.array([UNIT, UNIT // 2, UNIT // 2, UNIT, 0, 0, 10 * UNIT])
    assert systematic(weights, 4).sum() == 4
    assert systematic(weights, 4)[6]
    assert systematic(np.full(100, UNIT // 4), 25).tolist() == [i % 4 == 3 for i in range(100)]


def test_priorities_are_splitmix64():
    state = 1234567
    assert len(set(priorities(np.arange(1000), 0).tolist())) == 1000
    assert priorities(np.array([5]), state).tolist() != priorities(np.array([5]), state + 1).tolist()
