"""A teacher's boxes are found once, by what they depend on, and what cannot be decoded is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from layouts import picture

from coco1k_kd.errors import UserError
from coco1k_kd.runs.taught import LOW, BoxStore, _batches, _boxes, teach

IDENTITY = {"teacher": "t" * 64, "imgsz": 64, "iou": 0.7}


def test_a_store_gives_back_what_was_saved_and_nothing_of_other_settings(tmp_path: Path) -> None:
    file = tmp_path / "boxes.json"
    store = BoxStore(file, IDENTITY)
    store.add("a", np.array([[1, 0.5, 2, 3, 4, 5.25]]))
    store.add("b", np.zeros((0, 6)))
    assert not file.exists()
    store.seconds = 3.21
    store.save()
    again = BoxStore(file, IDENTITY)
    assert again["a"].tolist() == [[1, 0.5, 2, 3, 4, 5.25]] and again["b"].shape == (0, 6)
    assert "a" in again and "c" not in again and again.seconds == 3.2
    for change, what in (({"teacher": "u" * 64}, "--teacher"), ({"imgsz": 96}, "--imgsz"), ({"iou": 0.5}, "iou")):
        with pytest.raises(UserError, match=rf"boxes\.json was made with another {what} \(.*, now .*\): give another"):
            BoxStore(file, IDENTITY | change)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": {}, "images": {}}', '{"identity": 7}'])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(UserError, match="does not hold a teacher's boxes: give another --output"):
        BoxStore(tmp_path / "boxes.json", IDENTITY)


def test_a_batch_has_images_of_one_size_and_no_more_than_asked_for() -> None:
    sizes = {"a": (1, 1), "b": (1, 1), "c": (1, 1), "d": (2, 1), "e": (2, 2)}
    assert list(_batches(list(sizes), sizes, 2)) == [["a", "b"], ["c"], ["d"], ["e"]]


def test_boxes_are_left_top_width_height_and_those_without_a_side_are_none() -> None:
    corners = torch.tensor([[10, 20, 30.004, 60], [5, 5, 5, 9], [5, 5, 9, 5]])
    found = SimpleNamespace(xyxy=corners, cls=torch.tensor([2.0, 0, 0]), conf=torch.tensor([0.12346, 0.9, 0.9]))
    assert _boxes(found).tolist() == [[2, 0.1235, 10, 20, 20, 40]]


def test_only_what_is_missing_is_looked_at_and_what_cannot_be_decoded_is_named(models: Path, tmp_path: Path) -> None:
    images = {name: tmp_path / f"{name}.jpg" for name in "abc"}
    sizes = {"a": (64, 48), "b": (48, 64), "c": (64, 48)}
    for seed, name in enumerate("ab"):
        picture(images[name], seed, sizes[name])
    images["c"].write_text("no image")
    settings = {"imgsz": 64, "batch": 2, "device": "cpu"}
    store = BoxStore(tmp_path / "boxes.json", IDENTITY)
    first = {name: images[name] for name in "ac"}
    assert teach(str(models / "teacher.pt"), first, sizes, store, **settings) == {images["c"]: "cannot be decoded"}
    assert "a" in store and "c" not in store and len(store["a"]) > 0 and store["a"][:, 1].min() >= LOW
    kept = BoxStore(store.path, IDENTITY)
    store.add("a", np.zeros((0, 6)))
    assert teach(str(models / "teacher.pt"), {name: images[name] for name in "ab"}, sizes, store, **settings) == {}
    assert len(store["a"]) == 0 < len(kept["a"]), "it was not looked at again"
    assert "b" in BoxStore(store.path, IDENTITY) and store.seconds > kept.seconds > 0
    assert teach("nowhere.pt", {"a": images["a"]}, sizes, store, **settings) == {}, "nothing is left to do"
