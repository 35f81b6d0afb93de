"""The order of a study's runs. No training."""

from __future__ import annotations

import io
from concurrent.futures import Future
from threading import Timer

import pytest
from plans import made, timed

from coco1k_kd.runs.spec import Result, TrainSpec
from coco1k_kd.study import training
from coco1k_kd.study.arms import run_label
from coco1k_kd.study.hours import SECONDS, Hours


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


def test_what_comes_first_is_told_of_while_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made(arms=["baseline", "cwd", "mgd"], seeds=[0, 1, 2])
    monkeypatch.setattr(training.Training, "_line", lambda *_: "")
    names = [run_label(*key) for key in plan.plan()]

    def told(number: int, go_on: bool) -> tuple[list[str], list[int]]:
        """The runs in the order in which they are begun, and how many are when the first have ended."""
        slots, at = Instant(), []
        slots.number = number
        runs = training.Training(plan, slots, Hours(float("inf")), lambda _: None)
        assert runs.finish(plan.plan(), str, plan.plan(1), lambda: at.append(len(slots.begun)) or go_on)
        return slots.begun, at

    begun, at = told(2, True)
    assert set(begun[:3]) == set(names[:3]) and set(begun) == set(names) and len(begun) == 9
    assert at == [6], "once, with the next two under way"
    assert told(1, True) == (names, [3]), "where nothing runs beside it, whose clock would count it"
    assert told(2, False)[0] == begun[:6], "no more is begun"


def test_on_a_terminal_the_table_makes_room_for_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plan, terminal, seen = made(arms=["baseline", "cwd"], seeds=[0, 1]), Terminal(), []
    monkeypatch.setattr(training.Training, "_line", lambda *_: "")
    monkeypatch.setattr("sys.stderr", terminal)
    runs = training.Training(plan, Instant(), Hours(float("inf")), lambda _: None)
    runs.finish(plan.plan(), str, plan.plan(1), lambda: seen.append(terminal.getvalue()) or True)
    assert "runs done" in seen[0] and seen[0].endswith("\x1b[J"), "the table would take the lines below it away"


def test_with_hours_to_keep_nothing_but_the_first_pair_is_begun_before_a_run_tells_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, slots = made(arms=["baseline", "cwd", "mgd"], seeds=[0, 1]), Instant()
    monkeypatch.setattr(training.Training, "_line", lambda *_: "")
    slots.number = 4
    runs = training.Training(plan, slots, Hours(1 / SECONDS), lambda _: None)
    assert not runs.finish(plan.plan()) and sorted(slots.begun) == ["baseline (seed 0)", "cwd (seed 0)"]


class Late(Instant):
    """The first distilled run ends after the baseline, in less time than its losses' costs let guess."""

    def submit(self, spec: TrainSpec, label: str) -> Future[Result]:
        if label != "cwd (seed 0)":
            return super().submit(spec, label)
        self.begun.append(label)
        future: Future[Result] = Future()
        Timer(0.2, lambda: (self.begun.append("cwd ended"), future.set_result(timed(10.0)))).start()
        return future


@pytest.mark.parametrize(("hours", "third"), [(45 / SECONDS, "cwd ended"), (1.0, "baseline (seed 1)")])
def test_with_hours_to_keep_a_guess_refuses_nothing_and_begins_only_what_fits_many_times(
    monkeypatch: pytest.MonkeyPatch, hours: float, third: str
) -> None:
    plan, slots = made(arms=["baseline", "cwd"], seeds=[0, 1]), Late()
    monkeypatch.setattr(training.Training, "_line", lambda *_: "")
    runs = training.Training(plan, slots, Hours(hours), lambda _: None)
    assert runs.finish(plan.plan()) and len(runs.results) == 4
    assert third in slots.begun[2:4]
    assert (slots.begun.index("cwd ended") == 2) == (third == "cwd ended")
