"""Times of models and of exported files, as Ultralytics takes them apart by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ultralytics.nn.autobackend import AutoBackend

from coco1k_kd.runs import speed
from coco1k_kd.runs.formats import FORMATS

ENDS = {"openvino": "_openvino_model", "ncnn": "_ncnn_model", "coreml": ".mlpackage", "onnx": ".onnx"}


@pytest.mark.parametrize("name", ENDS)
def test_a_file_of_any_format_is_timed_also_where_it_is_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics asks for a suffix where it is given a `Path`, and OpenVINO's folder has none."""
    taken: list[str] = []

    def backend(model: str | Path, **_: object) -> torch.nn.Module:
        taken.append(AutoBackend._model_type(model))
        network = torch.nn.Identity()
        network.fp16 = False
        return network

    monkeypatch.setattr(speed, "AutoBackend", backend)
    monkeypatch.setattr(speed, "_SECONDS", 0)
    assert speed.milliseconds(tmp_path / f"student{ENDS[name]}", 32, "cpu") >= 0
    assert taken == [name] and name in FORMATS
