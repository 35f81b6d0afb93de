"""Subsets that are read, and those whose fault is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from coco1k_kd.data.accept import accept
from coco1k_kd.data.dataset import read_data
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256

VAL = "annotations/instances_val2017.json"


def test_a_good_subset_is_read(subset_to_spoil: Path) -> None:
    data = read_data(subset_to_spoil / "coco1k.yaml")
    assert (data.train.size, data.val.size) == (48, 24)
    assert data.record()["manifest_sha256"] == sha256(subset_to_spoil / "manifest.json")
    assert len(data.classes) == data.record()["classes"] == 12


def _drop_image(folder: Path) -> None:
    next((folder / "images" / "val2017").glob("*.jpg")).unlink()


def _drop_labels(folder: Path) -> None:
    shutil.rmtree(folder / "labels" / "train2017")


def _add_image(folder: Path) -> None:
    (folder / "images" / "val2017" / "stranger.jpg").write_bytes(b"")


def _drop_annotations(folder: Path) -> None:
    (folder / "annotations" / "instances_val2017.json").unlink()


def _tear_annotations(folder: Path) -> None:
    path = folder / "annotations" / "instances_train2017.json"
    path.write_bytes(path.read_bytes()[:100])


def _rename_class(folder: Path) -> None:
    path = folder / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_bytes())
    content["categories"][0]["name"] = "unicorn"
    path.write_text(json.dumps(content))


def _break_yaml(folder: Path) -> None:
    (folder / "coco1k.yaml").write_text("train: [")


def _no_yaml(folder: Path) -> None:
    (folder / "coco1k.yaml").unlink()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (_drop_image, "1 of 24 images"),
        (_drop_labels, "there is no label file"),
        (_add_image, "stranger.jpg"),
        (_drop_annotations, "cannot read"),
        (_tear_annotations, "not a whole COCO instances file"),
        (_rename_class, "unicorn"),
        (_break_yaml, "not a data YAML"),
        (_no_yaml, "create_coco1k.py"),
    ],
)
def test_a_broken_subset_is_refused(subset_to_spoil: Path, fault: Any, named: str) -> None:
    fault(subset_to_spoil)
    with pytest.raises(UserError, match=named) as caught:
        accept(read_data(subset_to_spoil / "coco1k.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "value"),
    [("categories", "a"), ("categories", {"id": 1}), ("images", {"id": 1}), ("annotations", {}), ("annotations", None)],
)
def test_malformed_entries_are_no_traceback(subset_to_spoil: Path, part: str, value: Any) -> None:
    path = subset_to_spoil / VAL
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, part: [*content[part], value]}))
    with pytest.raises(UserError, match=r"instances_val2017.json: \w+\[\d+\] is not in COCO's format"):
        read_data(subset_to_spoil / "coco1k.yaml")
