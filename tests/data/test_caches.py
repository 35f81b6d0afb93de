"""Label caches are read by Ultralytics only where they hold nothing that runs."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from layouts import absolute
from PIL import Image
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset

from coco1k_kd.data.accept import accept
from coco1k_kd.data.dataset import read_data
from coco1k_kd.data.given import open_data
from coco1k_kd.data.scan import read
from coco1k_kd.errors import UserError


class Runs:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("bare", [False, True])
def test_a_cache_that_runs_code_is_refused_unread(bare: bool, tmp_path: Path) -> None:
    path, trace, cache = absolute(tmp_path), tmp_path / "ran", tmp_path / "data/labels/train.cache"
    read(path)
    content = np.load(cache, allow_pickle=True).item() | {"msgs": [Runs(trace)]}
    with cache.open("wb") as file:
        pickle.dump(content, file) if bare else np.save(file, content)
    with pytest.raises(UserError, match=r"train\.cache is not a label cache .*asks for posix.mkdir.*; delete it"):
        read(path)
    assert not trace.exists()
    cache.unlink()
    assert read(path)[0].train.size == 9


@pytest.mark.parametrize("content", [b"", b"torn", b"\x93NUMPY\x01\x00"])
def test_a_torn_cache_is_named(content: bytes, tmp_path: Path) -> None:
    path = absolute(tmp_path)
    (tmp_path / "data/labels/val.cache").write_bytes(content)
    with pytest.raises(UserError, match=r"val\.cache is not a label cache"):
        open_data(path, tmp_path / "project")


def test_what_ultralytics_writes_is_read_again(tmp_path: Path) -> None:
    path = absolute(tmp_path)
    first, second = (read(path)[0].val.content for _ in range(2))
    assert (tmp_path / "data/labels/train.cache").exists()
    assert first.raw == second.raw


@pytest.mark.parametrize("place", ["labels/train/01.txt", "images/train/01.jpg"])
def test_what_was_changed_with_its_size_and_time_kept_is_read_again(place: str, tmp_path: Path) -> None:
    path, file = absolute(tmp_path), tmp_path / "data" / place
    tag(tmp_path / "data/images/train/01.jpg")
    before, state = read(path)[0].train.content, file.stat()
    file.write_bytes(file.read_bytes().replace(b"1 0.5", b"0 0.5", 1).replace(UPRIGHT, TURNED))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    after = read(path)[0].train.content
    seen = [(one.category[one.image == 1][0], *one.sizes[1]) for one in (before, after)]
    assert seen == [(1, 64, 48), (0, 64, 48) if file.suffix == ".txt" else (1, 48, 64)]


def test_a_cache_that_cannot_be_written_anew_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = absolute(tmp_path)
    read(path)
    (tmp_path / "data/labels/val/01.txt").touch()

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(UserError, match=r"val\.cache is older than .*val/01\.txt and cannot be removed: Read-only"):
        read(path)


UPRIGHT = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01"  # EXIF's tag 0x0112, of one short number
TURNED = UPRIGHT[:-1] + b"\x06"


def tag(file: Path) -> None:
    """Give a picture the tag of an upright one."""
    with Image.open(file) as picture:
        exif, pixels = picture.getexif(), picture.copy()
    exif[0x0112] = 1
    pixels.save(file, exif=exif)
    assert file.read_bytes().count(UPRIGHT) == 1


def test_label_caches_are_those_that_training_looks_for(subset_to_spoil: Path) -> None:
    assert accept(read_data(subset_to_spoil / "coco1k.yaml")) == []
    caches = {path: path.stat().st_mtime_ns for path in subset_to_spoil.rglob("*.cache")}
    assert {path.name for path in caches} == {"train2017.cache", "val2017.cache"}
    data = check_det_dataset(str(subset_to_spoil / "coco1k.yaml"))
    for split in ("train", "val"):
        assert len(YOLODataset(img_path=data[split], data=data).labels) == {"train": 48, "val": 24}[split]
    assert {path: path.stat().st_mtime_ns for path in subset_to_spoil.rglob("*.cache")} == caches
