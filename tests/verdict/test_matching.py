"""The figures of saved predictions, held against pycocotools' COCOeval itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from detections import cocoeval_ap, write

from coco1k_kd.data.groups import Groups
from coco1k_kd.verdict.matching import coco_metrics, figures_of


def without(key):
    return lambda box: box.pop(key)


@pytest.mark.parametrize(
    "change",
    [
        without("area"),
        without("iscrowd"),
        lambda box: box.update(area=None, iscrowd=None),
        lambda box: box.update(area=-1),
        lambda box: box.update(area=0),
        lambda box: box.update(area=1e12),
        lambda box: box.update(area="7"),
        lambda box: box.update(id=box["id"] - 1),
    ],
)
def test_perfect_detections_have_ap_1_whatever_the_annotations_leave_out(scene, tmp_path, change):
    content = json.loads(scene[0].read_bytes())
    content["annotations"] = [box for box in content["annotations"] if not box.get("iscrowd")]
    for number, box in enumerate(content["annotations"], 1):
        box["id"] = number
        change(box)
    detections = [
        {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": box["bbox"], "score": 0.9}
        for box in content["annotations"]
    ]
    metrics = coco_metrics(write(tmp_path, "truth", content), write(tmp_path, "found", detections))
    assert metrics["ap"] == pytest.approx(1)
    half = detections[::2]
    assert coco_metrics(tmp_path / "truth.json", write(tmp_path, "half", half))["ap"] < 0.9


def test_metrics_are_cocoevals_stats(scene):
    annotations, files = scene
    metrics, own = coco_metrics(annotations, files["good", 0]), cocoeval_ap(annotations, files["good", 0])
    assert metrics["ap"] == pytest.approx(np.nanmean(own[..., 0]), abs=1e-9)
    assert metrics["ap50"] == pytest.approx(np.nanmean(own[0, :, 0]), abs=1e-9)
    assert metrics["ap75"] == pytest.approx(np.nanmean(own[5, :, 0]), abs=1e-9)
    for area, size in enumerate(("small", "medium", "large"), 1):
        assert metrics[f"ap_{size}"] == pytest.approx(np.nanmean(own[..., area]), abs=1e-9)
    assert coco_metrics(annotations, files["good", 0], (1,))["ap"] == pytest.approx(np.nanmean(own[:, 1, 0]), abs=1e-9)
    assert 0.2 < metrics["ap"] < metrics["ap50"] < 1


def test_a_group_shows_what_one_of_its_images_shows(scene):
    figures = figures_of(scene[0], scene[1]["good", 0])
    groups = Groups("", np.arange(figures.images) // 4, 0, (None,) * figures.images)
    shown = figures.shown.reshape(*figures.shown.shape[:2], -1, 4)
    alone = shown.sum(axis=-1) == 1
    assert alone.any() and (figures.by_group(groups).shown == shown.any(axis=-1)).all()


def test_a_size_of_which_there_is_no_box_has_no_ap(scene, tmp_path):
    annotations, files = scene
    content = json.loads(annotations.read_bytes())
    content["annotations"] = [box for box in content["annotations"] if box["area"] < 96**2]
    metrics = coco_metrics(write(tmp_path, "no_large", content), files["good", 0])
    assert metrics["ap_large"] is None and metrics["ap_small"] > 0


def test_changed_file_is_read_again(scene):
    annotations, files = scene
    before = figures_of(annotations, files["good", 0])
    assert figures_of(annotations, files["good", 0]) is before
    write(files["good", 0].parent, "good0", [])
    assert np.nanmax(figures_of(annotations, files["good", 0]).ap) == 0
