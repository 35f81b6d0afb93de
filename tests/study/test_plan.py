"""What a study will run, under which names and with which settings; and what its controls find. No training."""

from __future__ import annotations

import json
import re
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from msgspec import structs
from ultralytics import YOLO

from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.distill.weights import Weights
from coco1k_kd.errors import UserError
from coco1k_kd.runs.initial import STARTS
from coco1k_kd.runs.spec import SPEC, Result, TrainSpec, write
from coco1k_kd.study import collect, comparing, store, training
from coco1k_kd.study.arms import RANDOM, WEIGHT0, Arm, Key, read_arm
from coco1k_kd.study.hours import Hours
from coco1k_kd.study.plan import Study
from coco1k_kd.study.settings import Settings


def made(**settings: Any) -> Study:
    """A study of no files."""
    split = Split(Path("/data/annotations/x.json"), Path("/data/images/x"), tuple(f"{i}.jpg" for i in range(100)))
    weights = Weights("/w/student.pt", "0" * 64, ("a", "b"), 1000, (8, 16, 32))
    chosen = Settings(data=Path("/data/coco1k.yaml"), **{"seeds": [0], **settings}).checked()
    data = Data(Path("/data/coco1k.yaml"), Path("/data"), ("a", "b"), split, split)
    return Study(chosen, data, weights, weights, Path("/project"), "20260101_120000")


def arms_of(*names: str) -> list[Arm]:
    controls = {arm.name: arm for arm in (WEIGHT0, RANDOM)}
    return [controls.get(name) or read_arm(name) for name in names]


def run(name: str, draw: int = 0, seed: int = 0) -> Key:
    """A run of the arm of this name."""
    return arms_of(name)[0], (draw, seed)


def pairs(plan: Study, *names: str) -> list[tuple[str, str]]:
    """The names of the arms that are compared."""
    return [(arm.name, against.name) for arm, against in comparing.pairs(plan, arms_of(*names))]


def specs_of(plan: Study, epochs: int = 7) -> dict[str, TrainSpec]:
    """The specs by the names of the arms."""
    return {arm.name: plan.spec(arm, replicate, epochs) for arm, replicate in plan.plan()}


def test_runs_go_seed_by_seed_and_the_timed_baseline_comes_last() -> None:
    arms = ["baseline_same_time", "cwd", "ultralytics"]
    plan = made(arms=arms, seeds=[3, 5], controls=True).plan()
    assert [(arm.name, replicate) for arm, replicate in plan] == [
        *[("baseline", (0, 3)), ("cwd", (0, 3)), ("ultralytics", (0, 3))],
        *[("baseline", (0, 5)), ("cwd", (0, 5)), ("ultralytics", (0, 5))],
        *[("weight0", (0, 3)), ("random_teacher", (0, 3)), ("random_teacher", (0, 5))],
        *[("baseline_same_time", (0, 3)), ("baseline_same_time", (0, 5))],
    ]


def test_ours_are_compared_with_the_baseline_and_with_ultralytics_own() -> None:
    arms = ["baseline", "cwd", "mgd", "ultralytics", "baseline_same_time"]
    assert pairs(made(arms=arms, loss="mgd"), *arms) == [
        *(("cwd", "baseline"), ("mgd", "baseline"), ("ultralytics", "baseline")),
        *(("cwd", "ultralytics"), ("mgd", "ultralytics"), ("mgd", "baseline_same_time")),
    ]


def test_a_sum_is_compared_with_each_of_its_losses() -> None:
    arms = ["baseline", "cwd", "response", "cwd+response", "cwd+response:weight=1"]
    found = pairs(made(arms=arms), *arms)
    assert found[len(arms) - 1 :] == [
        *(("cwd+response", "cwd"), ("cwd+response", "response")),
        ("cwd+response:weight=1", "cwd+response"),
    ]
    assert pairs(made(arms=arms), "baseline", "cwd+response") == [("cwd+response", "baseline")]
    assert all(against.name == "baseline" for _, against in comparing.asked_for(made(arms=arms)))


def test_folders_have_the_names_of_the_contract() -> None:
    one, several = made(), made(seeds=[0, 1])
    assert one.folder(*run("baseline")) == Path("/project/baseline_20260101_120000")
    assert one.folder(*run("cwd")) == Path("/project/kd_cwd_20260101_120000")
    assert several.folder(*run("cwd", seed=1)) == Path("/project/kd_cwd_20260101_120000_seed1")
    assert several.folder(*run("weight0")) == Path("/project/control_weight0_20260101_120000_seed0")
    assert several.folder(*run("cwd", draw=2, seed=1)) == Path("/project/kd_cwd_20260101_120000_draw2_seed1")


def test_a_spec_is_plain_data_and_differs_between_arms_in_the_distillation_alone() -> None:
    plan = made(arms=["cwd", "ultralytics"], controls=True, distillation_weight=2.0)
    specs = specs_of(plan)
    assert all(msgspec.json.decode(msgspec.json.encode(spec), type=TrainSpec) == spec for spec in specs.values())
    for spec in specs.values():
        assert spec.train_args == specs["baseline"].train_args
        assert spec.student == "/w/student.pt"
    assert specs["baseline"].teacher is None and specs["baseline"].distillation is None
    chosen = {arm: (spec.distillation, spec.distillation_settings) for arm, spec in specs.items() if arm != "baseline"}
    assert chosen == {
        "cwd": ("cwd", {"weight": 2.0}),
        "ultralytics": ("ultralytics", {}),
        "weight0": ("cwd", {"weight": 0.0}),
        "random_teacher": ("cwd", {"weight": 2.0}),
    }
    assert [arm for arm, spec in specs.items() if spec.random_teacher] == ["random_teacher"]
    fixed = specs["cwd"].train_args
    assert (fixed["epochs"], fixed["patience"], fixed["deterministic"], fixed["optimizer"]) == (7, 0, True, "AdamW")


def test_values_are_read_as_ultralytics_reads_them() -> None:
    chosen = made(train=["lr0=1e-3", "cache=ram", "cos_lr=True", "optimizer=SGD"]).spec(*run("baseline"), 7)
    wanted = {"lr0": 0.001, "cache": "ram", "cos_lr": True, "optimizer": "SGD"}
    assert {key: chosen.train_args[key] for key in wanted} == wanted


@pytest.mark.parametrize(("loss", "arms", "taught"), [("cwd", ["mgd"], "mgd"), ("mgd", ["cwd", "mgd"], "mgd")])
def test_controls_distil_with_a_loss_that_is_compared(loss: str, arms: list[str], taught: str) -> None:
    plan = made(loss=loss, arms=arms, controls=True)
    specs = specs_of(plan)
    assert {specs[arm].distillation for arm in ("weight0", "random_teacher")} == {taught}
    assert (taught, "random_teacher") in pairs(plan, "baseline", *arms, "random_teacher")


def test_a_partial_start_is_the_same_for_all_arms_and_can_be_set_otherwise() -> None:
    plan = made(arms=["cwd"], start="backbone", student="s.pt", batch=8, train=["lr0=0.005", "cos_lr=True"])
    baseline, cwd = specs_of(plan).values()
    assert baseline.start == cwd.start == "backbone" and baseline.train_args == cwd.train_args
    wanted = {"nbs": 8, "optimizer": "AdamW", "lr0": 0.005, "warmup_epochs": 1.0, "cos_lr": True}
    assert {key: cwd.train_args[key] for key in wanted} == wanted
    assert "nbs" not in made().spec(*run("baseline"), 7).train_args
    warmed = {start: made(start=start, student="s.pt").spec(*run("baseline"), 7).train_args for start in STARTS}
    biases = {start: (args["momentum"], args["warmup_bias_lr"]) for start, args in warmed.items()}
    assert biases == {"weights": (0.9, 0.0), "frozen": (0.937, 0.1), "neck": (0.9, 0.0), "backbone": (0.9, 0.0)}
    assert (baseline.distillation_settings, cwd.distillation_settings) == ({}, {"weight": 3.0})
    chosen = made(arms=["mgd"], start="neck", student="s.pt", distillation_weight=2.0)
    assert chosen.spec(*run("mgd"), 7).distillation_settings == {"weight": 2.0}


def test_arms_with_settings_of_their_own() -> None:
    plan = made(
        arms=["mgd:mask_ratio=0.4", "ultralytics", "cwd:weight=auto:levels=16,32", "CWD"], start="neck", student="s.pt"
    )
    arms = [arm.name for arm in plan.arms]
    assert arms == ["baseline", "cwd", "cwd:weight=auto:levels=16,32", "mgd:mask_ratio=0.4", "ultralytics"]
    specs = specs_of(plan)
    assert {arm: (spec.distillation, spec.distillation_settings) for arm, spec in specs.items()} == {
        "baseline": (None, {}),
        "cwd": ("cwd", {"weight": 3.0}),
        "cwd:weight=auto:levels=16,32": ("cwd", {"weight": "auto", "levels": "16,32"}),
        "mgd:mask_ratio=0.4": ("mgd", {"weight": 12.0, "mask_ratio": "0.4"}),
        "ultralytics": ("ultralytics", {}),
    }
    assert all(spec.train_args == specs["baseline"].train_args for spec in specs.values())
    assert plan.folder(*run(arms[2])).name == "kd_cwd_weight=auto_levels=16,32_20260101_120000"
    found = pairs(plan, *arms)
    assert ("cwd:weight=auto:levels=16,32", "cwd") in found and ("mgd:mask_ratio=0.4", "mgd") not in found
    assert all((arm, against) in found for arm in arms[1:4] for against in ("baseline", "ultralytics"))


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("cwd:tau", "arm cwd:tau: settings are given as cwd:SETTING=VALUE"),
        ("cwd:taecher=x", "unknown setting 'taecher' (did you mean teacher?): choose of weight, schedule, tau,"),
        ("cwd:tau=0", "distillation_tau='0' must be above 0"),
        ("mgd:levels=x", "distillation_levels='x' must be strides, as 16,32"),
        ("baseline:tau=2", "arm baseline:tau=2: only arms of a loss take settings"),
        ("kl:tau=2", "unknown arm kl"),
    ],
)
def test_unfit_settings_of_an_arm_are_refused(arm: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        made(arms=[arm])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "nowhere"}, "unknown --start nowhere: choose of weights, frozen, neck, backbone"),
        ({"start": "backbone", "student": "yolo11n.yaml"}, "no weights to keep"),
        ({"train": ["lr=0.1"]}, "--train lr=0.1: did you mean cos_lr or lr0 or lrf?"),
        ({"train": ["moment=0.1"]}, "--train moment=0.1: did you mean momentum"),
        ({"train": ["lr0"]}, "--train lr0: did you mean lr0"),
        ({"train": ["zzz=1"]}, "give KEY=VALUE"),
        ({"train": ["epochs=3"]}, "a study settles that itself"),
        ({"train": ["lr0=0.1", "lr0=0.2"]}, "given twice"),
        ({"train": ["lr0=fast"]}, "--train: 'lr0=fast'"),
        ({"train": ["nbs=[1"]}, "--train: 'nbs=[1'"),
        ({"train": ["optimizer=auto"]}, "--train optimizer=auto: a study pins the optimizer"),
        ({"train": ["optimizer=SGD"]}, "--train optimizer=SGD: give lr0=, too"),
        ({"train": ["split=train"]}, "a study settles that itself"),
        ({"train": ["compile=True"], "arms": ["cwd", "ultralytics"]}, "--train compile: the arm ultralytics cannot be"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        made(**settings)
    assert message in str(refusal.value)


@pytest.mark.parametrize(("seconds", "epochs"), [(180.0, 18), (104.0, 10), (50.0, 10)])
def test_the_timed_baseline_gets_as_many_epochs_as_fit_into_the_distilled_arms_time(
    seconds: float, epochs: int
) -> None:
    plan = made(arms=["mgd", "cwd", "baseline_same_time"], loss="mgd", seeds=[0, 1], epochs=10)
    took = {"baseline": 100.0, "mgd": seconds, "cwd": 900.0}
    results = {run(arm, seed=seed): timed(took[arm] + seed) for arm in took for seed in (0, 1)}
    assert training.same_time_epochs(plan, results) == epochs


def test_runs_that_shared_cores_are_timed_by_the_cores() -> None:
    plan = made(arms=["cwd", "baseline_same_time"], seeds=[0], epochs=10)
    clock, cores = {"baseline": 100.0, "cwd": 300.0}, {"baseline": 50.0, "cwd": 80.0}

    def epochs(at_once: int, cpu: bool) -> int:
        runs = {
            run(arm): structs.replace(timed(clock[arm]), at_once=at_once, cpu_seconds=cores[arm] if cpu else None)
            for arm in clock
        }
        return training.same_time_epochs(plan, runs)

    assert epochs(at_once=2, cpu=True) == 16, "the clock of each run counted the other's work as well"
    assert epochs(at_once=1, cpu=True) == 30, "a run alone is timed by the clock"
    assert epochs(at_once=2, cpu=False) == 30, "on GPUs there is nothing but the clock"


def timed(seconds: float) -> Result:
    return Result(train_seconds=seconds, seconds=seconds, ultralytics={}, ultralytics_last={}, work={})


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


@pytest.mark.parametrize(
    ("shift", "device", "d_ap", "passed"),
    [(0.0, "cpu", 0.0, True), (0.1, "cpu", 0.0, False), (0.1, "H100", 0.002, True), (0.1, "H100", 0.01, False)],
)
def test_weight_0_that_is_not_the_baseline_fails(
    shift: float, device: str, d_ap: float, passed: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = YOLO("yolo11n.yaml")
    plan = SimpleNamespace(folder=lambda arm, replicate: tmp_path / arm.name, controlled=read_arm("cwd"))
    for arm, moved in (("baseline", 0.0), ("weight0", shift)):
        with torch.no_grad():
            next(model.model.parameters()).add_(moved)
        (tmp_path / arm / "weights").mkdir(parents=True)
        model.save(tmp_path / arm / "weights" / "last.pt")
    runs = {
        run(arm): SimpleNamespace(ap_last=0.3 + d_ap * (arm == "weight0"), dir=arm) for arm in ("baseline", "weight0")
    }
    found = collect._weight0(plan, runs, (0, 0), device)
    assert found.passed is passed
    assert (found.state_difference == 0) is (shift == 0)


def begun(project: Path, stamp: str, finished: bool = False, **settings: Any) -> Study:
    """A study whose record lies in `project`; `finished`: also its comparison."""
    plan = replace(made(**settings), project=project, stamp=stamp)
    (project / f"study_{stamp}.json").write_text(json.dumps(plan.record(), default=str))
    if finished:
        (project / f"comparison_{stamp}.json").write_text('{"design": {"stopped": "fixed"}}')
    return plan


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project; the data of its studies are not read."""
    monkeypatch.setattr(Data, "record", lambda self: {"train_images": 100, "val_annotations_sha256": "0" * 64})
    return tmp_path


def asked(project: Path, **settings: Any) -> Study | None:
    """What --resume finds for these settings."""
    return store.find(replace(made(**settings), project=project, stamp=""))


def test_the_study_that_matches_is_found_and_no_other(shelf: Path) -> None:
    assert asked(shelf, epochs=5) is None
    for number, epochs in ((1, 5), (2, 6), (3, 5)):
        begun(shelf, f"20260101_00000{number}", epochs=epochs)
    assert asked(shelf, epochs=5).stamp == "20260101_000003"
    ended = '{"design": {"stopped": "fixed"}}'
    (shelf / "comparison_20260101_000003.json").write_text(ended)
    assert asked(shelf, epochs=5).stamp == "20260101_000001", "an unfinished one goes before a finished one"
    (shelf / "comparison_20260101_000001.json").write_text(ended)
    assert asked(shelf, epochs=5).stamp == "20260101_000003", "all done: the newest, to be reported again"
    assert asked(shelf, epochs=7) is None, "other settings are another study"


@pytest.mark.parametrize(
    "more", [{"seeds": [1, 0, 4]}, {"draws": 2}, {"arms": ["cwd", "mgd"]}, {"controls": True}, {"seeds": [0, 1, 2]}]
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_resume_adds_to_a_study_and_keeps_its_runs(shelf: Path, more: dict[str, Any], finished: bool) -> None:
    first = begun(shelf, "20260101_000001", finished, seeds=[0, 1])
    plan = store.begin(asked(shelf, **{"seeds": [0, 1], **more}))
    assert plan.base.stamp == first.stamp != plan.stamp
    assert set(first.plan()) < set(plan.plan())
    for key in plan.plan():
        kept = key in first.plan()
        assert plan.folder(*key) == (first.folder(*key) if kept else replace(plan, base=None).folder(*key))
    again = asked(shelf, **{"seeds": [0, 1], **more})
    assert again.stamp == plan.stamp and [again.folder(*key) for key in again.plan()] == [
        plan.folder(*key) for key in plan.plan()
    ]
    third = asked(shelf, **{"seeds": [0, 1], **more, "arms": ["cwd", "mgd", "ultralytics"]})
    assert third.base.base.stamp == first.stamp and third.folder(*run("cwd", seed=1)) == first.folder(
        *run("cwd", seed=1)
    )
    with store.locked(plan), pytest.raises(UserError, match="another process"), store.locked(first):
        pass


def test_a_baseline_alone_gets_arms_with_a_teacher(shelf: Path) -> None:
    lone = replace(made(arms=["baseline"]), project=shelf, stamp="20260101_000001", teacher=None)
    (shelf / "study_20260101_000001.json").write_text(json.dumps(lone.record(), default=str))
    assert asked(shelf, arms=["cwd"]).base.stamp == lone.stamp


@pytest.mark.parametrize("less", [{"seeds": [0]}, {"arms": ["baseline"]}, {"seeds": [0, 2]}, {"epochs": 3}])
def test_a_resume_leaves_nothing_out(shelf: Path, less: dict[str, Any]) -> None:
    begun(shelf, "20260101_000001", seeds=[0, 1], draws=1)
    assert asked(shelf, **{"seeds": [0, 1], **less}) is None


def test_two_processes_cannot_do_the_same_study(shelf: Path) -> None:
    plan = begun(shelf, "20260101_000001")
    with store.locked(plan), pytest.raises(UserError, match="another process"), store.locked(plan):
        pass


def test_every_draw_has_its_own_data_and_folder() -> None:
    plan = made(arms=["cwd"], draws=2, controls=True, seeds=[0])
    other = replace(plan.data, yaml=Path("/draws/1/coco1k.yaml"))
    plan = replace(plan, further=(other,))
    specs = {key: plan.spec(*key, 3) for key in plan.plan()}
    assert [key for key in specs if key[0].name == "cwd"] == [run("cwd"), run("cwd", draw=1)]
    for (_, (draw, _)), spec in specs.items():
        assert spec.train_args["data"] == str(plan.drawn[draw].yaml)
        assert spec.annotations == str(plan.data.val.annotations), "one val set measures all"
        assert ("_draw1" in spec.folder) == (draw == 1)
    assert other.yaml in plan.files() and plan.data.yaml in plan.files()


def test_the_timed_baseline_keeps_the_epochs_that_it_began_with(tmp_path: Path) -> None:
    plan = replace(made(arms=["cwd", "baseline_same_time"], seeds=[0, 1], epochs=10), project=tmp_path)
    results = {run(arm, seed=seed): timed(time) for arm, time in (("baseline", 1), ("cwd", 3)) for seed in (0, 1)}
    assert training.same_time_epochs(plan, results) == 30
    key = run("baseline_same_time")
    write(plan.folder(*key) / SPEC, plan.spec(*key, 27))
    assert training.same_time_epochs(plan, results) == 27
