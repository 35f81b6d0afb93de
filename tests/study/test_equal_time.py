"""What training costs the arms, for how long the timed baseline trains, and who is compared with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from plans import arms_of, key_of, made, pairs, timed

from coco1k_kd.runs.spec import SPEC, write
from coco1k_kd.study import comparing
from coco1k_kd.study.arms import read_arm
from coco1k_kd.study.equal_time import same_time_epochs, times
from coco1k_kd.study.plan import Fitted


@pytest.mark.parametrize(("seconds", "epochs"), [(180.0, 18), (104.0, 10), (50.0, 10)])
def test_the_timed_baseline_gets_as_many_epochs_as_fit_into_the_distilled_arms_time(
    seconds: float, epochs: int
) -> None:
    plan = made(arms=["mgd", "cwd", "baseline_same_time"], loss="mgd", seeds=[0, 1], epochs=10)
    took = {"baseline": 100.0, "mgd": seconds, "cwd": 900.0}
    results = {key_of(arm, seed=seed): timed(took[arm] + seed) for arm in took for seed in (0, 1)}
    assert same_time_epochs(plan, results) == epochs


def test_runs_that_shared_cores_are_timed_by_the_cores() -> None:
    plan = made(arms=["cwd", "baseline_same_time"], seeds=[0], epochs=10)
    clock, cores = {"baseline": 100.0, "cwd": 300.0}, {"baseline": 50.0, "cwd": 80.0}

    def epochs(at_once: int, cpu: bool) -> int:
        runs = {
            key_of(arm): structs.replace(timed(clock[arm]), at_once=at_once, cpu_seconds=cores[arm] if cpu else None)
            for arm in clock
        }
        return same_time_epochs(plan, runs)

    assert epochs(at_once=2, cpu=True) == 16, "the clock of each run counted the other's work as well"
    assert epochs(at_once=1, cpu=True) == 30, "a run alone is timed by the clock"
    assert epochs(at_once=2, cpu=False) == 30, "on GPUs there is nothing but the clock"
    cores["cwd"] = 70.0
    assert epochs(at_once=1, cpu=True) == 14, "it was alone among runs, and stopped or among other programs"


def test_labelling_is_counted_by_the_cores_where_the_runs_are() -> None:
    plan = made(arms=["cwd", "baseline_same_time"], seeds=[0], epochs=10)
    labelled = {"labelling_seconds": 100.0, "labelling_cpu_seconds": 20.0}

    def epochs(at_once: int) -> int:
        runs = {key_of(arm): structs.replace(timed(100.0), at_once=at_once, cpu_seconds=50.0) for arm in ARMS[:2]}
        runs[key_of("cwd")] = structs.replace(runs[key_of("cwd")], **labelled)
        return same_time_epochs(plan, runs)

    assert epochs(at_once=1) == 20 and epochs(at_once=2) == 14


def test_the_timed_baseline_keeps_the_epochs_that_it_began_with(tmp_path: Path) -> None:
    plan = replace(made(arms=["cwd", "baseline_same_time"], seeds=[0, 1], epochs=10), project=tmp_path)
    results = {key_of(arm, seed=seed): timed(time) for arm, time in (("baseline", 1), ("cwd", 3)) for seed in (0, 1)}
    assert same_time_epochs(plan, results) == 30
    key = key_of("baseline_same_time")
    write(plan.folder(*key) / SPEC, plan.spec(*key, 27))
    assert same_time_epochs(plan, results) == 27


ARMS = ["baseline", "cwd", "mgd", "cwd:every=4", "baseline_same_time"]


def test_each_arm_is_timed_beside_the_longer_baseline_with_what_its_teacher_took_before() -> None:
    plan = made(arms=[*ARMS, "ultralytics:teacher=big.pt"], seeds=[0, 1])
    big = replace(plan.teacher, path="/w/big.pt")
    plan = replace(plan, teachers={"big.pt": big})
    took = {"baseline": 100.0, "cwd": 150.0, "mgd": 250.0, "cwd:every=4": 110.0, "ultralytics:teacher=big.pt": 150.0}
    results = {key_of(arm, seed=seed): timed(took[arm]) for arm in took for seed in (0, 1)}
    assert times(plan, results) == {}, "no longer baseline has run yet"
    results |= {key_of("baseline_same_time", seed=seed): timed(170.0) for seed in (0, 1)}
    fits = ((plan.teacher, 40.0), (big, 60.0))
    plan = replace(plan, fitted={(given.path, 0): Fitted(Path(), given, timed(seconds)) for given, seconds in fits})
    for seed in (0, 1):
        key = key_of("cwd:every=4", seed=seed)
        results[key] = structs.replace(results[key], labelling_seconds=20.0)
    found = {arm.name: of for arm, of in times(plan, results).items()}
    assert {arm: of.arm for arm, of in found.items()} == {
        "cwd": 150 + 40 / 2, "mgd": 250 + 40 / 2, "cwd:every=4": 110 + (40 + 20) / 2, "ultralytics:teacher=big.pt": 180
    }  # fmt: skip
    assert {of.against for of in found.values()} == {170.0}
    assert {arm for arm, of in found.items() if of.less} == {"cwd:every=4"}
    assert {arm for arm, of in found.items() if of.more} == {"mgd", "ultralytics:teacher=big.pt"}


def test_of_the_teachers_of_draws_those_count_that_taught_what_is_timed() -> None:
    plan = made(arms=["cwd", "baseline_same_time"], seeds=[0], draws=8, epochs=10)
    given, teacher = plan.teacher, replace(plan.teacher, sha256="0")

    def epochs(draws: int, **labelled: float) -> int:
        fits = {(given.path, draw): Fitted(Path(), teacher, timed(0.0 if labelled else 300.0)) for draw in range(8)}
        runs = {(read_arm(arm), (draw, 0)): timed(100.0) for arm in ("baseline", "cwd") for draw in range(draws)}
        for (arm, (draw, seed)), result in runs.items():
            if arm.learns:
                own = structs.replace(result, teacher_sha256=f"{draw}", **labelled)
                runs[arm, (draw, seed)] = own
        return same_time_epochs(replace(plan, fitted=fits), runs)

    assert epochs(3) == epochs(8) == 40, "a fit of 300 s for each run of 100"
    assert epochs(3, labelling_seconds=300.0) == 40, "each of the teachers has labelled"


def test_further_seeds_do_not_change_who_is_compared() -> None:
    plan = made(arms=ARMS, seeds="auto", looks=[2, 3])
    results = {key_of(arm, seed=seed): timed(100.0) for arm in ARMS for seed in (0, 1)}
    early = times(plan, results)
    results |= {key_of(arm, seed=2): timed(100.0 if arm == "baseline_same_time" else 900.0) for arm in ARMS}
    assert times(plan, results) == early and not any(of.more for of in early.values())


def test_arms_that_took_no_more_are_compared_beside_what_was_asked_for() -> None:
    plan = made(arms=ARMS)
    arms = arms_of(*ARMS)
    asked = [("cwd", "baseline_same_time")]
    assert [pair for pair in pairs(plan, *ARMS) if pair[1] == "baseline_same_time"] == asked
    found = comparing.pairs(plan, arms, [read_arm("cwd:every=4"), read_arm("cwd")])
    longer = [(arm.name, against.name) for arm, against in found if against.name == "baseline_same_time"]
    assert longer == [*asked, ("cwd:every=4", "baseline_same_time")]
    assert [pair for pair in comparing.asked_for(plan) if pair[1].name == "baseline_same_time"] == found[-2:-1]


@pytest.mark.parametrize("arms", [["baseline"], ["baseline", "cwd", "baseline_same_time"]])
def test_where_no_arm_has_learnt_from_a_teacher_there_are_no_times(arms: list[str]) -> None:
    plan = made(arms=arms, seeds=[0])
    results = {key_of("baseline"): structs.replace(timed(100.0), cpu_seconds=90.0)}
    assert times(plan, results) == {}, "a study of one arm, and an interim report before the others"
