"""What a teacher finds in images: each is looked at once, and what cannot be decoded is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from layouts import picture

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
    sizes = {"a": (64, 48), "b": (48, 64), "c": (64, 48)}
    one, other, broken = (Picture(str(tmp_path / f"{name}.jpg"), name, size) for name, size in sizes.items())
    for seed, good in enumerate((one, other)):
        picture(Path(good.file), seed, good.size)
    Path(broken.file).write_text("no image")
    teacher, settings = str(models / "teacher.pt"), {"imgsz": 64, "batch": 2, "device": "cpu"}
    store = BoxStore(tmp_path / "boxes.json", IDENTITY)
    assert teach(teacher, [one, broken], store, **settings) == {Path(broken.file): "cannot be decoded"}
    assert "a" in store and "c" not in store and len(store["a"]) > 0 and store["a"][:, 1].min() >= LOW
    kept = BoxStore(store.path, IDENTITY)
    store.add("a", np.zeros((0, 6)))
    assert teach(teacher, [one, other], store, **settings) == {}
    assert len(store["a"]) == 0 < len(kept["a"]), "it was not looked at again"
    assert "b" in BoxStore(store.path, IDENTITY) and store.cost.seconds > kept.cost.seconds > 0
    assert teach("nowhere.pt", [one], store, **settings) == {}, "nothing is left to do"
