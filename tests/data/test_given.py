"""The data that --data names, as a study opens them and --check tells them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from layouts import YAML, absolute, bad_label, fill, label, leak, no_labels, rewrite, roboflow, write_yaml
from PIL import Image
from studies import PROGRAM, run

from coco1k_kd.data import given
from coco1k_kd.data.accept import accept
from coco1k_kd.data.given import open_data
from coco1k_kd.errors import UserError


def test_keypoints_behind_the_boxes_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = absolute(tmp_path)
    given.check(path)
    assert "detectors" not in capsys.readouterr().out
    for file in (tmp_path / "data/labels").rglob("*.txt"):
        label(file, [(0, 0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 2, 0.4, 0.4, 2)])
    rewrite(kpt_shape=[2, 3])(tmp_path)
    given.check(path)
    assert "judges the upright boxes, and none of the keypoints (pose)" in capsys.readouterr().out
    data = open_data(path, tmp_path / "project")
    assert accept(data) == []
    truth = json.loads(data.val.annotations.read_bytes())
    assert [box["bbox"] for box in truth["annotations"]] == [[24, 12, 16, 24]] * 5


def check(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, str(PROGRAM), "--check", "--data", str(path)], *more)


def test_check_prints_what_there_is_and_trains_nothing(tmp_path: Path) -> None:
    path = roboflow(tmp_path)
    (tmp_path / "train/labels/03.txt").unlink()
    done = check(path, "--project", str(tmp_path / "project"))
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "train: 9 images (2 without a box), 10 boxes of 3 of 3 classes",
        "val: 5 images (1 without a box), 6 boxes of 3 of 3 classes",
        "test: 4 images (1 without a box), 5 boxes of 3 of 3 classes",
    ]
    assert ["apple", "1", "1", "1"] in [line.split() for line in lines]
    assert lines[-1] == "note: train: 1 image without a label file, taken for background"
    assert not (tmp_path / "project").exists()


def test_check_names_every_fault_and_ends_with_2(tmp_path: Path) -> None:
    path = absolute(tmp_path)
    leak(tmp_path)
    bad_label(tmp_path)
    no_labels(tmp_path)
    done = check(path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    faults = [line for line in done.stdout.splitlines() if line.startswith("fault: ")]
    assert len(faults) == 3 and "leaves out 1 of 9" in faults[0] and "none of the 6 images has a box" in faults[1]
    assert "copy.jpg: the same image as" in faults[2]
    assert done.stdout.startswith("train: 8 images") and done.stderr.count("\n") == 1


def test_check_takes_a_subset_too(subset: Path) -> None:
    done = check(subset / "coco1k.yaml")
    assert done.returncode == 0 and done.stdout.startswith("train: 48 images (0 without a box), ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nc": 80}, "cannot be used as a data YAML: .*'names' length 12 and 'nc: 80' must match"),
        ({"channels": 1}, "has channels: 1; teacher and student take pictures of 3 channels"),
    ],
)
def test_a_yaml_beside_annotations_must_be_one_for_ultralytics_too(
    change: dict[str, Any], says: str, subset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((subset / "coco1k.yaml").read_text()) | change))
    for program in (given.check, lambda path: open_data(path, tmp_path)):
        with pytest.raises(UserError, match=says):
            program(path)


def test_names_by_index_may_be_text_beside_annotations_too(subset: Path, tmp_path: Path) -> None:
    content, path = yaml.safe_load((subset / "coco1k.yaml").read_text()), tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(content | {"names": {str(i): name for i, name in content["names"].items()}}))
    assert open_data(path, tmp_path).classes == open_data(subset / "coco1k.yaml", tmp_path).classes


def test_coco_files_beside_the_images_are_the_truth_of_a_test_split_too(tmp_path: Path) -> None:
    path = roboflow(tmp_path)
    made = open_data(path, tmp_path / "project")
    for name, split in made.splits.items():
        shutil.copytree(split.images, tmp_path / "coco/images" / name)
        (tmp_path / "coco/annotations").mkdir(exist_ok=True)
        shutil.copy(split.annotations, tmp_path / "coco/annotations" / f"instances_{name}.json")
        shutil.copytree(split.images.parent / "labels", tmp_path / "coco/labels" / name)
    places = {name: f"images/{name}" for name in made.splits}
    data = open_data(write_yaml(tmp_path, path=str(tmp_path / "coco"), **places), tmp_path / "other")
    assert not (tmp_path / "other").exists() and data.given is None
    assert {name: split.names for name, split in data.splits.items()} == {
        name: split.names for name, split in made.splits.items()
    }
    assert accept(data) == []


def test_a_test_split_without_labels_is_not_used(tmp_path: Path, capsys) -> None:
    path = roboflow(tmp_path)
    shutil.rmtree(tmp_path / "test/labels")
    data = open_data(path, tmp_path / "project")
    assert list(data.splits) == ["train", "val"] and "test" not in yaml.safe_load(data.yaml.read_text())
    assert "note: test: none of the 4 images has a label file, so the split is not used" in capsys.readouterr().out
    assert check(path).returncode == 0


def test_a_test_split_that_is_not_there_is_not_used(tmp_path: Path, capsys) -> None:
    path = absolute(tmp_path)
    rewrite(test="images/none")(tmp_path)
    assert list(open_data(path, tmp_path / "project").splits) == ["train", "val"]
    assert re.search("note: test: .*images/none does not exist, so the split is not used", capsys.readouterr().out)


def test_a_split_may_be_a_list_of_one_folder_beside_annotations_too(subset: Path, tmp_path: Path) -> None:
    content, path = yaml.safe_load((subset / "coco1k.yaml").read_text()), tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(content | {"val": [content["val"]]}))
    assert open_data(path, tmp_path).splits == open_data(subset / "coco1k.yaml", tmp_path).splits
    assert check(path).stdout == check(subset / "coco1k.yaml").stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"segmentation": []}, None),
        ({"keypoints": [3, 4, 2], "num_keypoints": 1}, "none of the keypoints (pose)\n"),
        (
            {"segmentation": [[0, 0, 9, 0, 9, 9]], "keypoints": []},
            "none of the outlines (segmentation, oriented boxes)\n",
        ),
    ],
)
def test_check_says_what_of_coco_annotations_is_left_aside(
    more: dict[str, Any], said: str | None, subset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(subset, root, ignore=shutil.ignore_patterns("manifest.json"), symlinks=True)
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_bytes())
        content["annotations"] = [{**entry, "segmentation": []} for entry in content["annotations"]]
        content["annotations"][-1] |= more
        file.write_text(json.dumps(content))
    path = root / "coco1k.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"path": str(root)}))
    given.check(path)
    out = capsys.readouterr().out
    assert (said in out) if said else ("a study is of detectors" not in out)


@pytest.mark.parametrize("val", ["val.txt", ["images/val", "images/more"]])
def test_annotations_that_are_not_read_are_named(val: str | list[str], tmp_path: Path, capsys) -> None:
    absolute(tmp_path)
    fill(tmp_path / "data/images/more", tmp_path / "data/labels/more", "test")
    (tmp_path / "data/val.txt").write_text("./images/val/01.jpg\n")
    (tmp_path / "data/annotations").mkdir()
    (tmp_path / "data/annotations/instances_val.json").write_text("{}")
    rewrite(val=val)(tmp_path)
    open_data(tmp_path / YAML, tmp_path / "project")
    told = re.findall("note: val: .*", capsys.readouterr().out)
    assert len(told) == 1 and "annotations/instances_val.json is not read" in told[0] and "crowds" in told[0]
    assert told[0] in check(tmp_path / YAML).stdout


def test_copies_with_other_boxes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = absolute(tmp_path), tmp_path / "data/images/val"
    (folder / "copy.jpg").write_bytes((folder / "03.jpg").read_bytes())
    given.check(path)
    told = capsys.readouterr().out
    assert "1 images are copies of others with other boxes (the first: copy.jpg, of 03.jpg)" in told
    shutil.copy(tmp_path / "data/labels/val/03.txt", tmp_path / "data/labels/val/copy.txt")
    given.check(path)
    assert "copies" not in capsys.readouterr().out


def test_pictures_of_16_bits_are_said_with_what_training_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = absolute(tmp_path)
    Image.fromarray(np.full((48, 64), 2303, np.uint16)).save(tmp_path / "data/images/val/03.png")
    (tmp_path / "data/images/val/03.jpg").unlink()
    given.check(path)
    told = capsys.readouterr().out
    assert "1 images have more than 8 bits a channel (the first: 03.png)" in told and "is 8 of 255" in told
