"""Data of one's own, in the layouts that Ultralytics reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

NAMES = ["apple", "ripe pear", "배"]


SIZES = {"train": 9, "val": 5}


YAML = "fruit.yaml"


def picture(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> None:
    """An image of noise, its own for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def label(path: Path, rows: list[tuple[float, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))


def fill(images: Path, labels: Path, split: str, offset: int = 0) -> list[Path]:
    """A split with one box an image, and a second one in every other; the first image of all is background."""
    files = []
    for i in range(SIZES.get(split, 4)):
        seed = 1000 * (split == "val") + 2000 * (split == "test") + offset + i
        files.append(images / f"{i:02}.jpg")
        picture(files[-1], seed)
        rows = [(i % 3, 0.5, 0.5, 0.25, 0.5), (2, 0.25, 0.25, 0.125, 0.25)][: 1 + i % 2]
        label(labels / f"{i:02}.txt", rows if i else [])
    return files


def write_yaml(folder: Path, **content: Any) -> Path:
    path = folder / YAML
    path.write_text(yaml.safe_dump({"names": NAMES, **content}, allow_unicode=True), encoding="utf-8")
    return path


def absolute(root: Path) -> Path:
    for split in ("train", "val"):
        fill(root / "data/images" / split, root / "data/labels" / split, split)
    return write_yaml(root, path=str(root / "data"), train="images/train", val="images/val")


def without_path(root: Path) -> Path:
    for split in ("train", "val"):
        fill(root / split / "images", root / split / "labels", split)
    return write_yaml(root, train="train/images", val="val/images", names=dict(enumerate(NAMES)))


def folders_as_list(root: Path) -> Path:
    """The same file names in both folders of a split, and in a third one that judges."""
    for split in ("train", "val"):
        for part in ("a", "b"):
            fill(root / part / "images" / split, root / part / "labels" / split, split, 50 * (part == "b"))
    fill(root / "c/images", root / "c/labels", "test")
    places = {split: [f"{part}/images/{split}" for part in ("a", "b")] for split in ("train", "val")}
    return write_yaml(root, path=str(root), **places, test="c/images")


def text_files(root: Path) -> Path:
    """All images in one folder, so that Ultralytics has one label cache for both splits."""
    for split in ("train", "val"):
        files = fill(root / split, root / "labels", split)
        lines = []
        for file in files:
            place = root / "images" / f"{split}{file.name}"
            place.parent.mkdir(exist_ok=True)
            shutil.move(file, place)
            shutil.move(root / "labels" / f"{file.stem}.txt", root / "labels" / f"{place.stem}.txt")
            lines.append(f"./images/{place.name}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    return write_yaml(root, path=str(root), train="train.txt", val="val.txt")


def roboflow(root: Path) -> Path:
    """Roboflow's export: its YAML says ../train/images and means train/images."""
    for split in ("train", "valid", "test"):
        fill(root / split / "images", root / split / "labels", split.removesuffix("id"))
    places = {"train": "../train/images", "val": "../valid/images", "test": "../test/images"}
    return write_yaml(root, **places, nc=3, roboflow={"workspace": "w", "version": 1})


def nested(root: Path) -> Path:
    for split in ("train", "val"):
        for part in ("day", "night/rain"):
            fill(root / "images" / split / part, root / "labels" / split / part, split, 50 * (part != "day"))
    return write_yaml(root, path=str(root), train="images/train", validation="images/val")


def beside_each_other(root: Path) -> Path:
    """Labels beside the images, where Ultralytics looks if there is no folder called images."""
    for split in ("train", "val"):
        fill(root / split, root / split, split)
    return write_yaml(root, path=str(root), train="train", val="val")


LAYOUTS: dict[Callable[[Path], Path], dict[str, int]] = {
    absolute: {},
    without_path: {},
    folders_as_list: {"train": 18, "val": 10, "test": 4},
    text_files: {},
    roboflow: {"test": 4},
    nested: {"train": 18, "val": 10},
    beside_each_other: {},
}


def rewrite(**change: Any) -> Callable[[Path], None]:
    def change_yaml(root: Path) -> None:
        content = yaml.safe_load((root / YAML).read_text(encoding="utf-8")) | change
        (root / YAML).write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))

    return change_yaml


def bad_label(root: Path) -> None:
    (root / "data/labels/train/03.txt").write_text("7 0.5 0.5 0.1 0.1\n")


def no_labels(root: Path) -> None:
    shutil.rmtree(root / "data/labels/val")


def leak(root: Path) -> None:
    shutil.copy(root / "data/images/train/05.jpg", root / "data/images/val/copy.jpg")
