"""Own data as a study takes it: the truth that judges, written as COCO annotations, and what forbids a study.

What Ultralytics reads (`scan.py`) is written down. Hence a study trains on, annotates and judges by the same boxes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import yaml

from coco1k_kd.data.annotations import parse
from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.data.labels import label_clashes, label_file
from coco1k_kd.data.leaks import CHOOSES, TRAINS, leak
from coco1k_kd.data.scan import OwnData, Scan
from coco1k_kd.errors import UserError
from coco1k_kd.files import write_atomic

_LEFT_OUT = 0.01  # of a split: so many unreadable images are named and left out, more are refused
_THINNEST = 1e-4  # pixels: what a box has at least after rounding, since Ultralytics trains on it


def coco(split: Scan, classes: Sequence[str], description: str) -> bytes:
    """A split as a COCO annotation file; image i has id i + 1, class c has id c + 1. The same data, the same bytes."""
    size = split.sizes[split.table[:, 0].astype(int)] if len(split.table) else np.zeros((0, 2))
    extent = split.table[:, 4:6] * size
    corner = split.table[:, 2:4] * size - extent / 2
    boxes = np.round(np.column_stack((corner, np.maximum(extent, _THINNEST))), 4)
    entries = [
        {
            "id": number,
            "image_id": int(image) + 1,
            "category_id": int(label) + 1,
            "bbox": box,
            "area": round(box[2] * box[3], 4),
            "iscrowd": 0,
        }
        for number, (image, label, box) in enumerate(
            zip(split.table[:, 0].tolist(), split.table[:, 1].tolist(), boxes.tolist(), strict=True), 1
        )
    ]
    images = [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, (name, (width, height)) in enumerate(zip(split.names, split.sizes.tolist(), strict=True), 1)
    ]
    return msgspec.json.encode(
        {
            "info": {"description": description},
            "images": images,
            "annotations": entries,
            "categories": [{"id": index, "name": name} for index, name in enumerate(classes, 1)],
        }
    )


def faults(data: OwnData) -> list[str]:
    """Why no study can be made of the data, each in a line; empty if one can."""
    found = []
    for name, split in data.splits.items():
        listed = len(split.files) + len(split.left_out)
        if len(split.left_out) > _LEFT_OUT * listed:
            few = f"Ultralytics leaves out {len(split.left_out):,} of {listed:,} images"
            found.append(f"{name}: {few}, the first: {split.left_out[0]}")
        if not len(split.table):
            places = f"{split.files[0]} has its labels in {label_file(split.files[0].as_posix())}"
            found.append(f"{name}: none of the {len(split.files):,} images has a box; {places}")
        found += [f"{name}: {clash}" for clash in label_clashes(split.names)]
        if split.outlines.keypoints:
            found.append(
                f"{name}: all {split.outlines.rows:,} rows of more than 6 columns look like class, box and keypoints, "
                f"and Ultralytics would take them for polygons (the first: {split.outlines.keypoints}); give kpt_shape "
                "in the YAML, or cut the columns behind the box"
            )
    for (judge, other), twins in data.twins.items():
        files, used = data.splits[judge].files, TRAINS if other == "train" else CHOOSES
        if same := [leak(file, twins[file], used) for file in files if file in twins]:
            found.append(f"{judge}, {len(same):,} of {len(files):,} images: {same[0]}")
    return found


def notes(data: OwnData) -> list[str]:
    """What is worth knowing about the data and does not forbid a study, each in a line."""
    found = [*data.notes]
    for name, split in data.splits.items():
        if split.left_out:
            images = count(len(split.left_out), "image")
            found.append(f"{name}: Ultralytics leaves out {images}, the first: {split.left_out[0]}")
        if split.unlabelled:
            found.append(f"{name}: {count(split.unlabelled, 'image')} without a label file, taken for background")
        if split.outlines.rows and not split.outlines.keypoints:
            boxes = sum(map(len, split.boxes))
            found.append(
                f"{name}: {split.outlines.rows:,} of {count(boxes, 'box', 'boxes')} are drawn around outlines: rows of "
                "more than 5 columns are taken for class and polygon; where they are class, box and keypoints, give "
                "kpt_shape in the YAML"
            )
        if empty := sum(map(len, split.boxes)) - len(split.table):
            found.append(f"{name}: {count(empty, 'box', 'boxes')} without width or height, not judged")
    return found


def boxes_alone(outlines: bool, keypoints: bool) -> list[str]:
    """What of labels for other tasks than detection a study leaves aside, in a line; empty where there is nothing."""
    more = ["outlines (segmentation, oriented boxes)"] * outlines + ["keypoints (pose)"] * keypoints
    told = "a study is of detectors: it trains and judges the upright boxes, and none of the"
    return [f"{told} {' and '.join(more)}"] if more else []


def refuse(data: OwnData) -> None:
    """UserError with the first fault of the data, if there is one, and how many more there are."""
    if wrong := faults(data):
        more = f" (and {count(len(wrong) - 1, 'fault')} more)" if wrong[1:] else ""
        raise UserError(f"{data.yaml}: {wrong[0]}{more}")


def write(data: OwnData, project: Path) -> Data:
    """Write the truth of every split, and a data YAML that names its images one by one, into `project`/data.

    The folder has the hash of what is in it: other labels are other data. What Ultralytics left out is not listed.
    """
    truth = {f"{name}.json": coco(split, data.classes, data.yaml.name) for name, split in data.splits.items()}
    lists = {f"{name}.txt": "".join(f"{file}\n" for file in split.files) for name, split in data.splits.items()}
    digest = hashlib.sha256(repr(sorted(data.keys.items())).encode())
    for name, content in sorted((truth | lists).items()):
        digest.update(name.encode() + (content if isinstance(content, bytes) else content.encode()))
    folder = project.absolute() / "data" / f"{data.yaml.stem}_{digest.hexdigest()[:12]}"
    content = {"path": str(folder), **{name: f"{name}.txt" for name in data.splits}, **data.keys}
    content |= {"names": dict(enumerate(data.classes))}
    files = truth | lists | {"data.yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}
    for name, text in files.items():  # those of a project that was copied name the place that it was copied from
        place, content = folder / name, text if isinstance(text, bytes) else text.encode()
        if not place.exists() or place.read_bytes() != content:
            write_atomic(place, content)
    splits = {
        name: Split(parse(truth[file.name], file), split.root, split.names, file.with_suffix(".txt"))
        for name, split in data.splits.items()
        for file in [folder / f"{name}.json"]
    }
    return Data(folder / "data.yaml", data.root, data.classes, **splits, given=data.yaml)


def count(number: int, one: str, many: str = "") -> str:
    """A number of things in words: `1 box`, `2,000 boxes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
