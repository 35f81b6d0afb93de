"""Small made-up ground truth and detections in COCO format, with everything that COCOeval has a rule for."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CATEGORIES = (2, 5, 7, 11)  # gaps, as in COCO; nothing is ever labelled 11


def truth(images: int, rng: np.random.Generator) -> dict[str, Any]:
    """Boxes of all sizes, crowds, images without boxes."""
    annotations = []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 7)):
            side = float(rng.choice([20, 60, 150])) * rng.uniform(0.7, 1.3)
            x, y = rng.uniform(0, 480 - side, 2) if side < 480 else (0.0, 0.0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.choice(CATEGORIES[:3], p=[0.6, 0.3, 0.1])),
                    "bbox": [float(x), float(y), side, side],
                    "area": side * side,
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 480, "height": 480} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"class {c}"} for c in CATEGORIES],
    }


def detections(annotations: dict[str, Any], skill: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Each box found with probability `skill`, more or less exactly, among false alarms; scores are all different."""
    found = []
    for box in annotations["annotations"]:
        if rng.random() < skill:
            jitter = rng.normal(0, 0.06 * box["bbox"][2], 4)
            found.append((box["image_id"], box["category_id"], np.add(box["bbox"], jitter), rng.beta(4, 2)))
    for image in annotations["images"]:
        for _ in range(rng.integers(0, 6)):
            side = rng.uniform(10, 200)
            place = [*rng.uniform(0, 480 - side, 2), side, side]
            found.append((image["id"], int(rng.choice(CATEGORIES)), place, rng.beta(2, 4)))
    return [{"image_id": i, "category_id": c, "bbox": [float(x) for x in b], "score": float(s)} for i, c, b, s in found]


def resampled(
    annotations: dict[str, Any], found: list[dict[str, Any]], weights: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same data with every image there as often as its weight says, copies under new ids."""
    images, boxes, copies = [], [], []
    for image, weight in zip(annotations["images"], weights.astype(int), strict=True):
        for _ in range(weight):
            new = len(images) + 1
            images.append(image | {"id": new})
            boxes += [b | {"image_id": new} for b in annotations["annotations"] if b["image_id"] == image["id"]]
            copies += [d | {"image_id": new} for d in found if d["image_id"] == image["id"]]
    boxes = [box | {"id": i} for i, box in enumerate(boxes, 1)]
    return annotations | {"images": images, "annotations": boxes}, copies


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def cocoeval_ap(annotations: Path, predictions: Path) -> np.ndarray:
    """COCOeval's own AP by IoU threshold, class and box size: (10, 4, 4), NaN where there is no box."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
        evaluation = COCOeval(coco, coco.loadRes(str(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    raw = evaluation.eval["precision"][..., -1]
    return np.where(raw[:, 0] < 0, np.nan, raw.mean(axis=1))
