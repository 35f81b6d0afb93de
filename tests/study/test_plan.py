"""What a study will run, under which names and with which settings; and what its controls find. No training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from plans import key_of, made, pairs, specs_of

from coco1k_kd.runs.initial import STARTS
from coco1k_kd.runs.spec import TrainSpec


def test_runs_go_seed_by_seed_and_the_timed_baseline_comes_last() -> None:
    arms = ["baseline_same_time", "cwd", "ultralytics"]
    plan = made(arms=arms, seeds=[3, 5], controls=True).plan()
    assert [(arm.name, replicate) for arm, replicate in plan] == [
        *[("baseline", (0, 3)), ("cwd", (0, 3)), ("ultralytics", (0, 3))],
        *[("baseline", (0, 5)), ("cwd", (0, 5)), ("ultralytics", (0, 5))],
        *[("weight0", (0, 3)), ("random_teacher", (0, 3)), ("random_teacher", (0, 5))],
        *[("baseline_same_time", (0, 3)), ("baseline_same_time", (0, 5))],
    ]


def test_folders_have_the_names_of_the_contract() -> None:
    one, several = made(), made(seeds=[0, 1])
    assert one.folder(*key_of("baseline")) == Path("/project/baseline_20260101_120000")
    assert one.folder(*key_of("cwd")) == Path("/project/kd_cwd_20260101_120000")
    assert several.folder(*key_of("cwd", seed=1)) == Path("/project/kd_cwd_20260101_120000_seed1")
    assert several.folder(*key_of("weight0")) == Path("/project/control_weight0_20260101_120000_seed0")
    assert several.folder(*key_of("cwd", draw=2, seed=1)) == Path("/project/kd_cwd_20260101_120000_draw2_seed1")


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
    chosen = made(train=["lr0=1e-3", "cache=ram", "cos_lr=True", "optimizer=SGD"]).spec(*key_of("baseline"), 7)
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
    assert "nbs" not in made().spec(*key_of("baseline"), 7).train_args
    warmed = {start: made(start=start, student="s.pt").spec(*key_of("baseline"), 7).train_args for start in STARTS}
    biases = {start: (args["momentum"], args["warmup_bias_lr"]) for start, args in warmed.items()}
    assert biases == {"weights": (0.9, 0.0), "frozen": (0.937, 0.1), "neck": (0.9, 0.0), "backbone": (0.9, 0.0)}
    assert (baseline.distillation_settings, cwd.distillation_settings) == ({}, {"weight": 3.0})
    chosen = made(arms=["mgd"], start="neck", student="s.pt", distillation_weight=2.0)
    assert chosen.spec(*key_of("mgd"), 7).distillation_settings == {"weight": 2.0}


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
    assert plan.folder(*key_of(arms[2])).name == "kd_cwd_weight=auto_levels=16,32_20260101_120000"
    found = pairs(plan, *arms)
    assert ("cwd:weight=auto:levels=16,32", "cwd") in found and ("mgd:mask_ratio=0.4", "mgd") not in found
    assert all((arm, against) in found for arm in arms[1:4] for against in ("baseline", "ultralytics"))


def test_every_draw_has_its_own_data_and_folder() -> None:
    plan = made(arms=["cwd"], draws=2, controls=True, seeds=[0])
    other = replace(plan.data, yaml=Path("/draws/1/coco1k.yaml"))
    plan = replace(plan, further=(other,))
    specs = {key: plan.spec(*key, 3) for key in plan.plan()}
    assert [key for key in specs if key[0].name == "cwd"] == [key_of("cwd"), key_of("cwd", draw=1)]
    for (_, (draw, _)), spec in specs.items():
        assert spec.train_args["data"] == str(plan.drawn[draw].yaml)
        assert spec.annotations == str(plan.data.val.annotations), "one val set measures all"
        assert ("_draw1" in spec.folder) == (draw == 1)
    assert other.yaml in plan.files() and plan.data.yaml in plan.files()
