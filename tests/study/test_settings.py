"""Settings that cannot be are refused before anything is read."""

from __future__ import annotations

from typing import Any

import pytest
from plans import made

from coco1k_kd.errors import UserError


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
