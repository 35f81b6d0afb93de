"""What a teacher finds in images: each is looked at once, and what cannot be decoded is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from layouts import picture

from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.runs.boxes import BoxStore
from coco1k_kd.runs.spec import Picture
from coco1k_kd.runs.taught import LOW, _batches, _boxes, teach

IDENTITY = {"teacher": "t" * 64, "imgsz": 64}


def test_a_batch_has_images_of_one_size_and_no_more_than_asked_for() -> None:
    sizes = {"b": (1, 1), "a": (1, 1), "c": (1, 1), "d": (2, 1), "e": (2, 2)}
    pictures = [Picture(f"{name}.jpg", name, size) for name, size in sizes.items()]
    batches = [[one.sha256 for one in batch] for batch in _batches(pictures, 2)]
    assert batches == [["a", "b"], ["c"], ["d"], ["e"]]
    assert _batches(pictures[::-1], 2) == _batches(pictures, 2), "whatever the order"


def test_boxes_are_left_top_width_height_and_those_without_a_side_are_none() -> None:
    corners = torch.tensor([[10, 20, 30.004, 60], [5, 5, 5, 9], [5, 5, 9, 5]])
    found = SimpleNamespace(xyxy=corners, cls=torch.tensor([2.0, 0, 0]), conf=torch.tensor([0.12346, 0.9, 0.9]))
    assert _boxes(found).tolist() == [[2, 0.1235, 10, 20, 20, 40]]


def test_only_what_is_missing_is_looked_at_and_what_cannot_be_decoded_is_named(models: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.jpg" for name in "abc"]
    sizes = [(64, 48), (48, 64), (64, 48)]
    for seed in (0, 1):
        picture(files[seed], seed, sizes[seed])
    files[2].write_text("no image")
    one, other, broken = (Picture(str(file), sha256(file), size) for file, size in zip(files, sizes, strict=True))
    teacher, settings = str(models / "teacher.pt"), {"imgsz": 64, "batch": 2, "device": "cpu"}
    store = BoxStore(tmp_path / "boxes.json", IDENTITY)
    assert teach(teacher, [one, broken], store, **settings) == {Path(broken.file): "cannot be decoded"}
    assert one.sha256 in store and broken.sha256 not in store
    assert len(store[one.sha256]) > 0 and store[one.sha256][:, 1].min() >= LOW
    kept = BoxStore(store.path, IDENTITY)
    store.add(one.sha256, np.zeros((0, 6)))
    assert teach(teacher, [one, other], store, **settings) == {}
    assert len(store[one.sha256]) == 0 < len(kept[one.sha256]), "it was not looked at again"
    assert other.sha256 in BoxStore(store.path, IDENTITY) and store.cost.seconds > kept.cost.seconds > 0
    assert teach("nowhere.pt", [one], store, **settings) == {}, "nothing is left to do"


@pytest.mark.parametrize("end", ["gone", "changed"])
def test_boxes_are_of_the_image_that_was_read_or_there_are_none(models: Path, tmp_path: Path, end: str) -> None:
    file = tmp_path / "a.jpg"
    picture(file, 0, (64, 48))
    asked = Picture(str(file), sha256(file), (64, 48))
    file.unlink()
    if end == "changed":
        picture(file, 1, (64, 48))
    store = BoxStore(tmp_path / "boxes.json", IDENTITY)
    with pytest.raises(UserError, match=r"a\.jpg (is gone|has changed since it was read first)"):
        teach(str(models / "teacher.pt"), [asked], store, imgsz=64, batch=2, device="cpu")
    assert asked.sha256 not in BoxStore(store.path, IDENTITY)
