"""Labels that a teacher gave are the same boxes in every format."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coco1k_kd.data.pool import PoolImage
from coco1k_kd.data.taught import Taught, coco, cvat, label_studio, label_studio_view, yolo

CLASSES = ["a <cup>", "배"]
IMAGE = PoolImage(Path("/photos/day one/a&b.jpg"), "day one/a&b.jpg", "day_one/a&b.jpg", "0" * 64, 200, 100)
BOXES = np.array([[1, 0.9, 20, 10, 50, 40], [0, 0.4, 0, 0, 200, 100], [0, 0.1, 5, 5, 9, 9]], float)


@pytest.fixture
def taught() -> Taught:
    """Two labels and a box that became none."""
    return Taught(IMAGE, BOXES, BOXES[:, 1] >= 0.4)


def test_a_label_file_has_the_boxes_as_shares_of_the_image(taught: Taught) -> None:
    assert yolo(taught) == "1 0.225000 0.300000 0.250000 0.400000\n0 0.500000 0.500000 1.000000 1.000000\n"
    assert yolo(Taught(IMAGE, BOXES, np.zeros(3, bool))) == ""


@given(st.floats(0, 199), st.floats(0, 99), st.floats(0.1, 1), st.floats(0.1, 1))
def test_shares_are_within_the_image_and_give_the_box_again(x: float, y: float, across: float, down: float) -> None:
    row = np.array([[0, 1, x, y, across * (200 - x), down * (100 - y)]])
    _, cx, cy, w, h = map(float, yolo(Taught(IMAGE, row, np.ones(1, bool))).split())
    assert all(0 <= share <= 1 for share in (cx, cy, w, h))
    found = [(cx - w / 2) * 200, (cy - h / 2) * 100, w * 200, h * 100]
    assert np.allclose(found, row[0, 2:], atol=1e-3)


def test_coco_numbers_images_and_classes_from_1_and_keeps_the_scores(taught: Taught) -> None:
    nothing = Taught(IMAGE, BOXES, np.zeros(3, bool))
    content = coco([nothing, taught], CLASSES, "labelled")
    assert [image["file_name"] for image in content["images"]] == [IMAGE.link] * 2
    assert [(box["id"], box["image_id"], box["category_id"], box["score"]) for box in content["annotations"]] == [
        (1, 2, 2, 0.9),
        (2, 2, 1, 0.4),
    ]
    assert content["annotations"][0]["bbox"] == [20, 10, 50, 40] and content["annotations"][0]["area"] == 2000
    assert content["categories"] == [{"id": 1, "name": CLASSES[0]}, {"id": 2, "name": CLASSES[1]}]


def test_cvat_has_the_edges_and_names_as_text(taught: Taught) -> None:
    root = ElementTree.fromstring(cvat([taught], CLASSES))
    assert [label.findtext("name") for label in root.iter("label")] == CLASSES
    (image,) = root.findall("image")
    assert (image.get("name"), image.get("width"), image.get("height")) == (IMAGE.name, "200", "100")
    first, second = image.findall("box")
    edges = {key: float(first.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")}
    assert edges == {"xtl": 20, "ytl": 10, "xbr": 70, "ybr": 50}
    assert (first.get("label"), second.get("label")) == (CLASSES[1], CLASSES[0])


def test_label_studio_has_percentages_and_an_address_that_is_one(taught: Taught) -> None:
    (task,) = label_studio([taught], CLASSES, "photos", "teacher.pt")
    assert task["data"]["image"] == "/data/local-files/?d=photos/day%20one/a%26b.jpg"
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.65 and len(prediction["result"]) == 2
    value = prediction["result"][0]["value"]
    assert {key: value[key] for key in ("x", "y", "width", "height")} == {"x": 10, "y": 10, "width": 25, "height": 40}
    assert value["rectanglelabels"] == ["배"] and prediction["result"][0]["original_width"] == 200
    view = ElementTree.fromstring(label_studio_view(CLASSES))
    assert [label.get("value") for label in view.iter("Label")] == CLASSES
