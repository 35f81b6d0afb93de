"""The data set that a study is given: its splits, their images and their annotations. `accept.py` checks them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from coco1k_kd.data.annotations import Annotations, read
from coco1k_kd.data.manifest import MANIFEST
from coco1k_kd.data.yamls import read_yaml
from coco1k_kd.errors import UserError, visible
from coco1k_kd.files import sha256
from coco1k_kd.flags import typed


@dataclass(frozen=True)
class Split:
    """Images with COCO annotations: to draw from, to train on, to choose an epoch or to judge by."""

    content: Annotations
    images: Path  # the folder that holds all images
    names: tuple[str, ...]  # paths of the images relative to that folder, with /
    listed: Path | None = None  # the text file that names them for Ultralytics, where they are not all of a folder

    @classmethod
    def of(cls, content: Annotations, images: Path) -> Split:
        """All images of an annotation file that can be used."""
        names = (image.name for image in content.images() if image.id not in content.unusable)
        return cls(content, images, tuple(sorted(names)))

    @property
    def annotations(self) -> Path:
        """The annotation file; the data YAML, where it was made of labels and not written yet."""
        return self.content.path

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.names)

    @property
    def files(self) -> list[Path]:
        """Where the images lie, in the order of their names."""
        return [self.images / name for name in self.names]

    @property
    def place(self) -> Path:
        """What Ultralytics is given for the split in a data YAML."""
        return self.listed or self.images.resolve()


@dataclass(frozen=True)
class Data:
    """A data set to train on and to judge by.

    `yaml` is what Ultralytics is given. `given` is the user's YAML, where `yaml` is the resolved form of it.
    """

    yaml: Path
    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None = None
    given: Path | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in found.items() if split}

    @property
    def manifest(self) -> Path:
        """The manifest of a subset that `create_coco1k.py` wrote; other data has none."""
        return self.root / MANIFEST

    def record(self) -> dict[str, Any]:
        """What identifies the data, for the comparison's JSON."""
        return {
            "description": self.val.content.description,
            "yaml": str(self.given or self.yaml),
            "manifest_sha256": sha256(self.manifest) if self.manifest.exists() else None,
            "train_annotations_sha256": self.train.content.sha256,
            "val_annotations_sha256": self.val.content.sha256,
            "train_images": self.train.size,
            "val_images": self.val.size,
            "classes": len(self.classes),
        }


def read_data(path: Path) -> Data:
    """Read a data YAML and its annotations; `accept.accept` checks images and labels. UserError names the fault."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: make the subset with {typed('create')}, or give --data its YAML")
    try:
        content = read_yaml(path)
        names = content["names"]
        names = dict(enumerate(names)) if isinstance(names, list) else {int(i): name for i, name in names.items()}
        classes = tuple(visible(str(names[i])) for i in range(len(names)))
        places = [one_place(content[key]) for key in ("train", "val", "test") if key != "test" or content.get(key)]
        root = Path(content.get("path") or path.parent)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path} is not a data YAML with train, val and names ({reason})") from None
    if not root.is_dir():
        raise UserError(f"{path} has path: {root}, which is not a folder; correct it, or make the subset again")
    files = [annotations_beside(root, place) for place in places]
    train, val, *test = (
        read_split(file, root / place, classes)
        for number, (file, place) in enumerate(zip(files, places, strict=True))
        if number < 2 or file.is_file()  # COCO's own test images have no annotations
    )
    return Data(path.resolve(), root.resolve(), classes, train, val, *test)


def one_place(value: str | list[str]) -> str:
    """The one place that a data YAML names for a split, in a list or not. TypeError if there are several or none."""
    place = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(place, str):
        raise TypeError(f"{value!r} is not one folder")
    return place


def annotations_beside(root: Path, place: str) -> Path:
    """Where the COCO annotations of a split lie whose images are in `place`, as a data YAML under `root` names it."""
    return root / "annotations" / f"instances_{Path(place).name}.json"


def read_split(annotations: Path, images: Path, classes: Sequence[str]) -> Split:
    """A split of COCO annotations and the folder of their images. UserError if the classes are not `classes`."""
    if not annotations.is_file():
        raise UserError(
            f"cannot read {annotations}: the figures come from COCO annotations beside the images; make the subset "
            f"with {typed('create')}"
        )
    content = read(annotations)
    if content.names != list(classes):
        raise UserError(
            f"{annotations} has {len(content.names)} classes ({', '.join(content.names[:3])}…), the data YAML has "
            f"{len(classes)} ({', '.join(classes[:3])}…): they must be the same, by category id"
        )
    split = Split.of(replace(content, path=annotations.resolve()), images.resolve())
    if not split.names:
        raise UserError(f"{annotations} lists no images")
    return split


def known_as(file: str | Path, images: Path) -> str:
    """The name by which an image is known: its path relative to the folder of its split's images, with /."""
    return Path(os.path.relpath(file, images)).as_posix()
