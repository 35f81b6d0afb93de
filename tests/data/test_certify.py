"""What a linear program proves of a draw."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from long_tail import make_pool

from coco1k_kd.data.certify import certify
from coco1k_kd.data.sampling import (
    draw,
    priorities,
)


def test_a_proof_tells_a_good_draw_from_a_poor_one():
    pool = make_pool(600, 12)
    assert "proven that no draw within the bounds has more" in certify(
        pool, draw(pool, 100, 0, "context", 2), "context", 2
    )
    uniform = np.sort(pool.ids[np.argsort(priorities(pool.ids, 1))[:100]])
    assert "has more than" in certify(pool, uniform, "context", 2)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 120),
    classes=st.integers(1, 9),
    share=st.integers(0, 100),
    seed=st.integers(0, 2**32),
    balance=st.sampled_from(["context", "strict"]),
    person=st.booleans(),
)
def test_any_pool_gives_an_exact_draw_that_no_proof_contradicts(images, classes, share, seed, balance, person):
    pool = make_pool(images, classes, seed, person)
    size = 1 + share * (images - 1) // 100
    ids = draw(pool, size, seed, balance, 5)
    assert len(ids) == size == len(np.intersect1d(ids, pool.ids))
    assert draw(pool, size, seed, balance, 5).tolist() == ids.tolist()
    assert certify(pool, ids, balance, 5)
