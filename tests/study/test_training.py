"""The order of a study's runs, and how long the timed baseline trains. No training."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from plans import key_of, made, timed

from coco1k_kd.runs.spec import SPEC, Result, TrainSpec, write
from coco1k_kd.study import training
from coco1k_kd.study.hours import Hours


@pytest.mark.parametrize(("seconds", "epochs"), [(180.0, 18), (104.0, 10), (50.0, 10)])
def test_the_timed_baseline_gets_as_many_epochs_as_fit_into_the_distilled_arms_time(
    seconds: float, epochs: int
) -> None:
    plan = made(arms=["mgd", "cwd", "baseline_same_time"], loss="mgd", seeds=[0, 1], epochs=10)
    took = {"baseline": 100.0, "mgd": seconds, "cwd": 900.0}
    results = {key_of(arm, seed=seed): timed(took[arm] + seed) for arm in took for seed in (0, 1)}
    assert training.same_time_epochs(plan, results) == epochs


def test_runs_that_shared_cores_are_timed_by_the_cores() -> None:
    plan = made(arms=["cwd", "baseline_same_time"], seeds=[0], epochs=10)
    clock, cores = {"baseline": 100.0, "cwd": 300.0}, {"baseline": 50.0, "cwd": 80.0}

    def epochs(at_once: int, cpu: bool) -> int:
        runs = {
            key_of(arm): structs.replace(timed(clock[arm]), at_once=at_once, cpu_seconds=cores[arm] if cpu else None)
            for arm in clock
        }
        return training.same_time_epochs(plan, runs)

    assert epochs(at_once=2, cpu=True) == 16, "the clock of each run counted the other's work as well"
    assert epochs(at_once=1, cpu=True) == 30, "a run alone is timed by the clock"
    assert epochs(at_once=2, cpu=False) == 30, "on GPUs there is nothing but the clock"
    cores["cwd"] = 70.0
    assert epochs(at_once=1, cpu=True) == 14, "it was alone among runs, and stopped or among other programs"


class Instant:
    """Slots whose runs take no time, and that remember in which order they came."""

    number, grows = 2, False

    def __init__(self) -> None:
        self.begun: list[str] = []

    def submit(self, spec: TrainSpec, label: str) -> Future[Result]:
        self.begun.append(label)
        future: Future[Result] = Future()
        future.set_result(timed(30.0 if spec.arm == "cwd" else 10.0))
        return future


def test_the_timed_baseline_waits_for_what_it_is_timed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, slots = made(arms=["cwd", "mgd", "baseline_same_time"], seeds=[0, 1]), Instant()
    monkeypatch.setattr(training.Training, "_line", lambda *_: "")
    runs = training.Training(plan, slots, Hours(float("inf")), lambda _: None)
    assert runs.finish(plan.plan()) and set(runs.results) == set(plan.plan())
    last = [label for label in slots.begun if label.startswith("baseline_same_time")]
    assert slots.begun[-2:] == last and len(slots.begun) == 8
    assert [label.split()[0] for label in slots.begun[:6]] == ["mgd", "mgd", "cwd", "cwd", "baseline", "baseline"]


def test_the_timed_baseline_keeps_the_epochs_that_it_began_with(tmp_path: Path) -> None:
    plan = replace(made(arms=["cwd", "baseline_same_time"], seeds=[0, 1], epochs=10), project=tmp_path)
    results = {key_of(arm, seed=seed): timed(time) for arm, time in (("baseline", 1), ("cwd", 3)) for seed in (0, 1)}
    assert training.same_time_epochs(plan, results) == 30
    key = key_of("baseline_same_time")
    write(plan.folder(*key) / SPEC, plan.spec(*key, 27))
    assert training.same_time_epochs(plan, results) == 27
