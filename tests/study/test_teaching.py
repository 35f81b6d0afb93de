"""A teacher that labels chooses its resolution and its thresholds on labelled val images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco1k_kd.data.dataset import Data
from coco1k_kd.data.given import open_data
from coco1k_kd.data.pool import readable
from coco1k_kd.distill.weights import Weights, read_weights
from coco1k_kd.errors import UserError
from coco1k_kd.study.hyperparameters import check_imgsz
from coco1k_kd.study.teaching import Labeller, best_imgsz, classes_of_labels


@pytest.fixture(scope="module")
def data(subset: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(subset / "coco1k.yaml", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teacher(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The teacher of all tests, as if it was trained at 64 pixels."""
    checkpoint = torch.load(models / "teacher.pt", weights_only=False)
    checkpoint["train_args"] = {"imgsz": 64}  # what Ultralytics takes a model's own settings from
    file = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save(checkpoint, file)
    return read_weights(str(file), "teacher")


def labeller(teacher: Weights, data: Data, folder: Path) -> Labeller:
    return Labeller(teacher, classes_of_labels(teacher, data.classes, ())[1], folder, "cpu", 8)


def test_the_resolution_is_the_one_of_the_best_ap(teacher: Weights, data: Data, tmp_path: Path) -> None:
    ours = labeller(teacher, data, tmp_path)
    aps = ours.aps(data.val)
    assert next(iter(aps)) == 64 and set(aps) <= {32, 64, 96} and len(aps) > 1
    assert aps[best_imgsz(aps)] == max(aps.values()) > 0
    assert best_imgsz({64: 0.25, 32: 0.25, 96: 0.1}) == 32
    content = json.loads((tmp_path / "boxes_64.json").read_bytes())
    assert content["seconds"] > 0 and len(content["images"]) == data.val.size
    truth = COCO(str(data.val.annotations))
    ids = sorted(truth.getCatIds())
    pictures = {image["file_name"]: image["id"] for image in truth.dataset["images"]}
    images = {image.file: image for image in readable(data.val.files)}
    found = [
        {"image_id": pictures[file.name], "category_id": ids[int(row[0])], "score": row[1], "bbox": row[2:].tolist()}
        for file, image in images.items()
        for row in ours.boxes(image.sha256, 64)
    ]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert aps[64] == pytest.approx(evaluation.stats[0], abs=1e-9)
    again = labeller(teacher, data, tmp_path)
    assert again.aps(data.val) == aps  # from what is kept
    assert json.loads((tmp_path / "boxes_64.json").read_bytes()) == content


def test_resolutions_are_tried_as_long_as_they_get_better(teacher: Weights, data: Data, tmp_path: Path) -> None:
    ours, tried = labeller(teacher, data, tmp_path), []
    ours.own_imgsz = 640

    def ap(split: object, imgsz: int) -> float:
        tried.append(imgsz)
        return -abs(imgsz - 500.0)

    ours._ap = ap
    assert best_imgsz(ours.aps(data.val)) == 480 and tried == [640, 800, 480, 320]


def test_what_cannot_be(teacher: Weights, data: Data, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--teacher-imgsz 100: must be a multiple of 32"):
        check_imgsz(100, "--teacher-imgsz")
    turned = Weights(**{**vars(teacher), "task": "obb"})
    with pytest.raises(UserError, match="turned boxes"):
        Labeller(turned, np.zeros(1), tmp_path)
