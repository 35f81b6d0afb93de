"""Studies of no files, for tests of what is planned; nothing is trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.distill.weights import Weights
from coco1k_kd.runs.spec import Result, TrainSpec
from coco1k_kd.study import comparing
from coco1k_kd.study.arms import RANDOM, WEIGHT0, Arm, Key, read_arm
from coco1k_kd.study.plan import Study
from coco1k_kd.study.settings import Settings


def made(**settings: Any) -> Study:
    """A study of no files."""
    split = Split(
        SimpleNamespace(path=Path("/data/annotations/x.json")),
        Path("/data/images/x"),
        tuple(f"{i}.jpg" for i in range(100)),
    )
    weights = Weights("/w/student.pt", "0" * 64, ("a", "b"), 1000, (8, 16, 32))
    chosen = Settings(data=Path("/data/coco1k.yaml"), **{"seeds": [0], **settings}).checked()
    data = Data(Path("/data/coco1k.yaml"), Path("/data"), ("a", "b"), split, split)
    return Study(chosen, data, weights, weights, Path("/project"), "20260101_120000")


def arms_of(*names: str) -> list[Arm]:
    controls = {arm.name: arm for arm in (WEIGHT0, RANDOM)}
    return [controls.get(name) or read_arm(name) for name in names]


def key_of(name: str, draw: int = 0, seed: int = 0) -> Key:
    """A run of the arm of this name."""
    return arms_of(name)[0], (draw, seed)


def pairs(plan: Study, *names: str) -> list[tuple[str, str]]:
    """The names of the arms that are compared."""
    return [(arm.name, against.name) for arm, against in comparing.pairs(plan, arms_of(*names))]


def specs_of(plan: Study, epochs: int = 7) -> dict[str, TrainSpec]:
    """The specs by the names of the arms."""
    return {arm.name: plan.spec(arm, replicate, epochs) for arm, replicate in plan.plan()}


def timed(seconds: float) -> Result:
    return Result(train_seconds=seconds, seconds=seconds, ultralytics={}, ultralytics_last={}, work={})
