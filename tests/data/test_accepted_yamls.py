"""What Ultralytics trains on is accepted here, and what it refuses is refused here, with its reason."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from layouts import absolute
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset

from coco1k_kd.data.given import check, open_data
from coco1k_kd.data.scan import read
from coco1k_kd.data.source import from_yaml
from coco1k_kd.errors import UserError

NAMES = {0: "a", 1: "b", 2: "c"}

# What is changed in a YAML (None: the key is left out), by name
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no names, but their number": {"names": None, "nc": 3},
    "a number as text": {"nc": "3"},
    "a number as a float": {"nc": 3.0},
    "another number": {"nc": 5},
    "no number": {"nc": "three"},
    "neither names nor number": {"names": None},
    "no names at all": {"names": []},
    "names by index": {"names": NAMES},
    "names by index as text": {"names": {"0": "a", "1": "b", "2": "c"}},
    "names that YAML reads as something else": {"names": [True, 1.5, 7]},
    "two classes of one name": {"names": ["a", "b", "a"]},
    "a gap in the indices": {"names": {0: "a", 2: "b", 3: "c"}},
    "names that are a text": {"names": "a b c"},
    "indices that are no numbers": {"names": {"a": 1}},
    "validation for val": {"val": None, "validation": "images/val"},
    "no val": {"val": None},
    "no train": {"train": None},
    "an empty list": {"train": []},
    "a number for a place": {"train": 7},
    "a list": {"train": ["images/train"]},
    "two dots before a place": {"val": "../images/val"},
    "a list with something that is not there": {"train": ["images/train", "images/none"]},
    "an image for a place": {"val": "images/val/01.jpg"},
    "train that is not there": {"train": "images/none"},
    "val that is not there": {"val": "images/none"},
    "test that is not there": {"test": "images/none"},
    "a test split": {"test": "images/test"},
    "a test split of a number": {"test": 7},
    "minival": {"minival": "images/none"},
    "no path": {"path": None, "train": "data/images/train", "val": "data/images/val"},
    "an empty path": {"path": "", "train": "data/images/train", "val": "data/images/val"},
    "a path that is not there": {"path": "/nowhere"},
    "a path of a number": {"path": 7},
    "other keys": {"roboflow": {"license": "x"}, "augment": True, "download": 7},
    "columns behind the box that are none": {"kpt_shape": [2, 3]},
    "a shape of keypoints that is none": {"kpt_shape": 7},
}


def change(root: Path, **changes: Any) -> Path:
    path = absolute(root)
    shutil.copytree(root / "data/images/val", root / "data/images/test")
    for number, image in enumerate(sorted((root / "data/images/test").iterdir())):
        image.write_bytes(image.read_bytes()[:-2] + bytes([number]) + b"\xff\xd9")  # other pictures than those of val
    shutil.copytree(root / "data/labels/val", root / "data/labels/test")
    content = yaml.safe_load(path.read_text("utf-8")) | changes
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def trained_on(path: Path) -> tuple[dict[int, str], list[list[str]]]:
    """The names and the images that Ultralytics' training takes; raises as it does."""
    found = check_det_dataset(str(path), autodownload=False)
    sets = [YOLODataset(img_path=found[split], data=found, augment=False) for split in ("train", "val")]
    for one in sets:
        {found["names"][index] for label in one.labels for index in label["cls"].ravel().astype(int).tolist()}
    return found["names"], [one.im_files for one in sets]


def words(message: object) -> set[str]:
    """The words of a message, without colours and signs."""
    return set(re.findall(r"[A-Za-z]{4,}", re.sub(r"\x1b\[[0-9;]*m", "", str(message))))


@pytest.mark.parametrize("name", CHANGES)
def test_a_yaml_is_accepted_or_refused_as_ultralytics_does(name: str, tmp_path: Path) -> None:
    path = change(tmp_path, **CHANGES[name])
    try:
        names, images = trained_on(path)
    except Exception as error:
        with pytest.raises(UserError) as refused:
            open_data(path, tmp_path / "project")
        assert "\n" not in str(refused.value) and str(path) in str(refused.value)
        assert words(error) & words(refused.value) - words(path), f"{refused.value} has nothing of {error}"
        assert not (tmp_path / "project").exists()
        return
    data = open_data(path, tmp_path / "project")
    assert len(data.classes) == len(names) and data.classes[:2] == tuple(names.values())[:2]
    assert [[str(file) for file in split.files] for split in (data.train, data.val)] == images
    assert (data.test is not None) == (name == "a test split")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"val": ""}, "val: names no images"),  # Ultralytics: the images below the folder that it is started in
        ({"names": {-1: "a", 0: "b", 1: "c"}}, "there is none of class 2; number the classes from 0"),  # KeyError: 2
        ({"channels": 1}, "teacher and student take pictures of 3 channels"),
        ({"val": "images/train"}, "the same image as"),  # no verdict on images that were trained on
    ],
)
def test_what_is_refused_here_alone_has_a_reason(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        open_data(change(tmp_path, **changes), tmp_path / "project")


def test_of_two_classes_of_one_name_each_has_its_own(tmp_path: Path) -> None:
    """Also where the name that is free next is taken."""
    path = change(tmp_path, names=["a", "a", "a (2)"])
    data, found = read(path)
    assert data.classes == ("a", "a (3)", "a (2)")
    assert found.warnings[0] == "classes 0 and 1 have the name 'a'; the latter is called 'a (3)'"


def test_a_folder_that_holds_the_yaml_is_accepted(tmp_path: Path) -> None:
    path = change(tmp_path)
    data = open_data(tmp_path, tmp_path / "project")
    assert data.given == path and data.train.size == 9


def test_an_address_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is an address: fetch the file"):
        read(Path("https://example.com/my.yaml"))


PROGRAM = """
from pathlib import Path
root = Path(yaml["path"])
(root / "ran").touch()
(root / "away").rename(root / "images")
"""


@pytest.mark.parametrize("program", ["python", "bash"])
def test_a_program_in_a_yaml_runs_only_when_it_is_asked_for(program: str, tmp_path: Path, capsys) -> None:
    """By create_coco1k.py, by a study and by --check alike."""
    script = tmp_path / "data/fetch.sh"
    path = change(tmp_path, download=PROGRAM if program == "python" else f"bash {script}")
    script.write_text(f"touch {tmp_path}/data/ran; mv {tmp_path}/data/away {tmp_path}/data/images")
    (tmp_path / "data/images").rename(tmp_path / "data/away")
    for refuses in (open_data, lambda path, _: from_yaml(path)):
        with pytest.raises(UserError, match="its download: is a program; read it, then give --run-download"):
            refuses(path, tmp_path / "project")
    with pytest.raises(UserError, match="images not found"):
        check(path)
    assert not (tmp_path / "data/ran").exists()
    assert open_data(path, tmp_path / "project", program=True).train.size == 9
    assert (tmp_path / "data/ran").exists()
