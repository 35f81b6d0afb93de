from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import t as student

from coco1k_kd.verdict.entry import Needed, Part, Variance
from coco1k_kd.verdict.intervals import (
    MAX_IMAGES,
    MAX_SEEDS,
    MIN_IMAGES,
    MIN_SEEDS,
    Estimate,
    corrected,
    estimate,
    holm,
    needed,
    verdict,
)


def made(mean, shared=0.0, single=0.0, between=0.0, seeds=3, images=400) -> Estimate:
    """`between`: variance of training anew, beyond what the choice of images gives."""
    return Estimate(mean, 1, seeds, images, shared, single, single + between if seeds > 1 else 0.0)


def simulated(rng, shared, single, seed, runs=3, draws=1, draw=0.0, images=400) -> Estimate:
    """An estimate from normal effects of images, seeds and draws of known variances; the truth is 0.

    There are `runs` of each of `draws`.
    """
    count = draws * runs
    of_draw = np.repeat(np.arange(draws), runs)
    influence = rng.normal(0, (shared / images) ** 0.5, (images, 1)) + rng.normal(
        0, (single / images) ** 0.5, (images, count)
    )
    observed = influence.sum(axis=0) + rng.normal(0, seed**0.5, count) + rng.normal(0, draw**0.5, draws)[of_draw]
    return estimate(observed, influence, of_draw, images)


def test_variances_are_told_apart():
    estimates = [simulated(np.random.default_rng(i), 4.0, 3.0, 10.0, runs=8) for i in range(300)]
    assert np.mean([e.shared for e in estimates]) == pytest.approx(4, rel=0.1)
    assert np.mean([e.single for e in estimates]) == pytest.approx(3, rel=0.1)
    assert np.mean([e.spread for e in estimates]) == pytest.approx(13, rel=0.1)
    splits = [e.split() for e in estimates]
    assert np.mean([s.image for s in splits]) == pytest.approx(4 + 3 / 8, rel=0.1)
    assert np.mean([s.seed for s in splits]) == pytest.approx(10 / 8, rel=0.1)
    assert {s.draw for s in splits} == {None}


def test_draws_and_seeds_are_told_apart():
    estimates = [simulated(np.random.default_rng(i), 4.0, 3.0, 10.0, 5, draws=6, draw=20.0) for i in range(300)]
    splits = [e.split() for e in estimates]
    assert np.mean([s.image for s in splits]) == pytest.approx(4 + 3 / 30, rel=0.1)
    assert np.mean([s.seed for s in splits]) == pytest.approx(10 / 30, rel=0.1)
    assert np.mean([s.draw for s in splits]) == pytest.approx(20 / 6, rel=0.1)
    assert np.mean([e.se**2 for e in estimates]) == pytest.approx(4 + 3 / 30 + 10 / 30 + 20 / 6, rel=0.1)


def test_one_seed_of_several_draws_speaks_of_both_at_once():
    e = replace(simulated(np.random.default_rng(0), 1.0, 1.0, 10.0, 1, draws=3, draw=10.0), mean=0.006)
    assert e.units == 3 and e.seeds == 1 and e.split().seed is None
    one_seed = replace(made(0.006, shared=2e-6, single=2e-5, between=1e-5), draws=3, seeds=1)
    assert one_seed.split().draw == pytest.approx(1e-5 / 3)
    assert needed(one_seed).draws == needed(made(0.006, shared=2e-6, single=2e-5, between=1e-5)).seeds


def test_draws_that_share_images_say_less_than_they_seem_to():
    """t of the mean keeps its level where draws correlate as their images do; without the overlap it does not."""
    rng, share, draws, wrong = np.random.default_rng(0), 0.6, 3, {0.0: 0, 0.6: 0}
    for _ in range(1000):
        seen = share**0.5 * rng.normal() + (1 - share) ** 0.5 * rng.normal(size=draws)
        for overlap in wrong:
            found = estimate(seen, np.zeros((400, draws)), range(draws), 400, overlap)
            wrong[overlap] += found.p < 0.05
    assert wrong[share] == pytest.approx(50, abs=21) and wrong[0.0] > 150
    assert found.split().draw == pytest.approx(found.se**2), "what the overlap hides is of the draws"


def test_the_interval_holds_the_truth_where_a_percentile_bootstrap_does_not():
    estimates = [simulated(np.random.default_rng(i), 0.5, 0.5, 0.5) for i in range(1500)]
    held = np.mean([e.interval()[0] <= 0 <= e.interval()[1] for e in estimates])
    assert 0.94 < held < 0.985, "Cochran's quantiles are careful where both sources of variance matter"
    normal = [abs(e.mean) <= 1.96 * e.split().image ** 0.5 for e in estimates]
    assert np.mean(normal) < 0.93, "images alone are not enough: the test must be able to tell"


def test_one_seed_is_students_t_over_images():
    influence = np.random.default_rng(0).normal(0, 0.001, (25, 1))
    e = estimate(np.array([0.01]), influence, [0], images=25)
    assert e.half_width() == pytest.approx(student.ppf(0.975, 24) * np.sqrt(np.sum(influence**2) * 25 / 24), rel=1e-9)
    assert e.split() == Variance(None, None, pytest.approx(e.se**2))


def test_seeds_alone_are_students_t_over_seeds():
    e = made(0.01, between=3e-4, seeds=3)
    assert e.half_width() == pytest.approx(student.ppf(0.975, 2) * 0.01)
    assert e.p == pytest.approx(2 * student.sf(1, 2), abs=1e-9)


@pytest.mark.parametrize("mean", [0.0, 1e-4, 0.004, -0.02, 0.3])
def test_p_and_interval_say_the_same(mean):
    e = made(mean, shared=2e-5, single=1e-5, between=3e-5)
    low, high = e.interval()
    assert (e.p < 0.05) == (low > 0 or high < 0) and 0 <= e.p <= 1


def test_detectable_difference_is_detected_four_times_in_five():
    e = made(0.0, shared=1e-4, seeds=1)
    draws = np.random.default_rng(0).standard_t(399, 100_000) * e.se + e.mde()
    assert np.mean(draws > e.half_width()) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("mean", "variance", "seeds", "expected"),
    [
        (0.02, 1e-6, 3, "improves"),
        (-0.02, 1e-6, 3, "hurts"),
        (0.0005, 1e-7, 3, "no_difference"),
        (0.002, 1e-8, 3, "no_difference"),  # above zero for sure, and too small to matter
        (0.002, 1e-4, 3, "inconclusive"),
        (0.02, 1e-6, 1, "inconclusive"),
        (0.0, 0.0, 1, "inconclusive"),
    ],
)
def test_verdict(mean, variance, seeds, expected):
    e = made(mean, shared=variance, seeds=seeds)
    word, reason = verdict(e)
    assert word == expected and (reason is None) == (expected != "inconclusive")


@pytest.mark.parametrize(
    ("estimate", "reason"),
    [
        (made(0.0), "no_spread"),
        (made(0.02, shared=1e-6, images=19), "few_images"),
        (made(0.02, shared=1e-6, seeds=1), "one_seed"),
        (made(0.004, single=1e-4), "interval"),
    ],
)
def test_why_nothing_is_said(estimate, reason):
    assert verdict(estimate) == ("inconclusive", reason)
    assert verdict(replace(estimate, images=20))[1] != "few_images"


def test_what_is_needed_settles_and_one_less_does_not():
    e = made(0.006, shared=2e-6, single=2e-5, between=1e-5)
    assert verdict(e) == ("inconclusive", "interval")
    seeds = needed(e).seeds
    assert e.seeds < seeds < MAX_SEEDS
    assert e.planned(seeds, e.images).mde() <= 0.006 < e.planned(seeds - 1, e.images).mde()
    images = needed(e.planned(20, e.images)).images
    assert images is None or e.planned(20, images).mde() <= 0.006


@pytest.mark.parametrize("fewest", [4, 51, MAX_SEEDS])
def test_the_fewest_seeds_that_settle_are_found_from_one_more_to_the_most(fewest):
    e = made(0.0, single=1e-6, between=1e-4)
    mean = e.planned(fewest, e.images).mde()
    assert needed(replace(e, mean=mean)).seeds == fewest
    assert needed(replace(e, mean=0.999 * mean)).seeds == (None if fewest == MAX_SEEDS else fewest + 1)


@pytest.mark.parametrize(("fewest", "each"), [(401, 1.0), (MAX_IMAGES, 1.0), (801, 2.0)])
def test_the_fewest_images_that_settle_are_found_too(fewest, each):
    e = made(0.0, shared=1e-4)
    assert needed(replace(e, mean=e.planned(3, fewest / each).mde()), each=each).images == fewest
    assert needed(replace(e, seeds=1)) == Needed(seeds=MIN_SEEDS)
    assert needed(replace(e, images=10), "few_images", each=each) == Needed(images=round(MIN_IMAGES * each))


def test_a_plan_has_more_draws_where_there_are_several_else_more_seeds():
    plans = [replace(made(0.01), draws=draws).planned(7, 400) for draws in (1, 2)]
    assert [(plan.draws, plan.seeds) for plan in plans] == [(1, 7), (7, 3)]


def test_nothing_in_reach_is_said():
    hopeless = made(0.0029, shared=1e-3)
    assert needed(hopeless) == Needed()


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_few_images_have_no_interval_and_no_vote():
    rows = corrected({"rare": made(0.5, images=4), "common": made(0.01, shared=1e-6)})
    assert rows["rare"] == Part(0.5, None, None, None, 4)
    assert rows["common"].p_holm == rows["common"].p


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(2, 8), st.floats(1e-4, 0.2))
def test_an_interval_is_never_narrower_than_its_images_allow(spread, seeds, level):
    """Also where seeds agree by chance; and `p` belongs to the interval."""
    found = Estimate(0.9, 1, seeds, 400, shared=0.04, single=0.09, spread=spread)
    of_images = 2 * stdtrit(399, 1 - level / 2) * (0.04 + 0.09 / seeds) ** 0.5
    low, high = found.interval(level)
    assert high - low >= of_images - 1e-9
    assert (found.p < level) == (low > 0)
