"""Own data as a study takes it: the truth that judges, written as COCO annotations.

What Ultralytics reads (`scan.py`) is written down. Hence a study trains on, annotates and judges by the same boxes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import yaml

from coco1k_kd.data.dataset import Data
from coco1k_kd.data.yamls import read_yaml
from coco1k_kd.files import write_atomic

_THINNEST = 1e-4  # pixels: what a box has at least after rounding, since Ultralytics trains on it


def coco(
    names: Sequence[str], sizes: np.ndarray, boxes: Sequence[np.ndarray], classes: Sequence[str], description: str
) -> bytes:
    """A split as a COCO annotation file; image i has id i + 1, class c has id c + 1. The same data, the same bytes.

    Args:
        names: of the images, by which they are known.
        sizes: (I, 2) int, width and height in pixels after EXIF.
        boxes: I arrays (n, 5) of class index, centre x, centre y, width and height, as fractions of the image; those
            without width or height are left out.
        classes: names by class index.
        description: what the file says that it is.
    """
    index = np.repeat(np.arange(len(boxes)), [len(of_image) for of_image in boxes])
    table = np.column_stack((index, np.concatenate((np.zeros((0, 5)), *boxes))))
    table = table[(table[:, 4:] > 0).all(axis=1)]
    size = sizes[table[:, 0].astype(int)]
    extent = table[:, 4:6] * size
    corner = table[:, 2:4] * size - extent / 2
    rounded = np.round(np.column_stack((corner, np.maximum(extent, _THINNEST))), 4)
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
            zip(table[:, 0].tolist(), table[:, 1].tolist(), rounded.tolist(), strict=True), 1
        )
    ]
    images = [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, (name, (width, height)) in enumerate(zip(names, sizes.tolist(), strict=True), 1)
    ]
    return msgspec.json.encode(
        {
            "info": {"description": description},
            "images": images,
            "annotations": entries,
            "categories": [{"id": index, "name": name} for index, name in enumerate(classes, 1)],
        }
    )


def write(data: Data, project: Path) -> Data:
    """Write the truth of every split, and a data YAML that names its images one by one, into `project`/data.

    The folder has the hash of what is in it: other labels are other data. What Ultralytics left out is not listed.
    """
    truth = {f"{name}.json": split.content.raw for name, split in data.splits.items()}
    lists = {f"{name}.txt": "".join(f"{file}\n" for file in split.files) for name, split in data.splits.items()}
    shape = read_yaml(data.yaml).get("kpt_shape")  # without it Ultralytics reads the labels otherwise
    keys = {"channels": 3} | ({"kpt_shape": shape} if shape else {})
    digest = hashlib.sha256(repr(sorted(keys.items())).encode())
    for name, content in sorted((truth | lists).items()):
        digest.update(name.encode() + (content if isinstance(content, bytes) else content.encode()))
    folder = project.absolute() / "data" / f"{data.yaml.stem}_{digest.hexdigest()[:12]}"
    content = {"path": str(folder), **{name: f"{name}.txt" for name in data.splits}, **keys}
    content |= {"names": dict(enumerate(data.classes))}
    files = truth | lists | {"data.yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}
    for name, text in files.items():  # those of a project that was copied name the place that it was copied from
        place, content = folder / name, text if isinstance(text, bytes) else text.encode()
        if not place.exists() or place.read_bytes() != content:
            write_atomic(place, content)
    splits = {
        name: replace(
            split, content=replace(split.content, path=folder / f"{name}.json"), listed=folder / f"{name}.txt"
        )
        for name, split in data.splits.items()
    }
    return replace(data, yaml=folder / "data.yaml", given=data.yaml, **splits)
