"""A checkpoint's detections on the val images, by stock Ultralytics validation, as a COCO results file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionValidator

from coco1k_kd.data.annotations import read
from coco1k_kd.distill.response import shared_classes
from coco1k_kd.errors import UserError
from coco1k_kd.files import write_atomic
from coco1k_kd.runs.record import state_hash


class CocoValidator(DetectionValidator):
    """Stock validation that keeps every detection, with the ids of a COCO annotation file.

    `image_ids`: of the images by their paths. Ultralytics' own `save_json` writes category ids of its own and numbers
    the images itself. `numbers`: the data's class by the model's, where these are others; the rest is dropped.
    """

    def __init__(
        self, image_ids: dict[str, int], category_ids: list[int], numbers: dict[int, int] | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.image_ids, self.category_ids, self.numbers = image_ids, category_ids, numbers
        self.results: list[dict[str, Any]] = []

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)
        if self.numbers is not None:
            self.names = self.metrics.names = self.data["names"]

    def update_metrics(self, preds: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        if self.numbers is not None:
            preds = [self._known(pred, self.numbers) for pred in preds]
        super().update_metrics(preds, batch)
        for index, pred in enumerate(preds):
            image = self._prepare_batch(index, batch)
            scaled = self.scale_preds(self._prepare_pred(pred), image)
            image_id = self.image_ids[image["im_file"]]
            rows = zip(*(scaled[name].tolist() for name in ("bboxes", "conf", "cls")), strict=True)
            self.results += [
                {
                    "image_id": image_id,
                    "category_id": self.category_ids[int(label)],
                    "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
                    "score": round(score, 6),
                }
                for (x1, y1, x2, y2), score, label in rows
            ]

    @staticmethod
    def _known(pred: dict[str, Any], numbers: dict[int, int]) -> dict[str, Any]:
        """The detections of known classes, with the data's numbers."""
        kept = [row for row, label in enumerate(pred["cls"].tolist()) if int(label) in numbers]
        found = {key: value[kept] for key, value in pred.items()}
        found["cls"] = found["cls"].new_tensor([numbers[int(label)] for label in found["cls"].tolist()])
        return found


def predict_each(
    weights: Mapping[str, str], annotations: Path, images: Path, folder: Path, by_name: bool = False, **settings: Any
) -> dict[str, dict[str, float]]:
    """`predict` of checkpoints by name, into predictions_<name>.json of `folder`; equal weights predict once."""
    figures: dict[str, dict[str, float]] = {}
    names: dict[str, str] = {}  # by the hash of the weights
    for name, checkpoint in weights.items():
        model, output = YOLO(checkpoint), folder / f"predictions_{name}.json"
        first = names.setdefault(state_hash(model.model), name)
        if first == name:
            figures[name] = predict(model, annotations, images, output, by_name, **settings)
        else:
            figures[name] = figures[first]
            write_atomic(output, (folder / f"predictions_{first}.json").read_bytes())
    return figures


def predict(
    model: YOLO, annotations: Path, images: Path, output: Path, by_name: bool = False, **settings: Any
) -> dict[str, float]:
    """Validate `model` and write every detection (confidence >= 0.001) to `output` in COCO results format.

    Args:
        model: a detector whose classes are those of `annotations`, in order of category id.
        annotations: COCO annotation file of the val images.
        images: folder that its file names are relative to.
        output: the COCO results file, written atomically.
        by_name: the model has other classes, of which those with a name of the annotations count.
        settings: `data`, `imgsz`, `batch`, `device`, `workers` for Ultralytics.

    Returns:
        Ultralytics' own figures: `map50`, `map50_95` (fractions).

    Raises:
        UserError: some of the images cannot be read.
    """
    truth = read(annotations).truth()
    folders = {images, images.resolve()}  # Ultralytics resolves a folder, and not the lines of a text file
    image_ids = {str(folder / image["file_name"]): image["id"] for folder in folders for image in truth["images"]}
    category_ids = [category["id"] for category in truth["categories"]]
    names = {number: category["name"] for number, category in enumerate(truth["categories"])}
    numbers = {theirs: ours for ours, theirs in shared_classes(names, model.names)} if by_name else None
    validators: list[CocoValidator] = []

    def build(**kwargs: Any) -> CocoValidator:
        validators.append(CocoValidator(image_ids, category_ids, numbers, **kwargs))
        return validators[-1]

    metrics = model.val(
        validator=build, conf=0.001, plots=False, verbose=False, save_dir=str(output.parent), split="val", **settings
    )
    if (seen := validators[-1].seen) != len(truth["images"]):  # Ultralytics leaves out what it cannot read
        raise UserError(
            f"{seen} of the {len(truth['images'])} images of {annotations} can be evaluated: the rest are damaged"
        )
    write_atomic(output, json.dumps(validators[-1].results))
    return {"map50": float(metrics.box.map50), "map50_95": float(metrics.box.map)}
