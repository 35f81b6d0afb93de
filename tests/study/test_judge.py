"""The images by which a study is judged: which are chosen, how they are written, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from programs import call

from coco1k_kd.data.accept import judge_faults
from coco1k_kd.data.annotations import read
from coco1k_kd.data.dataset import Data, Split, read_data
from coco1k_kd.errors import UserError
from coco1k_kd.study.judge import find_judge

VAL = "annotations/instances_val2017.json"
CREATE = Path(__file__).resolve().parents[2] / "create_coco1k.py"


@pytest.fixture
def data(subset: Path) -> Data:
    return read_data(subset / "coco1k.yaml")


def test_a_judge_is_written_as_links_that_leave_the_source_alone(coco_root: Path, data: Data, tmp_path: Path) -> None:
    before = sorted(coco_root.rglob("*"))
    judge = find_judge("auto", data, coco_root)
    written = judge.written(data.classes, tmp_path)
    assert judge.written(data.classes, tmp_path) == written, "a second time over the first"
    assert judge.split.size == written.split.size == 60 - 24
    content = yaml.safe_load(written.yaml.read_text())
    assert tuple(content["names"].values()) == data.classes
    linked = {path.name: path.read_bytes() for path in (Path(content["path"]) / content["val"]).iterdir()}
    assert linked == {name: (coco_root / "val2017" / name).read_bytes() for name in written.split.names}
    assert not linked.keys() & set(data.val.names), "no image that chooses the best epoch"
    source, kept = (json.loads(path.read_bytes()) for path in (coco_root / VAL, written.split.annotations))
    ids = {image["id"] for image in kept["images"]}
    assert kept["annotations"] == [box for box in source["annotations"] if box["image_id"] in ids]
    assert sorted(coco_root.rglob("*")) == before


def test_a_judge_follows_a_source_that_has_moved(coco_root: Path, data: Data, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(coco_root, moved)
    for root in (coco_root, moved):
        written = find_judge("auto", data, root).written(data.classes, tmp_path / "project")
        assert {link.readlink().parent for link in written.split.images.iterdir()} == {root / "val2017"}


def test_auto_takes_the_subsets_val_where_there_is_no_more(coco_root: Path, data: Data, tmp_path: Path) -> None:
    assert find_judge("auto", data, None) is None, "the source is unknown"
    assert find_judge("val", data, coco_root) is None
    root = tmp_path / "root"
    shutil.copytree(coco_root, root)
    lost = next(path for path in (root / "val2017").iterdir() if path.name not in data.val.names)
    lost.unlink()
    assert find_judge("auto", data, root) is None, "only the chosen images were fetched"
    with pytest.raises(UserError, match=r"1 of 60 images .* fetch them with create_coco1k.py --download --judge full"):
        find_judge("full", data, root)
    content = json.loads((coco_root / VAL).read_bytes())
    (root / VAL).write_text(json.dumps(content))
    with pytest.raises(UserError, match="was not drawn from"):
        find_judge("full", data, root)


def test_a_test_split_judges(data: Data, coco_root: Path) -> None:
    test = Split(read(coco_root / VAL), coco_root / "val2017", ("a.jpg",))
    judge = find_judge("auto", replace(data, test=test), coco_root)
    assert judge.name == "test" and judge.split == test
    assert find_judge("full", replace(data, test=test), coco_root).name == "full_val"


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda root: shutil.rmtree(root / "annotations"), "has no annotations of val|no COCO annotations"),
        (lambda root: shutil.rmtree(root / "val2017"), "60 of 60 images"),
        (lambda root: (root / VAL).write_text("{"), "JSON|COCO instances file"),
    ],
)
def test_a_folder_that_cannot_judge_is_refused(
    break_it, says: str, coco_root: Path, data: Data, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(coco_root, root)
    break_it(root)
    with pytest.raises(UserError, match=says) as refusal:
        find_judge(str(root), data, None)
    assert "\n" not in str(refusal.value)


def test_other_classes_cannot_judge(coco_root: Path, data: Data) -> None:
    with pytest.raises(UserError, match="has other classes"):
        find_judge(str(coco_root), replace(data, classes=data.classes[1:]), None)


def test_the_subset_itself_is_no_judge(subset: Path, data: Data) -> None:
    with pytest.raises(UserError, match="only images that choose the best epoch"):
        find_judge(str(subset), data, None)


def test_create_has_all_val_images_at_hand(coco_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(coco_root, root)
    command = [sys.executable, str(CREATE), "--coco-root", str(root), "--target-size", "24", "--val-size", "12"]
    command += ["--output-dir", str(tmp_path / "subset"), "--judge", "full"]
    done = call(command)
    assert done.returncode == 0, done.stderr
    assert find_judge("full", read_data(tmp_path / "subset" / "coco1k.yaml"), None).split.size == 60 - 12
    for path in list((root / "val2017").iterdir())[:3]:
        path.unlink()
    done = call([*command, "--force"])
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_a_pilot_of_a_data_yaml_is_judged_by_the_other_val_images_of_it(subset: Path, tmp_path: Path) -> None:
    """The source has labels and no annotations: those that are made of them are written into the project."""
    for split in ("train2017", "val2017"):
        shutil.copytree(subset / "images" / split, tmp_path / "own" / "images" / split)
        shutil.copytree(subset / "labels" / split, tmp_path / "own" / "labels" / split)
    names = yaml.safe_load((subset / "coco1k.yaml").read_text())["names"]
    given = {"path": str(tmp_path / "own"), "train": "images/train2017", "val": "images/val2017", "names": names}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(given))
    command = [sys.executable, str(CREATE), "--data", str(tmp_path / "my.yaml"), "--target-size", "24"]
    done = call([*command, "--val-size", "12", "--output-dir", str(tmp_path / "pilot")])
    assert done.returncode == 0, done.stderr
    pilot, project = read_data(tmp_path / "pilot" / "coco1k.yaml"), tmp_path / "project"
    judge = find_judge("auto", pilot, None)
    assert judge.split.size == 12 and judge_faults(judge.split, [pilot]) == []
    truth = json.loads(judge.written(pilot.classes, project).split.annotations.read_bytes())
    assert len(truth["images"]) == 12 and truth["annotations"]
