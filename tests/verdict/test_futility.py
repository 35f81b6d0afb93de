"""Whether more seeds may still lead to a verdict, held to studies that are simulated to their end."""

from __future__ import annotations

import numpy as np
import pytest

from coco1k_kd.verdict.futility import FUTILE, chance
from coco1k_kd.verdict.intervals import Estimate, verdict
from coco1k_kd.verdict.looks import FIXED, sequential


def seen(mean: float, spread: float, seeds: int = 3) -> Estimate:
    return Estimate(mean, 1, seeds, 400, shared=1e-8, spread=spread**2)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 0.004), (0.004, 0.004), (0.0, 0.002), (0.01, 0.006)])
def test_the_chance_is_the_share_of_studies_that_find_a_verdict(mean, spread):
    """Seeds that are drawn from what three have shown: mean and spread of a normal population, of unknown truth."""
    rng, design, studies = np.random.default_rng(0), sequential((3, 8)), 4000
    sigma = spread * (2 / rng.chisquare(2, studies)) ** 0.5
    truth = mean + sigma * rng.standard_normal(studies) / 3**0.5
    later = truth + sigma * rng.standard_normal(studies) / 5**0.5
    ends = (3 * mean + 5 * later) / 8
    found = [verdict(seen(end, spread, 8), design.level_at(8))[0] != "inconclusive" for end in ends]
    assert chance(seen(mean, spread), design) == pytest.approx(np.mean(found), abs=0.03)


def test_no_look_that_is_left_is_no_chance():
    assert chance(seen(0.01, 0.004, 8), sequential()) == 0 == chance(seen(0.01, 0.004), FIXED)
    assert chance(seen(0.02, 0.004), sequential()) > 0.9
    assert chance(seen(0.0, 0.01, 5), sequential()) < FUTILE
    assert chance(seen(0.004, 0.004), sequential(), 6) < chance(seen(0.004, 0.004), sequential())
