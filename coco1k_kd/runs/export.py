"""A checkpoint exported by Ultralytics, then judged and timed as the file that would be shipped."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ultralytics import YOLO

from coco1k_kd.runs.formats import read_format
from coco1k_kd.runs.predict import predict
from coco1k_kd.runs.spec import PREDICTIONS, Exported, ExportSpec
from coco1k_kd.runs.speed import milliseconds

_NAME = "student"  # of the exported file
_MB = 1e6


def export(spec: ExportSpec) -> Exported:
    """Export a checkpoint into the spec's folder; the file's detections on the images go to predictions.json."""
    folder = Path(spec.folder)
    name, precision = read_format(spec.format)
    imgsz, device = spec.val_args["imgsz"], spec.val_args["device"]
    copy = folder / f"{_NAME}.pt"  # Ultralytics writes beside the checkpoint, where other formats have the same names
    shutil.copyfile(spec.weights, copy)
    options = {precision: True} if precision else {}
    if precision == "int8":
        options |= {"data": spec.calibration, "split": "train"}
    try:
        file = Path(YOLO(copy).export(format=name, imgsz=imgsz, device=device, verbose=False, **options))
    finally:
        copy.unlink()
    half = {"half": True} if precision == "half" else {}
    settings = {**spec.val_args, **half}
    predict(YOLO(file, task="detect"), Path(spec.annotations), Path(spec.images), folder / PREDICTIONS, **settings)
    return Exported(
        file=file.name,
        megabytes=_size(file) / _MB,
        ms_per_image=milliseconds(file, imgsz, device or "", bool(half)),
        seconds=time.monotonic() - spec.launched,
    )


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
