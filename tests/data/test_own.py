"""Data sets in Ultralytics' format, in the layouts in which people have them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from layouts import LAYOUTS, NAMES, SIZES, absolute, folders_as_list, label
from PIL import Image
from studies import PROGRAM, assert_figures_of_pycocotools, likely_models, run

from coco1k_kd.data.accept import accept
from coco1k_kd.data.given import open_data

ODD = ["a\aple", "ripe\npear", "배\u202e"]  # a bell, a line end, and a sign that turns the text behind it around
SHOWN = [r"a\x07ple", r"ripe\npear", r"배\u202e"]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_is_read_as_ultralytics_reads_it(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = open_data(layout(tmp_path), tmp_path / "project")
    assert accept(data) == [], "what a study asks before it trains"
    assert data.classes == tuple(NAMES)
    for split, size in (SIZES | LAYOUTS[layout]).items():
        resolved = check_det_dataset(str(data.yaml))
        theirs = {
            label["im_file"]: label
            for label in YOLODataset(img_path=resolved[split], data=resolved, augment=False).labels
        }
        part = getattr(data, split)
        truth = json.loads(part.annotations.read_bytes())
        assert part.size == len(truth["images"]) == len(theirs) == size
        assert [category["name"] for category in truth["categories"]] == NAMES
        for image in truth["images"]:
            their = theirs[str(part.images / image["file_name"])]
            assert their["shape"] == (image["height"], image["width"]) == (48, 64)
            boxes = [box for box in truth["annotations"] if box["image_id"] == image["id"]]
            assert [box["category_id"] - 1 for box in boxes] == their["cls"][:, 0].tolist()
            for box, (x, y, w, h) in zip(boxes, their["bboxes"].tolist(), strict=True):
                expected = ((x - w / 2) * 64, (y - h / 2) * 48, w * 64, h * 48)
                assert np.allclose(box["bbox"], expected, atol=1e-4) and box["area"] == box["bbox"][2] * box["bbox"][3]
        assert len(truth["annotations"]) == sum(len(their["cls"]) for their in theirs.values()) > 0


def test_labels_are_what_ultralytics_makes_of_them(tmp_path: Path) -> None:
    """Polygons are boxes, equal lines count once, and the size is that after EXIF."""
    path = absolute(tmp_path)
    labels = tmp_path / "data/labels/val"
    (labels / "01.txt").write_text("1 0.25 0.25 0.75 0.25 0.75 0.5\n")
    label(labels / "02.txt", [(0, 0.5, 0.5, 0.5, 0.5)] * 2 + [(0, 0.5, 0.5, 0, 0.5)])
    (labels / "03.txt").unlink()
    turned = tmp_path / "data/images/val/04.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(turned).save(turned, exif=exif)
    truth = json.loads(open_data(path, tmp_path / "project").val.annotations.read_bytes())
    boxes = {image["file_name"]: [] for image in truth["images"]}
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    for box in truth["annotations"]:
        boxes[names[box["image_id"]]].append((box["category_id"], *box["bbox"]))
    assert boxes["01.jpg"] == [(2, 16, 12, 32, 12)]
    assert boxes["02.jpg"] == [(1, 16, 12, 32, 24)]
    assert boxes["03.jpg"] == []
    assert boxes["04.jpg"] == [(2, 18, 16, 12, 32)]
    assert [(image["width"], image["height"]) for image in truth["images"]] == [(64, 48)] * 4 + [(48, 64)]


def test_the_thinnest_box_is_judged_as_it_is_trained_on(tmp_path: Path) -> None:
    path = absolute(tmp_path)
    label(tmp_path / "data/labels/val/01.txt", [(1, 0.5, 0.5, 1e-7, 0.5)])
    data = open_data(path, tmp_path / "project")
    assert accept(data) == []
    assert [32, 12, 1e-4, 24] in [box["bbox"] for box in json.loads(data.val.annotations.read_bytes())["annotations"]]


def test_other_labels_are_other_data_and_the_same_are_the_same(tmp_path: Path) -> None:
    path = absolute(tmp_path)
    before = open_data(path, tmp_path / "project")
    assert open_data(path, tmp_path / "project") == before
    label(tmp_path / "data/labels/val/01.txt", [(1, 0.5, 0.5, 0.25, 0.25)])
    assert open_data(path, tmp_path / "project").yaml != before.yaml and before.val.annotations.exists()


def test_a_project_that_was_copied_names_its_own_place(tmp_path: Path) -> None:
    path = absolute(tmp_path)
    before = open_data(path, tmp_path / "project")
    shutil.copytree(tmp_path / "project", tmp_path / "copy")
    data = open_data(path, tmp_path / "copy")
    assert yaml.safe_load(data.yaml.read_text())["path"] == str(data.yaml.parent) != str(before.yaml.parent)
    assert data.yaml.is_relative_to(tmp_path / "copy")


def test_a_study_of_own_data_from_start_to_verdict(tmp_path: Path) -> None:
    """Two folders a split with the same file names in both, of which nothing may be mixed up; then more of it."""
    path = folders_as_list(tmp_path)
    likely_models(tmp_path, ODD)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text("utf-8")) | {"names": ODD}))
    project = tmp_path / "project"
    flags = ("--epochs", "1", "--batch", "8", "--imgsz", "64", "--device", "cpu", "--seeds", "0", "--resume")
    command = [sys.executable, str(PROGRAM), "--data", str(path), "--project", str(project), *flags]
    command += ["--student", str(tmp_path / "student.pt"), "--teacher", str(tmp_path / "teacher.pt")]
    before = {file for file in tmp_path.rglob("*") if file.is_relative_to(tmp_path / "a")}
    done = run(command, "--arms", "baseline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {file.suffix for file in {*(tmp_path / "a").rglob("*")} - before} <= {".cache"}
    done = run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished before: baseline" in done.stdout
    content = json.loads(max(project.glob("comparison_*.json")).read_bytes())
    shown = [done.stdout, *(file.read_text("utf-8") for end in ("md", "html") for file in project.glob(f"*.{end}"))]
    assert all(name in "".join(shown) for name in SHOWN)
    assert not any(sign in text for sign in "\a\x85\u202e" for text in shown)
    assert list(content["comparisons"][0]["per_class"]) == SHOWN
    assert content["dataset"]["yaml"] == str(path) and content["dataset"]["val_images"] == 10
    (entry,) = content["comparisons"]
    assert (entry["verdict"], entry["judge"], entry["images"]) == ("inconclusive", "test", 4)
    (truth,) = project.glob("data/*/val.json")
    for arm in content["arms"].values():
        (figures,) = arm["runs"]
        assert_figures_of_pycocotools(figures, truth, Path(figures["dir"]) / "predictions_best.json")
        found = json.loads((Path(figures["dir"]) / "predictions_best.json").read_bytes())
        assert len({item["image_id"] for item in found}) == 10
