"""Images without labels: what a folder or a list holds, each content once, under names that share no label file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from coco1k_kd.data.entries import SUFFIXES
from coco1k_kd.data.images import see
from coco1k_kd.data.labels import label_file
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256

_THREADS = 8


@dataclass(frozen=True)
class PoolImage:
    """An image to label.

    Attributes:
        file: where it lies, absolute.
        name: its path relative to the folder of all images, with /.
        link: the same, changed where two images would share a label file, or where a folder is called `images`.
        sha256: of the file's content.
        width, height: pixels after its EXIF orientation.
    """

    file: Path
    name: str
    link: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class Pool:
    """Images to label, below `root`, and what was left out: unreadable ones by reason, second copies by the first."""

    root: Path
    images: tuple[PoolImage, ...]
    unreadable: Mapping[Path, str]
    copies: Mapping[Path, Path]
    labelled: int  # images beside which labels lie, which nobody reads


def read_pool(place: Path, without: Path) -> Pool:
    """The images of a folder and its sub-folders, or of a text file that lists them. UserError if there are none.

    `without`: a folder that is passed over, since results are written there.
    """
    files = _listed(place, without)
    if not files:
        raise UserError(f"{place} holds no image; Ultralytics reads the suffixes {', '.join(sorted(SUFFIXES))}")
    root = place.absolute() if place.is_dir() else Path(os.path.commonpath([file.parent for file in files]))
    with ThreadPoolExecutor(_THREADS) as pool:
        seen = dict(zip(files, pool.map(see, files), strict=True))
        unreadable = {file: fault for file, fault in seen.items() if isinstance(fault, str)}
        read = [file for file in files if file not in unreadable]
        digests = dict(zip(read, pool.map(sha256, read), strict=True))
    first: dict[str, Path] = {}
    copies = {file: one for file in read if (one := first.setdefault(digests[file], file)) != file}
    kept = [file for file in read if file not in copies]
    names = [file.relative_to(root).as_posix() for file in kept]
    images = tuple(
        PoolImage(file, name, link, digests[file], seen[file].width, seen[file].height)
        for file, name, link in zip(kept, names, _links(names), strict=True)
    )
    return Pool(root, images, unreadable, copies, sum(map(_has_labels, files)))


def _listed(place: Path, without: Path) -> list[Path]:
    if place.is_dir():
        without = without.resolve()
        found = (file for file in place.absolute().rglob("*") if _is_image(file) and file.is_file())
        return sorted(file for file in found if not file.parent.resolve().is_relative_to(without))
    if not place.is_file():
        raise UserError(f"--images {place}: there is no such folder or file")
    if _is_image(place):
        return [place.absolute()]
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(
            f"--images {place}: give a folder, an image, or a text file in UTF-8 that lists images"
        ) from None
    files = [(place.absolute().parent / line.strip()) for line in lines if line.strip()]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(f"--images {place}: {missing[0]} is not there, the first of {len(missing):,}; correct the list")
    if other := [file for file in files if not _is_image(file)]:
        raise UserError(f"--images {place}: {other[0]} does not have the suffix of an image; correct the list")
    return sorted({Path(os.path.normpath(file)) for file in files})


def _is_image(file: Path) -> bool:
    return file.suffix[1:].lower() in SUFFIXES


def _has_labels(file: Path) -> bool:
    beside = (file.with_suffix(suffix) for suffix in (".txt", ".xml", ".json"))
    return any(path.is_file() for path in (Path(label_file(file.as_posix())), *beside))


def _links(names: Iterable[str]) -> list[str]:
    """Names below a folder `images` by which Ultralytics finds one label file each, all in the folder `labels`."""
    found, taken = [], set()
    for name in names:
        path = PurePosixPath(name)
        parts = ["_images" if part == "images" else part for part in path.parts[:-1]]
        stem = path.stem
        while (label := (*parts, stem)) in taken:
            stem += "_" + path.suffix[1:]
        taken.add(label)
        found.append(str(PurePosixPath(*parts, stem + path.suffix)))
    return found
