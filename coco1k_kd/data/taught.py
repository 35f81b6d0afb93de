"""Labels that a teacher gave, written for Ultralytics, for COCO's tools, for CVAT and for Label Studio.

CVAT for images 1.1: https://docs.cvat.ai/docs/manual/advanced/xml_format/
Label Studio: https://labelstud.io/guide/predictions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np

from coco1k_kd.data.pool import PoolImage


@dataclass(frozen=True)
class Taught:
    """An image with the boxes that a teacher found in it.

    `boxes`: (n, 6) class index, score, left, top, width, height in pixels; `kept` (n,) bool: those that are labels.
    """

    image: PoolImage
    boxes: np.ndarray
    kept: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """(k, 6) the boxes that are labels."""
        return self.boxes[self.kept]


def yolo(taught: Taught) -> str:
    """A label file: class, centre x, centre y, width and height as fractions of the image, a line for each box."""
    size = np.array([taught.image.width, taught.image.height], float)
    lines = []
    for label, _, *box in taught.labels.tolist():
        corner, extent = np.array(box[:2]), np.array(box[2:])
        shares = np.clip(np.concatenate(((corner + extent / 2) / size, extent / size)), 0, 1)
        lines.append(f"{int(label)} " + " ".join(f"{share:.6f}" for share in shares) + "\n")
    return "".join(lines)


def coco(all_taught: Sequence[Taught], classes: Sequence[str], description: str) -> dict[str, Any]:
    """The labels as a COCO annotation file, with the `score` of each; ids begin at 1, file names are the links."""
    rows = [(number, row) for number, taught in enumerate(all_taught, 1) for row in taught.labels.tolist()]
    return {
        "info": {"description": description},
        "images": [
            {"id": number, "file_name": one.image.link, "width": one.image.width, "height": one.image.height}
            for number, one in enumerate(all_taught, 1)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": int(label) + 1,
                "bbox": box,
                "area": round(box[2] * box[3], 2),
                "iscrowd": 0,
                "score": score,
            }
            for number, (image, (label, score, *box)) in enumerate(rows, 1)
        ],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, 1)],
    }


def cvat(all_taught: Sequence[Taught], classes: Sequence[str]) -> bytes:
    """CVAT for images 1.1. A task takes it whose images have the same names and whose labels have these names."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(task, "size").text = str(len(all_taught))
    ElementTree.SubElement(task, "mode").text = "annotation"
    labels = ElementTree.SubElement(task, "labels")
    for name in classes:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "attributes")
    for number, taught in enumerate(all_taught):
        image = taught.image
        attributes = {"id": number, "name": image.name, "width": image.width, "height": image.height}
        node = ElementTree.SubElement(root, "image", {key: str(value) for key, value in attributes.items()})
        for label, _, x, y, width, height in taught.labels.tolist():
            sides = {"xtl": x, "ytl": y, "xbr": x + width, "ybr": y + height}
            edges = {side: f"{value:.2f}" for side, value in sides.items()}
            fixed = {"label": classes[int(label)], "source": "auto", "occluded": "0"}
            ElementTree.SubElement(node, "box", {**fixed, **edges, "z_order": "0"})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def label_studio(all_taught: Sequence[Taught], classes: Sequence[str], folder: str, model: str) -> list[dict[str, Any]]:
    """Label Studio's tasks with predictions; images are served as local files, from the parent of `folder`."""
    tasks = []
    for taught in all_taught:
        image, size = taught.image, {"original_width": taught.image.width, "original_height": taught.image.height}
        results = [
            {
                "id": f"box{number}",
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                **size,
                "image_rotation": 0,
                "score": score,
                "value": {
                    "rotation": 0,
                    "x": 100 * x / image.width,
                    "y": 100 * y / image.height,
                    "width": 100 * width / image.width,
                    "height": 100 * height / image.height,
                    "rectanglelabels": [classes[int(label)]],
                },
            }
            for number, (label, score, x, y, width, height) in enumerate(taught.labels.tolist(), 1)
        ]
        address = "/data/local-files/?d=" + quote(f"{folder}/{image.name}")
        score = float(taught.labels[:, 1].mean()) if results else 0.0
        prediction = {"model_version": model, "score": round(score, 4), "result": results}
        tasks.append({"data": {"image": address}, "predictions": [prediction]})
    return tasks


def label_studio_view(classes: Sequence[str]) -> bytes:
    """The labelling interface of a Label Studio project that takes these predictions."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": "image", "value": "$image"})
    labels = ElementTree.SubElement(view, "RectangleLabels", {"name": "label", "toName": "image"})
    for name in classes:
        ElementTree.SubElement(labels, "Label", {"value": name})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="utf-8") + b"\n"
