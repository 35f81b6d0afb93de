"""Checkpoints become predictions: each by its own weights, and equal weights once."""

from __future__ import annotations

from pathlib import Path

import pytest
from ultralytics import YOLO

from coco1k_kd.errors import UserError
from coco1k_kd.runs import predict
from coco1k_kd.runs.predict import predict_each


def test_equal_weights_predict_once(
    models: Path, subset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = subset / "annotations" / "instances_val2017.json", (subset / "images" / "val2017").resolve()
    settings = {"data": str(subset / "coco1k.yaml"), "imgsz": 32, "batch": 8, "device": "cpu", "workers": 0}
    weights = {"best": "student", "last": "student", "other": "teacher"}
    weights = {name: str(models / f"{model}.pt") for name, model in weights.items()}
    called: list[str] = []
    plain = predict.predict
    monkeypatch.setattr(predict, "predict", lambda *args, **more: called.append(args[3].name) or plain(*args, **more))
    figures = predict_each(weights, *truth, tmp_path, **settings)
    assert called == ["predictions_best.json", "predictions_other.json"]
    best, last, other = ((tmp_path / f"predictions_{name}.json").read_bytes() for name in weights)
    assert best == last != other
    assert figures["best"] == figures["last"] != figures["other"]


def test_an_image_that_is_not_evaluated_is_no_silent_zero(subset_to_spoil: Path, models: Path, tmp_path: Path) -> None:
    path = min((subset_to_spoil / "images/val2017").iterdir())
    path.unlink()
    path.write_text("")
    settings = {"data": str(subset_to_spoil / "coco1k.yaml"), "imgsz": 32, "batch": 8, "device": "cpu", "workers": 0}
    with pytest.raises(UserError, match="23 of the 24 images"):
        predict.predict(
            YOLO(str(models / "student.pt")),
            subset_to_spoil / "annotations/instances_val2017.json",
            (subset_to_spoil / "images/val2017").resolve(),
            tmp_path / "predictions.json",
            **settings,
        )
    assert not (tmp_path / "predictions.json").exists()
