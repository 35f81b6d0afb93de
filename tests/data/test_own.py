"""Data sets in Ultralytics' format, in the layouts in which people have them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from layouts import LAYOUTS, NAMES, SIZES, YAML, absolute, fill, folders_as_list, label, picture, roboflow, write_yaml
from PIL import Image
from studies import PROGRAM, assert_figures_of_pycocotools, likely_models, run

from coco1k_kd.data import given
from coco1k_kd.data.accept import accept
from coco1k_kd.data.given import open_data
from coco1k_kd.errors import UserError

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


def test_a_root_in_ultralytics_datasets_dir_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ultralytics.data.utils.DATASETS_DIR", tmp_path / "datasets")
    path = absolute(tmp_path)
    shutil.move(tmp_path / "data", tmp_path / "datasets" / "fruit")
    write_yaml(tmp_path, path="fruit", train="images/train", val="images/val")
    data = open_data(path, tmp_path / "project")
    assert data.root == tmp_path / "datasets" / "fruit" and data.train.size == SIZES["train"]


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


def test_keypoints_behind_the_boxes_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = absolute(tmp_path)
    given.check(path)
    assert "detectors" not in capsys.readouterr().out
    for file in (tmp_path / "data/labels").rglob("*.txt"):
        label(file, [(0, 0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 2, 0.4, 0.4, 2)])
    _rewrite(kpt_shape=[2, 3])(tmp_path)
    given.check(path)
    assert "judges the upright boxes, and none of the keypoints (pose)" in capsys.readouterr().out
    data = open_data(path, tmp_path / "project")
    assert accept(data) == []
    truth = json.loads(data.val.annotations.read_bytes())
    assert [box["bbox"] for box in truth["annotations"]] == [[24, 12, 16, 24]] * 5


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


SPOTS = [(0.3 + 0.03 * i, 0.35 + 0.02 * i) for i in range(12)]  # where the box of a row would lie within the image


def _rewrite(**change: Any) -> Callable[[Path], None]:
    def change_yaml(root: Path) -> None:
        content = yaml.safe_load((root / YAML).read_text(encoding="utf-8")) | change
        (root / YAML).write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))

    return change_yaml


def _text(text: str) -> Callable[[Path], None]:
    return lambda root: (root / YAML).write_text(text) and None


def _bad_label(root: Path) -> None:
    (root / "data/labels/train/03.txt").write_text("7 0.5 0.5 0.1 0.1\n")


def _no_labels(root: Path) -> None:
    shutil.rmtree(root / "data/labels/val")


def _no_image(root: Path) -> None:
    for place in (root / "data/images/val").iterdir():
        place.write_text("not an image")


def _leak(root: Path) -> None:
    shutil.copy(root / "data/images/train/05.jpg", root / "data/images/val/copy.jpg")


def _leak_behind_a_trailer(root: Path) -> None:
    """Ultralytics writes the JPEG anew when it reads its labels; from then on nothing shows where it comes from."""
    data = (root / "data/images/train/05.jpg").read_bytes()
    (root / "data/images/val/copy.jpg").write_bytes(data + b"\0SEFT")


def _judge_chooses(root: Path) -> None:
    shutil.copy(root / "data/images/val/02.jpg", root / "data/images/one.jpg")
    (root / "data/test.txt").write_text("./images/one.jpg\n")
    label(root / "data/labels/one.txt", [(0, 0.5, 0.5, 0.5, 0.5)])
    _rewrite(test="test.txt")(root)


def _one_label_for_two(root: Path) -> None:
    picture(root / "data/images/val/01.png", 77)


def _twice(root: Path) -> None:
    (root / "data/val.txt").write_text("./images/val/01.jpg\n./images/val/01.jpg\n")
    _rewrite(val="val.txt")(root)


def _another_suffix(root: Path) -> None:
    (root / "data/images/val/01.jpg").rename(root / "data/images/val/01.jfif")


def _space_behind_a_line(root: Path) -> None:
    (root / "data/val.txt").write_text("# mine\n./images/val/01.jpg \n./images/val/03.jpg\n")
    _rewrite(val="val.txt")(root)


def _line_break(root: Path) -> None:
    (root / "data/images/val/01.jpg").rename(root / "data/images/val/a\u2028b.jpg")


def _no_utf8(root: Path) -> None:
    (root / "data/images/val/01.jpg").rename(os.fsdecode(os.fsencode(root / "data/images/val") + b"/\xff.jpg"))


def _link_to_itself(root: Path) -> None:
    (root / "data/images/val/loop").symlink_to(root / "data/images/val")


def _pipe(root: Path) -> None:
    os.mkfifo(root / "data/images/val/zz.jpg")


def _empty_images(root: Path) -> None:
    for place in (root / "data/images/val").iterdir():
        place.write_bytes(b"")


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (_rewrite(val=None), "'val:' key missing"),
    (_rewrite(names=None), "either 'names' or 'nc' are required"),
    (_rewrite(nc=5), "must match"),
    (_rewrite(names={0: "a", 2: "b"}), "invalid class indices"),
    (_rewrite(names={"a": "b"}), "cannot be used as a data YAML"),
    (_rewrite(channels=1), "channels: 1"),
    (_rewrite(path="/nowhere"), "/nowhere/images/val"),
    (_rewrite(train="images/none"), "images/none does not exist"),
    (_rewrite(val=["images/val/01.jpg"]), "val: .*01.jpg is an image; name a folder"),
    (_rewrite(train=["images/train", "images/none"]), "images/none does not exist"),
    (_rewrite(train=7), "'train' must be"),
    (_rewrite(train="images/val"), "val, 5 of 5 images: .*val/00.jpg: the same image as .*, which is trained on"),
    (_text("train: ["), "cannot be used as a data YAML"),
    (_text("just text"), "cannot be used as a data YAML"),
    (_text(""), "'train:' key missing"),
    (_bad_label, "leaves out 1 of 9 images.*class 7 exceeds"),
    (_no_labels, "val: none of the 5 images has a box; .*00.jpg has its labels in .*labels/val/00.txt"),
    (_no_image, "fruit.yaml, val: No valid images"),
    (_leak, "val, 1 of 6 images: .*copy.jpg: the same image as .*05.jpg, which is trained on"),
    (_leak_behind_a_trailer, "val, 1 of 6 images: .*copy.jpg: the same image as .*05.jpg, which is trained on"),
    (_judge_chooses, "test, 1 of 1 images: .*one.jpg: the same image as .*02.jpg, which chooses the best epoch"),
    (_one_label_for_two, "val: 2 images have the file_name 01 but for the suffix"),
    (_twice, "01.jpg is listed twice"),
    (_link_to_itself, "00.jpg is listed twice, also as .*; list every image once"),
    (_rewrite(val=""), "val: names no images"),
    (_rewrite(train=[]), "train: names no images"),
    (_another_suffix, "val: Ultralytics leaves out 1 of 5 images, .*01.jfif has labels and a suffix that"),
    (
        _space_behind_a_line,
        "leaves out 1 of 2 images, .*val.txt: the line './images/val/01.jpg ' does not end",
    ),
    (_line_break, r"val: '.*a\\u2028b.jpg' has a control character or no UTF-8 in its path; rename it"),
    (_no_utf8, "has a control character or no UTF-8 in its path; rename it"),
    (_pipe, "val: .*zz.jpg is no file, and would be waited for; move it away"),
    (_empty_images, "No valid images found .* no image that can be read"),
]


@pytest.mark.parametrize(("fault", "named"), FAULTS)
def test_data_that_cannot_be_used_is_refused_in_a_line(
    fault: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    path = absolute(tmp_path)
    fault(tmp_path)
    with pytest.raises(UserError, match=named) as caught:
        open_data(path, tmp_path / "project")
    message = str(caught.value)
    assert "\n" not in message and YAML in message and "coco1k" not in message and "download" not in message
    assert not (tmp_path / "project").exists()


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
    _leak(tmp_path)
    _bad_label(tmp_path)
    _no_labels(tmp_path)
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
    _rewrite(test="images/none")(tmp_path)
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
    _rewrite(val=val)(tmp_path)
    open_data(tmp_path / YAML, tmp_path / "project")
    told = re.findall("note: val: .*", capsys.readouterr().out)
    assert len(told) == 1 and "annotations/instances_val.json is not read" in told[0] and "crowds" in told[0]
    assert told[0] in check(tmp_path / YAML).stdout


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


def test_arrays_in_the_place_of_pictures_are_refused_and_left_alone(tmp_path: Path) -> None:
    """Ultralytics would train on them, overwrite those of another shape and delete those that it cannot load."""
    path = absolute(tmp_path)
    folder = tmp_path / "data/images/val"
    np.save(folder / "01.npy", np.zeros((1, 8, 8)))
    (folder / "02.npy").write_bytes(b"of another program")
    before = {file: file.read_bytes() for file in folder.iterdir()}
    done = run([sys.executable, str(PROGRAM), "--check", "--data", str(path)])
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "01.npy" in done.stderr and "2 such .npy files" in done.stderr
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    (folder / "01.npy").rename(tmp_path / "01.npy")
    (folder / "02.npy").rename(folder / "other.npy")
    given.check(path)


def test_boxes_that_are_drawn_around_outlines_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the rows are a box and keypoints behind it, which is then another box."""
    path = absolute(tmp_path)
    label(tmp_path / "data/labels/val/03.txt", [(0, 0.5, 0.5, 0.25, 0.5, 0.5, 0.6, 0.4, 0.4)])
    given.check(path)
    said = capsys.readouterr().out
    assert "note: val: 1 of 5 boxes are drawn around outlines" in said
    assert "note: a study is of detectors: it trains and judges the upright boxes, and none of the outlines" in said


def test_keypoints_behind_the_box_are_refused_and_outlines_of_equal_length_are_not(tmp_path: Path) -> None:
    """Four corners a row are oriented boxes, from which Ultralytics trains well."""
    path, place = absolute(tmp_path), tmp_path / "data/labels/val/03.txt"
    corners = [(x - 0.03, y - 0.02, x + 0.03, y - 0.02, x + 0.03, y + 0.02, x - 0.03, y + 0.02) for x, y in SPOTS]
    label(place, [(0, *points) for points in corners])
    given.check(path)
    label(place, [(0, x, y, 0.2, 0.3, x + 0.01, y - 0.01, x, y + 0.02) for x, y in SPOTS])
    with pytest.raises(UserError, match="val: all 12 rows of more than 6 columns look like class, box and keypoints"):
        given.check(path)


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
