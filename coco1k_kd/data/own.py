"""Anybody's detection data in Ultralytics' format, read by Ultralytics itself: its splits, and the truth that judges.

A data YAML may name folders, lists of folders or text files, with or without `path`. Ultralytics resolves all of it
and reads the labels; what it reads is written down as COCO annotations. Hence a study trains on, annotates and judges
by the same boxes. Format: https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import yaml

from coco1k_kd.data import annotations
from coco1k_kd.data.accept import CHOOSES, accept, leaks
from coco1k_kd.data.dataset import Data, Split, annotations_beside, read_data
from coco1k_kd.data.entries import SUFFIXES
from coco1k_kd.data.labels import label_clashes, label_file, left_out
from coco1k_kd.data.manifest import MANIFEST, read_manifest
from coco1k_kd.data.quiet import quiet
from coco1k_kd.errors import UserError
from coco1k_kd.files import write_atomic

SPLITS = ("train", "val", "test")
_LEFT_OUT = 0.01  # of a split: so many unreadable images are named and left out, more are refused
_KEPT_KEYS = ("channels", "kpt_shape")  # what Ultralytics needs to know to read the labels again
_THINNEST = 1e-4  # pixels: what a box has at least after rounding, since Ultralytics trains on it
_LONGEST = 300  # characters of a message that is not ours


@dataclass(frozen=True)
class Scan:
    """One split as Ultralytics reads it.

    Attributes:
        files: absolute paths of the images.
        sizes: (I, 2) int, width and height in pixels after EXIF.
        boxes: I arrays (n, 5) of class index, centre x, centre y, width and height, as fractions of the image.
        unlabelled: images without a label file, which are trained on as background.
        left_out: what Ultralytics says of each image that it leaves out.
    """

    files: tuple[Path, ...]
    sizes: np.ndarray
    boxes: tuple[np.ndarray, ...]
    unlabelled: int
    left_out: tuple[str, ...]

    @cached_property
    def root(self) -> Path:
        """The innermost folder that holds all images."""
        return Path(os.path.commonpath([file.parent for file in self.files]))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Paths of the images relative to `root`."""
        return tuple(file.relative_to(self.root).as_posix() for file in self.files)

    @cached_property
    def table(self) -> np.ndarray:
        """(B, 6) all boxes: index of the image, then the box; those without width or height are left out."""
        index = np.repeat(np.arange(len(self.boxes)), [len(boxes) for boxes in self.boxes])
        table = np.column_stack((index, np.concatenate((np.zeros((0, 5)), *self.boxes))))
        return table[(table[:, 4:] > 0).all(axis=1)]


@dataclass(frozen=True)
class OwnData:
    """What a data YAML names: class names by index, and the splits that it has."""

    yaml: Path
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, Scan]
    keys: dict[str, Any]


def resolve(path: Path, download: bool = True) -> dict[str, Any]:
    """A data YAML as Ultralytics resolves it: absolute places of the splits, and names by index.

    Args:
        path: the YAML, or the name of one that Ultralytics brings along.
        download: let Ultralytics fetch the images where the YAML has `download:` and they are missing, as it does
            before a training.

    Raises:
        UserError: it is not a data YAML, or the images of train or val are not there.
    """
    from ultralytics.data.utils import check_det_dataset
    from ultralytics.utils.checks import check_file

    with _in_one_line(f"{path} cannot be used as a data YAML"):
        if not path.exists() and not check_file(str(path), hard=False):
            raise UserError(
                f"{path} does not exist: make a subset with create_coco1k.py, or give --data your data YAML"
            )
        found = check_det_dataset(str(path), autodownload=download)
        for split in SPLITS:
            places = _places(found, split)
            if not places and split != "test":
                raise ValueError(f"{split}: names no images")
            if missing := [place for place in places if not Path(place).exists()]:
                raise ValueError(f"{split}: {missing[0]} does not exist")
        found["names"] = {index: found["names"][index] for index in range(len(found["names"]))}
    return found


def read(path: Path, download: bool = True) -> OwnData:
    """Have Ultralytics read all images and labels that a data YAML names. UserError if it cannot, in one line."""
    found = resolve(path, download)
    _check_channels(path, found)
    classes = tuple(found["names"].values())
    if twice := [name for i, name in enumerate(classes) if name in classes[:i]]:
        raise UserError(f"{path} has two classes of the name {twice[0]!r}: give each class a name of its own")
    splits = {split: scan(path, split, found) for split in SPLITS if found.get(split)}
    keys = {key: found[key] for key in _KEPT_KEYS if key in found}
    return OwnData(Path(found["yaml_file"]).resolve(), Path(found["path"]).resolve(), classes, splits, keys)


def scan(path: Path, split: str, resolved: dict[str, Any]) -> Scan:
    """One split of a resolved YAML by Ultralytics' own data set: segments are boxes, equal lines count once.

    Ultralytics writes its label cache beside the labels where it may. UserError if there is nothing to read.
    """
    from ultralytics.data.dataset import YOLODataset

    with _in_one_line(f"{path}, {split}"):
        found = YOLODataset(img_path=resolved[split], data=resolved, augment=False)
        listed = found.get_img_files(resolved[split])
    label_files = dict(zip(listed, found.label_files, strict=True))
    unread = sorted(set(listed) - set(found.im_files))
    files = tuple(Path(os.path.abspath(file)) for file in found.im_files)  # noqa: PTH100 - links stay links
    if odd := next((str(file) for file in files if not _can_be_listed(str(file))), None):
        raise UserError(f"{path}, {split}: {odd!a} has a line break or no UTF-8 in its path; rename it")
    first: dict[Path, Path] = {}
    for file in files:
        if (known := first.setdefault(file.resolve(), file)) is not file:
            link = f", also as {known}" if known != file else ""
            raise UserError(f"{path}, {split}: {file} is listed twice{link}; list every image once")
    return Scan(
        files=files,
        sizes=np.array([label["shape"][::-1] for label in found.labels], np.int64).reshape(-1, 2),
        boxes=tuple(np.column_stack((label["cls"], label["bboxes"])).astype(np.float64) for label in found.labels),
        unlabelled=sum(not Path(label_files[file]).is_file() for file in found.im_files),
        left_out=(
            *(_one_line(left_out(file, label_files[file], resolved)) for file in unread),
            *_unseen(_places(resolved, split), set(label_files.values())),
        ),
    )


def _places(resolved: dict[str, Any], split: str) -> list[str]:
    """The folders and text files of a split."""
    found = resolved.get(split) or []
    return [found] if isinstance(found, str) else found


def _can_be_listed(file: str) -> bool:
    """Whether a text file of paths can hold this one."""
    with suppress(UnicodeEncodeError):
        return bool(file.encode()) and len(file.splitlines()) == 1
    return False


def _unseen(places: list[str], labels: set[str]) -> Iterator[str]:
    """Yield what Ultralytics passes over without a word: images by their suffix, and lines of a list that end oddly.

    A file is taken for an image if it has a label file that is no other image's. `labels`: those of the images.
    """
    for place in map(Path, places):
        if place.is_file():
            lines = [line for line in place.read_text("utf-8-sig").splitlines() if line.strip() and line[0] != "#"]
            yield from (f"{place}: the line {line!a} does not end as an image does" for line in lines if _passed(line))
        for folder, _, names in os.walk(place):
            for file in (f"{folder}/{name}" for name in sorted(names) if _passed(name) and not name.endswith(".txt")):
                if (label := label_file(file)) not in labels and Path(label).is_file():
                    yield f"{file} has labels and a suffix that Ultralytics does not read; convert it to JPEG or PNG"


def _passed(name: str) -> bool:
    """Whether Ultralytics does not take a file for an image."""
    return name.rpartition(".")[2].lower() not in SUFFIXES


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
    parts = {name: Split(data.yaml, split.root, split.names) for name, split in data.splits.items()}
    for judge, other, *used in (("val", "train"), ("test", "train"), ("test", "val", CHOOSES)):
        if judge in parts and (same := leaks(parts[other], parts[judge], *used)):
            found.append(f"{judge}, {len(same):,} of {parts[judge].size:,} images: {same[0]}")
    return found


def notes(data: OwnData) -> list[str]:
    """What is worth knowing about the data and does not forbid a study, each in a line."""
    found = []
    for name, split in data.splits.items():
        if split.left_out:
            images = _count(len(split.left_out), "image")
            found.append(f"{name}: Ultralytics leaves out {images}, the first: {split.left_out[0]}")
        if split.unlabelled:
            found.append(f"{name}: {_count(split.unlabelled, 'image')} without a label file, taken for background")
        if empty := sum(map(len, split.boxes)) - len(split.table):
            found.append(f"{name}: {_count(empty, 'box', 'boxes')} without width or height, not judged")
    return found


def write(data: OwnData, project: Path) -> Data:
    """Write the truth of every split, and a data YAML that names its images one by one, into `project`/data.

    The folder has the hash of what is in it: other labels are other data. What Ultralytics left out is not listed.
    """
    description = data.yaml.name
    truth = {f"{name}.json": coco(split, data.classes, description) for name, split in data.splits.items()}
    lists = {f"{name}.txt": "".join(f"{file}\n" for file in split.files) for name, split in data.splits.items()}
    digest = hashlib.sha256(repr(sorted(data.keys.items())).encode())
    for name, content in sorted((truth | lists).items()):
        digest.update(name.encode() + (content if isinstance(content, bytes) else content.encode()))
    folder = project.absolute() / "data" / f"{data.yaml.stem}_{digest.hexdigest()[:12]}"
    content = {"path": str(folder), **{name: f"{name}.txt" for name in data.splits}, **data.keys}
    content |= {"names": dict(enumerate(data.classes))}
    files = truth | lists | {"data.yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}
    for name, text in files.items():
        if not (folder / name).exists():
            write_atomic(folder / name, text)
    splits = {
        name: Split(folder / f"{name}.json", split.root, split.names, folder / f"{name}.txt", description)
        for name, split in data.splits.items()
    }
    return Data(folder / "data.yaml", data.root, data.classes, **splits, given=data.yaml)


def open_data(path: Path, project: Path) -> Data:
    """The data of a study: a subset or other COCO data by its own annotations, anything else as Ultralytics reads it.

    Raises:
        UserError: the first fault of the data, and how many more there are.
    """
    if _has_annotations(path):
        return _read_with_annotations(path)
    data = read(path)
    refuse(data)
    _print("note", notes(data))
    return write(data, project)


def check(path: Path) -> None:
    """Print what a study would find in a data YAML; nothing is written or downloaded. UserError if it is refused."""
    wrong: list[str] = []
    with TemporaryDirectory() as folder:
        if _has_annotations(path):
            data = _read_with_annotations(path)
            print(describe(data))
        else:
            found = read(path, download=False)
            wrong, data = faults(found), write(found, Path(folder))
            print(describe(data))
            _print("note", notes(found))
        _print("fault", wrong)
        if not wrong:
            _print("note", accept(data))
    if wrong:
        raise UserError(f"{path}: {_count(len(wrong), 'fault')}, the first: {wrong[0]}")


def describe(data: Data) -> str:
    """Images, boxes and classes of every split, then the boxes of each class, as a table."""
    found = {name: annotations.read(split.annotations) for name, split in data.splits.items()}
    boxes = {name: part.category[part.valid] for name, part in found.items()}
    counts = {name: np.bincount(boxes[name], minlength=len(data.classes)) for name in found}
    lines = []
    for name, part in found.items():
        background = len(part.image_ids) - len(np.unique(part.image[part.valid]))
        classes = f"{np.count_nonzero(counts[name])} of {len(data.classes)} classes"
        images = f"{_count(len(part.image_ids), 'image')} ({background:,} without a box)"
        lines.append(f"{name}: {images}, {_count(len(boxes[name]), 'box', 'boxes')} of {classes}")
    width = max(map(len, data.classes))
    lines.append(f"{'boxes':{width}}" + "".join(f"{name:>10}" for name in found))
    for index, label in enumerate(data.classes):
        lines.append(f"{label:{width}}" + "".join(f"{count[index]:10,}" for count in counts.values()))
    return "\n".join(lines)


def refuse(data: OwnData) -> None:
    """UserError with the first fault of the data, if there is one, and how many more there are."""
    if wrong := faults(data):
        more = f" (and {_count(len(wrong) - 1, 'fault')} more)" if wrong[1:] else ""
        raise UserError(f"{data.yaml}: {wrong[0]}{more}")


def _print(kind: str, lines: Iterable[str]) -> None:
    print("".join(f"{kind}: {line}\n" for line in lines), end="", flush=True)


def _read_with_annotations(path: Path) -> Data:
    """COCO data by its own annotations. UserError if Ultralytics, which trains on it, refuses its YAML or reads another
    place from it.
    """
    from ultralytics.data.utils import check_det_dataset

    data = read_data(path)
    with _in_one_line(f"{path} cannot be used as a data YAML"):
        found = check_det_dataset(str(path), autodownload=False)
    _check_channels(path, found)
    for name, split in data.splits.items():
        if Path(found[name]).resolve() != split.images:
            raise UserError(
                f"{path}, {name}: Ultralytics reads {found[name]}, but the annotations are of the images in "
                f"{split.images}; give the folder relative to path"
            )
    return data


def _check_channels(path: Path, resolved: dict[str, Any]) -> None:
    """UserError if the pictures have not the channels that models of this comparison take."""
    if resolved["channels"] != 3:
        raise UserError(f"{path} has channels: {resolved['channels']}; teacher and student take pictures of 3 channels")


def _has_annotations(path: Path) -> bool:
    """Whether COCO annotations lie beside the images of a data YAML, or a manifest says that they should."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        root = Path(content.get("path") or path.parent)
        files = [annotations_beside(root, content[key]) for key in ("train", "val")]
    except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return False  # Ultralytics knows better what is wrong, or what the YAML means
    return all(file.is_file() for file in files) or _is_subset(root)


def _is_subset(root: Path) -> bool:
    with suppress(UserError):
        return bool(read_manifest(root / MANIFEST))
    return False


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


@contextmanager
def _in_one_line(where: str) -> Iterator[None]:
    """Ultralytics is quiet, and what it raises, of whatever kind, is a line about the user's files."""
    try:
        with quiet():
            yield
    except UserError:
        raise
    except Exception as error:  # its errors have many kinds, which change from release to release
        raise UserError(f"{where}: {_one_line(error.__cause__ or error)}") from None


def _one_line(message: object) -> str:
    """A message of Ultralytics without colours, pictures, line breaks and links."""
    text = str(message.args[0]) if isinstance(message, KeyError) and message.args else str(message)
    text = text.partition("\nNote dataset download directory")[0]
    text = text.replace("No module named 'pi_heif'", "no image that can be read")  # its last resort for any file
    text = re.sub(r"\x1b\[[0-9;]*m|See https://\S+ for [^.]*\.|[^\w\s!-~\u00a0-\u024f]", "", text)
    return " ".join(text.split())[:_LONGEST] or type(message).__name__
