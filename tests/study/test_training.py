"""The order of a study's runs. No training."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from plans import made, timed

from coco1k_kd.runs.spec import Result, TrainSpec
from coco1k_kd.study import training
from coco1k_kd.study.hours import Hours


class Instant:
    """Slots whose runs take no time, and that remember in which order they came."""

    number, grows = 2, False

    def __init__(self) -> None:
        self.begun: list[str] = []

    def shares_a_gpu(self, device: str) -> bool:
        return device != "cpu"

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


def test_only_baselines_of_the_first_look_can_be_trained_before_there_is_a_teacher_and_not_on_a_shared_gpu() -> None:
    def left(device: str) -> dict[str, TrainSpec]:
        plan = made(arms=["baseline", "cwd", "baseline_same_time"], seeds="auto", looks=[3, 5], device=device)
        return training.untaught(plan, Instant(), lambda _: None)

    found = left("cpu")
    assert [(spec.arm, spec.seed, spec.at_once) for spec in found.values()] == [
        ("baseline", seed, 2) for seed in range(3)
    ]
    assert list(found) == [f"baseline (seed {seed})" for seed in range(3)]
    assert left("0") == {}
