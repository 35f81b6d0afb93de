"""Images on their way into a subset: linked or copied, and labelled as Ultralytics would."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from subsets import annotations, first, make

from coco1k_kd.data.verify import verify
from coco1k_kd.errors import UserError


def test_images_are_hard_links_where_they_can_be(coco_root: Path, tmp_path: Path):
    ways = {link: make(coco_root, tmp_path / link, "--link", link) for link in ("hard", "symlink", "copy")}
    name = first(ways["hard"] / "images/train2017")
    source = coco_root / "train2017" / name
    files = {link: folder / "images/train2017" / name for link, folder in ways.items()}
    assert files["hard"].samefile(source)
    assert files["symlink"].is_symlink()
    assert files["symlink"].samefile(source)
    assert not files["copy"].samefile(source)
    assert len({(folder / "manifest.json").read_bytes() for folder in ways.values()}) == 1
    assert all(verify(folder) == [] for folder in ways.values())


def test_copies_where_hard_links_cannot_be(coco_root: Path, tmp_path: Path, monkeypatch, capsys):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert verify(make(coco_root, tmp_path / "made")) == []
    assert "images are copies" in capsys.readouterr().out


def test_labels_are_what_ultralytics_own_converter_writes(subset: Path, tmp_path: Path):
    converter = pytest.importorskip("ultralytics.data.converter")
    converter.convert_coco(str(subset / "annotations"), str(tmp_path / "converted"), cls91to80=False)
    categories = json.loads(annotations(subset, "train").read_text())["categories"]
    ranks = {str(c["id"] - 1): str(rank) for rank, c in enumerate(sorted(categories, key=lambda c: c["id"]))}
    compared = 0
    for split in ("train2017", "val2017"):
        for path in (subset / "labels" / split).iterdir():
            theirs = (tmp_path / "converted/labels" / split / path.name).read_text().splitlines()
            rows = [line.split(" ", 1) for line in theirs]
            assert path.read_text().splitlines() == [f"{ranks[category]} {rest}" for category, rest in rows]
            compared += len(rows)
    assert compared > 100


def test_ultralytics_finds_the_labels_even_below_a_folder_named_images(coco_root: Path, tmp_path: Path):
    data = pytest.importorskip("ultralytics.data.utils")
    folder = make(coco_root, tmp_path / "images" / "made")
    images = [str(path) for path in (folder / "images/train2017").iterdir()]
    assert all(Path(label).is_file() for label in data.img2label_paths(images))


def test_a_split_on_another_disk_is_copied(copy: Path, tmp_path: Path, monkeypatch):
    link = os.link

    def refuse(source: Path, target: Path) -> None:
        if "val2017" in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)
    assert verify(make(copy, tmp_path / "made")) == []


def test_an_image_that_cannot_be_read_is_named(copy: Path, tmp_path: Path, monkeypatch):
    chosen = first(make(copy, tmp_path / "first") / "images/train2017")
    read = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self.name == chosen:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(UserError, match=f"Permission denied .*train2017/{chosen}"):
        make(copy, tmp_path / "made")
