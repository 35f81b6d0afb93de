"""What a study can find, and what would help most per hour."""

from __future__ import annotations

from msgspec import structs
from plans import key_of, made, timed

from coco1k_kd.study.foresight import foresee, judging_hours, power_of
from coco1k_kd.verdict.entry import Entry
from coco1k_kd.verdict.intervals import Estimate
from coco1k_kd.verdict.looks import FIXED, MAX_LOOK, Design, sequential


def entry(image: float, seed: float, units: int = 3, reason: str | None = None) -> Entry:
    """A comparison whose variance is so far that of images, and of seeds."""
    estimate = Estimate(0.01, 1, units, 400, image, 0.0, seed)
    common = {"draws": [0], "seeds": list(range(units)), "images": 400, "per_run": [], "mde": estimate.mde()}
    difference = estimate.summary()
    return Entry(**common, d_ap=difference, d_ap50=difference, verdict="inconclusive", reason=reason)


def test_before_anything_has_run_there_is_a_difference_and_no_way_to_a_smaller_one() -> None:
    told = foresee(sequential(), 8, 400, 1)
    assert told.finds > 0 and told.prior and told.ways == [] and told.best is None and told.hours is None
    assert foresee(sequential(), 8, 400, 3).finds > told.finds, "comparisons share the error"
    assert foresee(sequential(), 8, 4000, 1).finds < told.finds


def test_the_way_that_helps_most_per_hour_follows_the_variance() -> None:
    of_images, of_seeds = entry(9e-6, 1e-8), entry(1e-8, 9e-6)
    told = {name: foresee(sequential(), 8, 400, 1, one, 10.0, 0.1) for name, one in
            (("images", of_images), ("seeds", of_seeds))}  # fmt: skip
    assert told["images"].best == "images" and told["seeds"].best in ("seeds", "epochs")
    for one in told.values():
        ways = {way.what: way for way in one.ways}
        assert (ways["seeds"].number, ways["epochs"].number, ways["images"].number) == (12, 16, 800)
        assert (ways["seeds"].hours, ways["epochs"].hours, ways["images"].hours) == (5.0, 0.0, 0.1)
        assert not one.prior and one.hours == 10.0
    expensive = foresee(sequential(), 8, 400, 1, of_images, 10.0, 1e9)
    assert expensive.best != "images", "per hour it helps least"


def test_more_seeds_than_a_study_may_have_are_no_way() -> None:
    told = foresee(Design((3, MAX_LOOK)), MAX_LOOK, 400, 1, entry(1e-6, 1e-6), 10.0, 0.1)
    assert [way.what for way in told.ways] == ["images"]
    assert {way.what for way in foresee(FIXED, 5, 400, 1, entry(1e-6, 1e-6), 10.0).ways} == {
        "images",
        "seeds",
        "epochs",
    }


def test_to_judge_takes_what_validation_has_taken_by_image() -> None:
    result = structs.replace(timed(100.0), val_seconds=20.0, epochs=10, work={"val_images": 50})
    assert judging_hours({}, 400, 6) == 0
    assert judging_hours({key_of("cwd"): result}, 400, 6) == 20 / (10 * 50) * 400 * 6 * 2 / 3600


def test_a_study_is_told_by_the_widest_of_the_comparisons_that_show_something() -> None:
    study = made(arms=["cwd"], seeds=[0, 1, 2])
    narrow, wide, blind = entry(1e-6, 1e-6), entry(4e-6, 4e-6), entry(9e-5, 9e-5, reason="nothing_found")
    told = power_of(study, FIXED, 400, [narrow, wide, blind], {}, 6.0)
    assert told.finds == foresee(FIXED, 3, 400, 1, wide).finds > foresee(FIXED, 3, 400, 1, narrow).finds
    assert told.unit == "seed" and not told.prior
    assert power_of(study, FIXED, 400, [blind], {}, 6.0).prior
    assert power_of(made(arms=["cwd"], seeds=[0]), FIXED, 400, [], {}, 6.0) is None
    assert power_of(made(arms=["baseline"], seeds=[0, 1]), FIXED, 400, [], {}, 6.0) is None
