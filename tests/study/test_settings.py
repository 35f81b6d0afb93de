"""Settings that cannot be are refused before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans import made

from coco1k_kd.errors import UserError
from coco1k_kd.study.settings import Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": ["cwd:tau=0"]}, "distillation_tau='0' must be above 0"),
        ({"start": "nowhere"}, "unknown --start nowhere: choose of weights, frozen, neck, backbone"),
        ({"start": "backbone", "student": "yolo11n.yaml"}, "no weights to keep"),
        ({"train": ["lr=0.1"]}, "--train lr=0.1: did you mean cos_lr or lr0 or lrf?"),
        ({"train": ["moment=0.1"]}, "--train moment=0.1: did you mean momentum"),
        ({"train": ["lr0"]}, "--train lr0: did you mean lr0"),
        ({"train": ["zzz=1"]}, "give KEY=VALUE"),
        ({"train": ["epochs=3"]}, "a study settles that itself"),
        ({"train": ["lr0=0.1", "lr0=0.2"]}, "given twice"),
        ({"train": ["cache=disk"]}, "write an array beside each of your images; take cache=ram"),
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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"loss": "kld"}, "unknown loss .kld"),
        ({"project": Path("it's")}, "--project it's: Ultralytics drops ' from paths of checkpoints"),
        ({"student": "it's/a.pt"}, "--student it's/a.pt: Ultralytics drops '"),
        ({"arms": ["baseline", "dkd"]}, "unknown arm dkd"),
        ({"arms": ["cwd", "cwd"]}, "twice"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [-1]}, "--seeds -1"),
        ({"seeds": [2**32]}, "--seeds 4294967296"),
        ({"epochs": 0}, "--epochs 0"),
        ({"batch": 0}, "--batch 0"),
        ({"imgsz": 100}, "multiple of 32"),
        ({"imgsz": 0}, "multiple of 32"),
        ({"workers": -1}, "--workers -1"),
        ({"distillation_weight": float("nan")}, "--distillation-weight nan"),
        ({"arms": ["baseline", "baseline_same_time"]}, "add an arm that distils"),
        ({"device": "0,0"}, "--device 0,0: several GPUs are given by their numbers, each once: 0,1"),
        ({"device": "0,x"}, "--device 0,x: several GPUs"),
        ({"device": "cpu,0"}, "--device cpu,0: several GPUs"),
        ({"device": "0,"}, "--device 0,: several GPUs"),
        ({"device": "0,1,2"}, "--batch 16: 3 devices cannot have equal shares of it"),
    ],
)
def test_what_no_study_can_have_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Settings(data=Path("coco1k.yaml"), **change).checked()


def test_the_baseline_is_always_there_and_capitals_do_not_matter() -> None:
    for given, wanted in (
        ({"loss": "MGD"}, ["baseline", "mgd"]),
        ({"arms": ["CWD", "ultralytics"]}, ["baseline", "cwd", "ultralytics"]),
    ):
        assert [arm.name for arm in Settings(data=Path("x"), **given).checked().arms] == wanted
