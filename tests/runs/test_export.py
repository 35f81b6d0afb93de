"""A checkpoint as a file of another format."""

from __future__ import annotations

from pathlib import Path

import pytest
from ultralytics import YOLO

from coco1k_kd.runs.export import export
from coco1k_kd.runs.predict import predict
from coco1k_kd.runs.spec import PREDICTIONS, ExportSpec
from coco1k_kd.verdict.matching import coco_metrics

VAL = "annotations/instances_val2017.json"


@pytest.mark.parametrize("format", ["torchscript", "onnx:half", "openvino"])
def test_the_file_finds_what_its_checkpoint_finds(format: str, models: Path, subset: Path, tmp_path: Path) -> None:
    if format == "openvino":
        pytest.importorskip("openvino")
    args = {"data": str(subset / "coco1k.yaml"), "imgsz": 64, "batch": 8, "device": "cpu", "workers": 0}
    given = {"annotations": str(subset / VAL), "images": str(subset / "images" / "val2017")}
    checkpoint = models / "student.pt"
    spec = ExportSpec(
        folder=str(tmp_path), weights=str(checkpoint), format=format, calibration="", val_args=args, **given
    )
    made = export(spec)
    ends = {"torchscript": ".torchscript", "onnx:half": ".onnx", "openvino": "_openvino_model"}
    assert made.file == "student" + ends[format] and checkpoint.exists()
    places = {name: Path(path) for name, path in given.items()}
    predict(YOLO(checkpoint), output=tmp_path / "checkpoint.json", rect=False, **places, **args)  # a file's are square
    ap, expected = (coco_metrics(subset / VAL, tmp_path / name)["ap"] for name in (PREDICTIONS, "checkpoint.json"))
    rough = 1e-2 if format == "torchscript" else 0.3  # OpenVINO, too, computes in 16 bits on a CPU that has them
    assert expected > 0 and ap == pytest.approx(expected, rel=rough)
