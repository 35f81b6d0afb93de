"""Students and teachers as they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import ultralytics

from coco1k_kd.distill.weights import load_model, read_weights
from coco1k_kd.errors import UserError


@pytest.mark.parametrize(
    ("name", "role", "named"),
    [
        ("nothing.pt", "student", "cannot load the student"),
        ("yolo11n-cls.yaml", "student", "a classifier"),
        ("yolo11n-seg.yaml", "student", "task segment"),
        ("yolo11l.yaml", "teacher", "has learnt nothing"),
        ("model.onnx", "teacher", "an exported model"),
    ],
)
def test_weights_that_cannot_serve_are_refused(
    name: str, role: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=named):
        read_weights(name, role)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_model_without_a_name_for_each_class_is_refused_in_one_line(role, tmp_path):
    for names, message in (
        ({}, "has no names of classes"),
        (None, "has no names of classes"),
        ({i + 1: f"c{i}" for i in range(80)}, "numbers its 80 classes from 1"),
        ({0: "a", 1: "b"}, "numbers its 2 classes from 0, where its head has 80"),
    ):
        model = ultralytics.YOLO("yolov8n.yaml")
        model.model.names = names
        with pytest.raises(UserError, match=f"the {role} {message}.*model.model.names") as caught:
            load_model(model, role)
        assert "\n" not in str(caught.value)
    model.save(tmp_path / "unnamed.pt")
    with pytest.raises(UserError, match=f"the {role} "):
        read_weights(str(tmp_path / "unnamed.pt"), role)
    model.model.names = [f"c{i}" for i in range(80)]
    assert load_model(model, role) is model.model
