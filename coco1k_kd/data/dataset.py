"""The data set that a study is given: its splits and their annotations, checked before anything is trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, write_atomic


@dataclass(frozen=True)
class Split:
    """Train or val: its images and its COCO annotations."""

    annotations: Path
    images: Path
    names: tuple[str, ...]  # file names of the images
    listed: Path | None = None  # the text file that names them for Ultralytics, where they are not all of a folder
    description: str = ""  # what the annotations say they are: COCO 2017, or generated scenes

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.names)

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

    def record(self) -> dict[str, Any]:
        """What identifies the data, for the comparison's JSON."""
        manifest = self.root / "manifest.json"
        return {
            "description": self.val.description,
            "yaml": str(self.given or self.yaml),
            "manifest_sha256": sha256(manifest) if manifest.exists() else None,
            "train_annotations_sha256": sha256(self.train.annotations),
            "val_annotations_sha256": sha256(self.val.annotations),
            "train_images": self.train.size,
            "val_images": self.val.size,
            "classes": len(self.classes),
        }


def read_data(path: Path) -> Data:
    """Read and check a data YAML, its annotations, images and labels. UserError names the first fault."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: make the subset with create_coco1k.py, or give --data its coco1k.yaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        classes = tuple(str(names[i]) for i in range(len(names)))
        places = [str(content[key]) for key in ("train", "val")]
        root = Path(content.get("path") or path.parent)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path} is no data YAML with train, val and names ({reason})") from None
    if not root.is_dir():
        raise UserError(f"{path} says path: {root}, which is no folder: correct it, or make the subset anew")
    train, val = (_split(root, root / place, classes) for place in places)
    return Data(path.resolve(), root.resolve(), classes, train, val)


def read_full_val(coco_root: Path, classes: Sequence[str]) -> Split:
    """COCO's whole val2017, for `--eval-full-val`."""
    images = coco_root / "val2017"
    annotations = coco_root / "annotations" / "instances_val2017.json"
    for place in (images, annotations):
        if not place.exists():
            raise UserError(
                f"--eval-full-val: {place} does not exist; give the folder that holds val2017/ and annotations/"
            )
    with _well_formed(annotations):
        content = _read_annotations(annotations)
        _check_classes(annotations, content, classes)
        return Split(annotations, images, _check_images(annotations, content, images))


def full_val_yaml(split: Split, classes: Sequence[str], project: Path) -> Path:
    """A data YAML for all of val2017 whose images are links in the project: Ultralytics writes a cache beside them."""
    folder = project / "references" / f"val2017_{sha256(split.annotations)[:8]}"
    images = folder / "images" / "val2017"
    images.mkdir(parents=True, exist_ok=True)
    for name in split.names:
        link, target = images / name, (split.images / name).absolute()
        if not link.is_symlink() or link.readlink() != target:  # COCO may have moved since
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    content = {
        "path": str(folder),
        "train": "images/val2017",
        "val": "images/val2017",
        "names": dict(enumerate(classes)),
    }
    write_atomic(folder / "val2017.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return folder / "val2017.yaml"


def scan(data: Data) -> None:
    """Have Ultralytics look at all images and labels, which takes seconds. UserError if it would leave some out.

    It does so without a word, and the audit would find it when all is trained. Its label caches are there from then on:
    runs that start at once would each write them, and unlink another's.
    """
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    try:
        LOGGER.setLevel(logging.ERROR)
        for split in data.splits.values():
            names = dict(enumerate(data.classes))
            found = YOLODataset(img_path=str(split.place), data={"names": names, "channels": 3})
            if len(found) != split.size:
                whole = {Path(file).name for file in found.im_files}
                first = next(name for name in split.names if name not in whole)
                raise UserError(
                    f"Ultralytics would leave out {split.size - len(found)} of {split.size} images of {split.images}: "
                    f"{first} or its labels are damaged; look with create_coco1k.py --verify"
                )
    finally:
        LOGGER.setLevel(level)


def _split(root: Path, images: Path, classes: Sequence[str]) -> Split:
    annotations = root / "annotations" / f"instances_{images.name}.json"
    with _well_formed(annotations):
        content = _read_annotations(annotations)
        _check_classes(annotations, content, classes)
        names = _check_images(annotations, content, images)
        _check_labels(annotations, content, images)
    info = content.get("info")
    description = str(info.get("description", "")) if isinstance(info, dict) else ""
    return Split(annotations.resolve(), images, names, description=description)


def _read_annotations(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if all(isinstance(content[key], list) for key in ("images", "annotations", "categories")):
            return content
        raise ValueError("no lists of images, annotations and categories")
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}): the figures come from COCO annotations beside the images; "
            "make the subset with create_coco1k.py"
        ) from None


@contextmanager
def _well_formed(path: Path) -> Iterator[None]:
    """Whatever a reader of `path` stumbles over means that it is not what it should be."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no COCO annotation file ({type(error).__name__}: {error}): make the subset anew with "
            "create_coco1k.py"
        ) from None


def _check_classes(path: Path, content: dict[str, Any], classes: Sequence[str]) -> None:
    named = [category["name"] for category in sorted(content["categories"], key=lambda category: category["id"])]
    if named != list(classes):
        raise UserError(
            f"{path} has {len(named)} classes ({', '.join(named[:3])}…), the data YAML has {len(classes)} "
            f"({', '.join(classes[:3])}…): they must be the same, by category id; make the subset anew"
        )


def _check_images(path: Path, content: dict[str, Any], folder: Path) -> tuple[str, ...]:
    names = sorted(Path(image["file_name"]).name for image in content["images"])
    if not names:
        raise UserError(f"{path} lists no images")
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} images of {path} are not in {folder} (the first: {missing[0]}): "
            "look with create_coco1k.py --verify, or make the subset anew"
        )
    extra = sorted(name for name in there - set(names) if Path(name).suffix.lower() in {".jpg", ".jpeg", ".png"})
    if extra:
        raise UserError(
            f"{folder} holds {len(extra)} images that {path} does not list (the first: {extra[0]}): take them away"
        )
    return tuple(names)


def _check_labels(path: Path, content: dict[str, Any], images: Path) -> None:
    """Ultralytics takes an image without a label file for an empty one, and says nothing."""
    with_boxes = {
        box["image_id"] for box in content["annotations"] if not box.get("iscrowd") and min(box["bbox"][2:]) > 0
    }
    head, _, tail = str(images).rpartition("/images/")
    labels = Path(head) / "labels" / tail
    stems = [Path(image["file_name"]).stem for image in content["images"] if image["id"] in with_boxes]
    missing = [stem for stem in stems if not (labels / f"{stem}.txt").exists()]
    if not head or missing:
        raise UserError(
            f"{len(missing)} of {len(stems)} label files are not in {labels if head else images}: training would see "
            "empty images; make the subset anew with create_coco1k.py"
        )
