"""What a study finds with 80% probability, by studies that go through the product's own code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation import ends

from coco1k_kd.verdict.intervals import Estimate
from coco1k_kd.verdict.looks import FIXED, Design, sequential
from coco1k_kd.verdict.power import expected, found, prior


def of(share: float, error: float, units: int) -> Estimate:
    """An estimate of units with this standard error, a share of whose square is the images'."""
    return Estimate(0.0, 1, units, 400, share * error**2, 0.0, units * (1 - share) * error**2)


@pytest.mark.parametrize(("looks", "share"), [((3, 5, 8), 0.3), ((5,), 0.0), ((3, 5, 8), 0.9)])
def test_four_of_five_studies_find_it(looks: tuple[int, ...], share: float) -> None:
    fixed = len(looks) == 1
    design: Design = FIXED if fixed else sequential(looks)
    effect = found(of(share, 0.002, looks[0]), design, looks[-1])
    found_by = ends(1000, looks=looks, fixed=fixed, truth=effect, standard_error=0.002, share=share).given.mean()
    assert found_by == pytest.approx(0.8, abs=0.06)


def test_more_of_anything_finds_smaller_differences() -> None:
    plan, design = of(0.5, 0.003, 3), sequential()
    least = found(plan, design, 8)
    assert found(plan.planned(3, 1600), design, 8) < least
    assert found(plan, Design((3, 5, 8, 12)), 12) < least < found(plan, design, 8, family=3)
    assert least < found(replace(plan, overlap=0.5), design, 8)


def test_before_the_second_unit_the_spread_is_that_of_other_studies() -> None:
    one = Estimate(0.01, 1, 1, 400, 1e-6)
    assert expected(one).spread == prior(400).spread and expected(one).shared == one.shared
    two = of(0.5, 0.003, 2)
    assert expected(two) == two
    assert 0.003 < found(prior(4552), sequential(), 8) < 0.01
