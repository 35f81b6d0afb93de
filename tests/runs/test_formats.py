"""Formats of exported models: Ultralytics' own, and what each needs."""

from __future__ import annotations

import pytest
from ultralytics.engine import exporter

from coco1k_kd.errors import UserError
from coco1k_kd.runs import formats
from coco1k_kd.study.settings import Settings


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["onx"], "choose of onnx, openvino"),
        (["onnx", "onnx"], "twice"),
        (["onnx:int4"], "give onnx or onnx:half or onnx:int8"),
        (["torchscript:int8"], "give torchscript or torchscript:half$"),
        (["torchscript:half"], "on a CUDA GPU only"),
        (["coreml"], "pip install coremltools"),
        (["onnx", "engine"], "pip install tensorrt"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_line(asked: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ("coremltools", "tensorrt")
    monkeypatch.setattr(formats, "find_spec", lambda package: None if package in missing else package)
    with pytest.raises(UserError, match=said) as caught:
        Settings(export=asked, device="cpu").checked()
    assert "\n" not in str(caught.value) and str(caught.value).startswith("--export")


def test_formats_and_precisions_are_ultralytics_own() -> None:
    listed = exporter.export_formats()
    for name, needs in formats.FORMATS.items():
        assert name in listed["Argument"] and name in exporter.FP16_FORMATS
        assert (name in exporter.INT8_FORMATS) == (needs.int8 is not None)
        assert dict(zip(listed["Argument"], listed["CPU"], strict=True))[name] != needs.gpu
