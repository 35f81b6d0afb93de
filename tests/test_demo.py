"""The generated scenes: COCO format by pycocotools' own reading, with COCO's awkward sides, and the same every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO

from coco1k_kd.demo import KINDS, OLD, generate_coco

PROJECT = Path(__file__).resolve().parents[1]


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["train2017", "val2017"])
def split(
    request,
    coco_root: Path,
) -> tuple[COCO, Path]:
    return COCO(str(coco_root / "annotations" / f"instances_{request.param}.json")), coco_root / request.param


def test_same_arguments_same_bytes_and_another_seed_other_scenes(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate_coco(tmp_path / name, train=4, val=3, seed=seed)
    assert _content(tmp_path / "a") == _content(tmp_path / "b")
    assert not set(_content(tmp_path / "a").values()) & {
        value for name, value in _content(tmp_path / "c").items() if name.endswith(".jpg")
    }


def test_scenes_of_the_old_classes_show_no_other(tmp_path):
    generate_coco(tmp_path, train=40, val=1, seed=1000, kinds=OLD)
    coco = COCO(str(tmp_path / "annotations" / "instances_train2017.json"))
    names = {category["name"] for category in coco.dataset["categories"]}
    assert names == {kind.name for kind in OLD} < {kind.name for kind in KINDS}
    assert {annotation["category_id"] for annotation in coco.dataset["annotations"]} == {kind.id for kind in OLD}


def test_images_are_there_in_the_stated_size(split):
    coco, folder = split
    assert sorted(path.name for path in folder.iterdir()) == sorted(i["file_name"] for i in coco.dataset["images"])
    for image in coco.dataset["images"]:
        assert cv2.imread(str(folder / image["file_name"])).shape == (image["height"], image["width"], 3)


def test_masks_areas_and_boxes_agree(split):
    coco, _ = split
    for annotation in coco.dataset["annotations"]:
        rle = coco.annToRLE(annotation)
        assert annotation["area"] == pytest.approx(masks.area(rle), rel=0.03, abs=2)
        assert np.abs(masks.toBbox(rle) - annotation["bbox"]).max() <= 1
        left, top, width, height = annotation["bbox"]
        image = coco.imgs[annotation["image_id"]]
        assert left >= 0 and top >= 0 and left + width <= image["width"] and top + height <= image["height"]
        assert annotation["area"] > 0
    assert len(coco.anns) == len(coco.dataset["annotations"])


def test_the_awkward_sides_of_coco(split, coco_root):
    coco, _ = split
    ids = [category["id"] for category in coco.dataset["categories"]]
    assert len(ids) == len(KINDS) == 12 and ids == sorted(ids) and max(ids) > 2 * len(ids)
    assert all(coco.getImgIds(catIds=[i]) for i in ids)
    crowds = [annotation for annotation in coco.dataset["annotations"] if annotation["iscrowd"]]
    assert crowds and all(isinstance(crowd["segmentation"]["counts"], list) for crowd in crowds)
    assert any(not coco.getAnnIds(imgIds=[i]) for i in coco.imgs)
    areas = [annotation["area"] for annotation in coco.dataset["annotations"]]
    assert min(areas) < 100 and sum(area > 32**2 for area in areas) > 0.1 * len(areas)
    people = len(coco.getImgIds(catIds=[1])) / len(coco.imgs)
    assert 0.35 < people < 0.7
    other = "val2017" if len(coco.imgs) > 100 else "train2017"
    others = json.loads((coco_root / "annotations" / f"instances_{other}.json").read_text())
    assert not set(coco.imgs) & {image["id"] for image in others["images"]}


def test_objects_overlap_and_hide_each_other(split):
    coco, _ = split
    hidden = 0
    for image in coco.imgs:
        rles = [coco.annToRLE(coco.anns[i]) for i in coco.getAnnIds(imgIds=[image], iscrowd=False)]
        boxes = np.array([masks.toBbox(rle) for rle in rles])
        if len(rles) > 1:
            box_overlap = masks.iou(boxes, boxes, [0] * len(rles))
            hidden += int((box_overlap > 0.05).sum() > len(rles))
            mask_overlap = masks.iou(rles, rles, [0] * len(rles)) - np.eye(len(rles))
            assert mask_overlap.max() < 0.5  # a mask is what shows; only filled holes may overlap
    assert hidden > 5


def test_it_says_that_it_is_generated(split, tmp_path):
    assert "GENERATED" in split[0].dataset["info"]["description"]
    assert all("generated.invalid" in image["coco_url"] for image in split[0].dataset["images"])


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "coco1k_kd.demo", str(tmp_path / "한 글"), "--train", "3", "--val", "2"]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0 and "GENERATED and not COCO" in done.stdout
    assert len(list((tmp_path / "한 글" / "train2017").iterdir())) == 3
    (tmp_path / "file").write_text("")
    command[3] = str(tmp_path / "file" / "below")
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 2 and done.stderr.startswith("error: cannot write") and done.stderr.count("\n") == 1
    command[3:6] = [str(tmp_path / "none"), "--train", "-4"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 2 and "at least 1" in done.stderr and not (tmp_path / "none").exists()


@pytest.mark.slow
def test_the_demo_answers(tmp_path):
    script = PROJECT / "run_coco1k_kd.sh"
    env = {**os.environ, "VENV": sys.prefix}
    done = subprocess.run([str(script), "--demo"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GENERATED" in done.stdout and "nothing about COCO" in done.stdout
    (found,) = (tmp_path / "coco1k_demo" / "coco1k_kd_experiments").glob("comparison_*.json")
    comparison = json.loads(found.read_text())
    references, arms = comparison["references"], comparison["arms"]
    assert references["teacher"]["fitted"]["epochs"] == 25, "the teacher learns the new classes first"
    assert references["teacher"]["ap"] > arms["baseline"]["mean"]["ap"] + 0.03
    entries = {(entry["arm"], entry["against"]): entry for entry in comparison["comparisons"]}
    assert entries["cwd+response", "baseline"]["verdict"] == "improves"
    assert entries["cwd+response", "baseline"]["judge"] == "full_val"
    assert comparison["headline"]["answer"] == "use_teacher" and comparison["design"]["stopped"] == "settled"
    assert arms["cwd+response"]["ap_known"] > references["student"]["ap"], "above the student as given"
