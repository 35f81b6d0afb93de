from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from coco1k_kd.statistics import (
    BAND,
    MAX_SEEDS,
    Estimate,
    corrected,
    estimate,
    holm,
    judge,
    needed,
    permutation_p,
    verdict,
)


def made(mean, shared=0.0, single=0.0, between=0.0, seeds=3, images=400) -> Estimate:
    return Estimate(mean, seeds, images, shared, single, between)


def simulated(rng, shared, single, between, seeds, images=400, replicates=400) -> Estimate:
    """An estimate from normal seed and image effects of known variances, as the bootstrap would hand it over."""

    def of_images(size):
        return rng.normal(0, shared**0.5, (size, 1)) + rng.normal(0, single**0.5, (size, seeds))

    sample = of_images(1) + rng.normal(0, between**0.5, seeds)
    return estimate(np.concatenate([sample, sample + of_images(replicates)]), images)


def test_variances_are_told_apart():
    estimates = [simulated(np.random.default_rng(i), 4.0, 3.0, 10.0, seeds=8) for i in range(300)]
    assert np.mean([e.shared for e in estimates]) == pytest.approx(4, rel=0.1)
    assert np.mean([e.single for e in estimates]) == pytest.approx(3, rel=0.1)
    # The observed spread between seeds is 10 + 3, of which half of 3 is taken off.
    assert np.mean([e.between for e in estimates]) == pytest.approx(11.5, rel=0.1)


def test_the_interval_holds_the_truth_where_a_percentile_bootstrap_does_not():
    estimates = [simulated(np.random.default_rng(i), 0.5, 0.5, 0.5, seeds=3, replicates=150) for i in range(1500)]
    assert np.mean([e.ci95[0] <= 0 <= e.ci95[1] for e in estimates]) == pytest.approx(0.95, abs=0.02)
    normal = [abs(e.mean) <= 1.96 * (e.variance_images) ** 0.5 for e in estimates]
    assert np.mean(normal) < 0.93, "images alone are not enough: the test must be able to tell"


def test_one_seed_is_students_t_over_images():
    rng = np.random.default_rng(0)
    replicates = rng.normal(0.01, 0.005, (4000, 1))
    e = estimate(np.concatenate([[[0.01]], replicates]), images=25)
    assert e.half_width == pytest.approx(student.ppf(0.975, 24) * replicates.std() * np.sqrt(25 / 24), rel=1e-9)
    assert e.summary()["se_seeds"] is None


def test_seeds_alone_are_students_t_over_seeds():
    e = made(0.01, between=3e-4, seeds=3)
    assert e.half_width == pytest.approx(student.ppf(0.975, 2) * 0.01)
    assert e.p == pytest.approx(2 * student.sf(1, 2), abs=1e-9)


@pytest.mark.parametrize("mean", [0.0, 1e-4, 0.004, -0.02, 0.3])
def test_p_and_interval_say_the_same(mean):
    e = made(mean, shared=2e-5, single=1e-5, between=3e-5)
    low, high = e.ci95
    assert (e.p < 0.05) == (low > 0 or high < 0) and 0 <= e.p <= 1


def test_resamples_without_the_class_do_not_count():
    replicates = np.array([[0.1], [np.nan], [0.3]])
    e = estimate(np.concatenate([[[0.2]], replicates]), images=10)
    assert e.variance_images == pytest.approx(0.01 * 10 / 9)


def test_detectable_difference_is_detected_four_times_in_five():
    e = made(0.0, shared=1e-4, seeds=1)
    draws = np.random.default_rng(0).standard_t(399, 100_000) * e.se + e.mde
    assert np.mean(draws > e.half_width) == pytest.approx(0.8, abs=0.01)


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
    assert verdict(e) == expected
    assert judge(e)["verdict"] == expected and (judge(e)["needed"] is None) == (expected != "inconclusive")


def test_what_is_needed_settles_and_one_less_does_not():
    e = made(0.006, shared=2e-6, single=2e-5, between=1e-5)
    assert verdict(e) == "inconclusive"
    seeds = needed(e)["seeds"]
    assert e.seeds < seeds < MAX_SEEDS
    assert e.planned(seeds, e.images).mde <= 0.006 < e.planned(seeds - 1, e.images).mde
    images = needed(e.planned(20, e.images))["images"]
    assert images is None or e.planned(20, images).mde <= 0.006


def test_nothing_in_reach_is_said():
    hopeless = made(0.0029, shared=1e-3)
    assert needed(hopeless) == {"seeds": None, "images": None}
    assert "alone would settle it" in judge(hopeless)["sentence"]


def test_sentences_give_figures_in_points():
    open_question = judge(made(0.006, shared=2e-6, single=2e-5, between=1e-5))["sentence"]
    assert "with 3 seeds on 400 images" in open_question and "you saw +0.6 ±" in open_question
    assert "more seeds" in open_question
    assert judge(made(0.02, shared=1e-6))["sentence"].startswith("Improves: +2.0 AP points (95% interval +1.8 to +2.2)")
    assert f"±{100 * BAND:.1f}" in judge(made(-0.0001, shared=1e-8))["sentence"]
    assert "-0.0" not in judge(made(-0.0001, shared=1e-8))["sentence"]


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_few_images_have_no_interval_and_no_vote():
    rows = corrected({"rare": made(0.5, images=4), "common": made(0.01, shared=1e-6)})
    assert rows["rare"] == {"mean": 0.5, "ci95": None, "p": None, "p_holm": None, "images": 4}
    assert rows["common"]["p_holm"] == rows["common"]["p"]


def test_permutation_p_counts_itself():
    swapped = np.array([0.1, -0.3, 0.2, 0.05])
    assert permutation_p(0.2, swapped) == pytest.approx(3 / 5)
    assert permutation_p(0.9, swapped) == pytest.approx(1 / 5)
