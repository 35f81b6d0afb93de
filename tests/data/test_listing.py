"""Images are listed before one of them is opened, as Ultralytics lists them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from layouts import fill
from ultralytics.data.dataset import YOLODataset

from coco1k_kd.data.listing import images_found

DATA = {"names": {0: "a", 1: "b", 2: "c"}, "channels": 3}


def test_the_images_of_a_folder_and_of_a_list_are_ultralytics_own(tmp_path: Path) -> None:
    fill(tmp_path / "images/day", tmp_path / "labels/day", "val")
    fill(tmp_path / "images/night", tmp_path / "labels/night", "val", 50)
    listed = tmp_path / "some.txt"
    listed.write_text("# mine\n./images/night/03.jpg\n./images/day/01.jpg\n")
    for place, size in ((str(tmp_path / "images"), 10), (str(listed), 2), ([f"{tmp_path}/images/day", str(listed)], 7)):
        files = images_found(place, DATA)
        assert len(files) == size
        assert files == YOLODataset(img_path=place, data=DATA, augment=False).im_files


def test_what_would_be_waited_for_is_refused_in_a_folder_and_in_a_list(tmp_path: Path) -> None:
    fill(tmp_path / "images", tmp_path / "labels", "val")
    os.mkfifo(tmp_path / "images/note.txt")
    assert len(images_found(str(tmp_path / "images"), DATA)) == 5, "no image by its name"
    os.mkfifo(tmp_path / "images/pipe.JPG")
    (tmp_path / "list.txt").write_text("images/pipe.JPG\n")
    for place in ("images", "list.txt"):
        with pytest.raises(ValueError, match=r"pipe\.JPG is no file, and would be waited for; move it away"):
            images_found(str(tmp_path / place), DATA)
