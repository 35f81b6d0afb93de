"""What Ultralytics trains on is accepted here, and what it refuses is refused here, with its reason."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from layouts import SIZES, YAML, absolute, bad_label, label, leak, no_labels, picture, rewrite, write_yaml
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


def test_a_root_in_ultralytics_datasets_dir_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ultralytics.data.utils.DATASETS_DIR", tmp_path / "datasets")
    path = absolute(tmp_path)
    shutil.move(tmp_path / "data", tmp_path / "datasets" / "fruit")
    write_yaml(tmp_path, path="fruit", train="images/train", val="images/val")
    data = open_data(path, tmp_path / "project")
    assert data.root == tmp_path / "datasets" / "fruit" and data.train.size == SIZES["train"]


def _text(text: str) -> Callable[[Path], None]:
    return lambda root: (root / YAML).write_text(text) and None


def _no_image(root: Path) -> None:
    for place in (root / "data/images/val").iterdir():
        place.write_text("not an image")


def _leak_behind_a_trailer(root: Path) -> None:
    """Ultralytics writes the JPEG anew when it reads its labels; from then on nothing shows where it comes from."""
    data = (root / "data/images/train/05.jpg").read_bytes()
    (root / "data/images/val/copy.jpg").write_bytes(data + b"\0SEFT")


def _judge_chooses(root: Path) -> None:
    shutil.copy(root / "data/images/val/02.jpg", root / "data/images/one.jpg")
    (root / "data/test.txt").write_text("./images/one.jpg\n")
    label(root / "data/labels/one.txt", [(0, 0.5, 0.5, 0.5, 0.5)])
    rewrite(test="test.txt")(root)


def _one_label_for_two(root: Path) -> None:
    picture(root / "data/images/val/01.png", 77)


def _twice(root: Path) -> None:
    (root / "data/val.txt").write_text("./images/val/01.jpg\n./images/val/01.jpg\n")
    rewrite(val="val.txt")(root)


def _another_suffix(root: Path) -> None:
    (root / "data/images/val/01.jpg").rename(root / "data/images/val/01.jfif")


def _space_behind_a_line(root: Path) -> None:
    (root / "data/val.txt").write_text("# mine\n./images/val/01.jpg \n./images/val/03.jpg\n")
    rewrite(val="val.txt")(root)


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
    (rewrite(val=None), "'val:' key missing"),
    (rewrite(names=None), "either 'names' or 'nc' are required"),
    (rewrite(nc=5), "must match"),
    (rewrite(names={0: "a", 2: "b"}), "invalid class indices"),
    (rewrite(names={"a": "b"}), "cannot be used as a data YAML"),
    (rewrite(channels=1), "channels: 1"),
    (rewrite(path="/nowhere"), "/nowhere/images/val"),
    (rewrite(train="images/none"), "images/none does not exist"),
    (rewrite(val=["images/val/01.jpg"]), "val: .*01.jpg is an image; name a folder"),
    (rewrite(train=["images/train", "images/none"]), "images/none does not exist"),
    (rewrite(train=7), "'train' must be"),
    (rewrite(train="images/val"), "val, 5 of 5 images: .*val/00.jpg: the same image as .*, which is trained on"),
    (_text("train: ["), "cannot be used as a data YAML"),
    (_text("just text"), "cannot be used as a data YAML"),
    (_text(""), "'train:' key missing"),
    (bad_label, "leaves out 1 of 9 images.*class 7 exceeds"),
    (no_labels, "val: none of the 5 images has a box; .*00.jpg has its labels in .*labels/val/00.txt"),
    (_no_image, "fruit.yaml, val: No valid images"),
    (leak, "val, 1 of 6 images: .*copy.jpg: the same image as .*05.jpg, which is trained on"),
    (_leak_behind_a_trailer, "val, 1 of 6 images: .*copy.jpg: the same image as .*05.jpg, which is trained on"),
    (_judge_chooses, "test, 1 of 1 images: .*one.jpg: the same image as .*02.jpg, which chooses the best epoch"),
    (_one_label_for_two, "val: 2 images have the file_name 01 but for the suffix"),
    (_twice, "01.jpg is listed twice"),
    (_link_to_itself, "00.jpg is listed twice, also as .*; list every image once"),
    (rewrite(val=""), "val: names no images"),
    (rewrite(train=[]), "train: names no images"),
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
