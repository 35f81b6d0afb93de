"""COCO annotation files in and out: fast, small in memory, and with every field of the source kept.

Entries stay raw slices of the file; only the few fields that the sampler and the labels need are decoded. An entry
that is written again is therefore the source's own bytes: segmentations, RLE crowds, unknown fields and all.
Format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec
import numpy as np

from coco1k_kd.errors import UserError

SMALL, MEDIUM = 32**2, 96**2  # COCO's size limits in square pixels: small below the first, large from the second on
_WRITTEN_FIRST = ("info", "licenses", "images", "annotations", "categories")


class Category(msgspec.Struct, frozen=True):
    """One class of the data set; its index in training is the rank of its id."""

    id: int
    name: str


class Image(msgspec.Struct, frozen=True):
    """The fields of an image entry that are used here; width and height in pixels."""

    id: int
    file_name: str
    width: Annotated[int, msgspec.Meta(gt=0)]
    height: Annotated[int, msgspec.Meta(gt=0)]
    coco_url: str = ""


class Box(msgspec.Struct, frozen=True, gc=False):
    """The fields of an annotation that are used here; `bbox` is left, top, width, height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | bool = 0

    @property
    def counts(self) -> bool:
        """Whether this is a box to learn from: no crowd region and not empty."""
        return not self.iscrowd and self.bbox[2] > 0 and self.bbox[3] > 0


class _Id(msgspec.Struct, gc=False):
    id: int


@dataclass(frozen=True)
class Annotations:
    """One COCO annotation file: raw entries in the order of their ids, and the arrays that the sampler works on.

    `category`, `image`, `area` and `valid` have one element per annotation: class index, index into `image_ids`,
    area in square pixels, and whether the box counts (not crowd, not empty).
    """

    path: Path
    size: int
    sha256: str
    categories: tuple[Category, ...]
    image_ids: np.ndarray
    image: np.ndarray
    category: np.ndarray
    area: np.ndarray
    valid: np.ndarray
    _top: dict[str, msgspec.Raw]
    _images: list[msgspec.Raw]
    _annotations: list[msgspec.Raw]

    @property
    def names(self) -> list[str]:
        """Class names by class index."""
        return [category.name for category in self.categories]

    def images(self) -> Iterator[Image]:
        """Decode every image entry, in the order of the ids."""
        decode = msgspec.json.Decoder(Image).decode
        for raw in self._images:
            try:
                image = decode(raw)
            except msgspec.ValidationError as error:
                raise UserError(f"{self.path}: an image entry is malformed ({error})") from None
            parts = PurePosixPath(image.file_name).parts
            if not parts or ".." in parts or "\\" in image.file_name or PurePosixPath(image.file_name).is_absolute():
                raise UserError(f"{self.path}: image {image.id} has file_name {image.file_name!r}, not a relative path")
            yield image

    def boxes(self) -> Iterator[Box]:
        """Decode every annotation, in the order of the ids."""
        return map(msgspec.json.Decoder(Box).decode, self._annotations)

    def extract(self, image_ids: np.ndarray) -> bytes:
        """Return a COCO file of these images, all of their annotations and the rest of the source, unchanged."""
        chosen = np.isin(self.image_ids, image_ids)
        entries = {
            "images": [self._images[i] for i in np.flatnonzero(chosen)],
            "annotations": [self._annotations[i] for i in np.flatnonzero(chosen[self.image])],
            "categories": _by_id(self._top["categories"], "categories", self.path)[1],
        }
        fields = []
        for key in sorted(self._top, key=lambda key: (_rank(key), key)):
            value = b"[" + b",\n".join(map(bytes, entries[key])) + b"]" if key in entries else bytes(self._top[key])
            fields.append(msgspec.json.encode(key) + b":" + value)
        return b"{" + b",\n".join(fields) + b"}\n"


def read(path: Path) -> Annotations:
    """Read a COCO instances file. Raise UserError when it is missing, torn or not COCO detection data."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Annotations:
    """Parse the content of a COCO instances file; `path` is for messages. Raise UserError when it is malformed."""
    with ThreadPoolExecutor(1) as pool:  # hashing holds no lock: it is free on a second core
        digest = pool.submit(lambda: hashlib.sha256(data).hexdigest())
        try:
            return _parse(data, path, digest.result)
        except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
            raise UserError(f"{path}: not a whole COCO instances file ({error}); fetch it again") from None


def _parse(data: bytes, path: Path, digest: Callable[[], str]) -> Annotations:
    top = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    if missing := [key for key in ("images", "annotations", "categories") if key not in top]:
        raise UserError(f"{path}: not a COCO instances file, it has no {' and no '.join(missing)}")
    image_ids, images = _by_id(top["images"], "images", path)
    category_ids, raw_categories = _by_id(top["categories"], "categories", path)
    categories = tuple(msgspec.json.decode(raw, type=Category) for raw in raw_categories)
    names = [category.name for category in categories]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: two categories have the same name")

    raws = msgspec.json.decode(top["annotations"], type=list[msgspec.Raw])
    table = _table(raws)
    order = _order(table["id"], "annotations", path)
    table = table[order]
    return Annotations(
        path=path,
        size=len(data),
        sha256=digest(),
        categories=categories,
        image_ids=image_ids,
        image=_index(image_ids, table["image"], table["id"], "image", path),
        category=_index(category_ids, table["category"], table["id"], "category", path),
        area=table["area"],
        valid=table["valid"],
        _top=top,
        _images=images,
        _annotations=[raws[i] for i in order],
    )


def _table(raws: list[msgspec.Raw]) -> np.ndarray:
    """Decode annotations one at a time (all at once would need 0.3 GB more) into the rows of a table."""
    boxes = map(msgspec.json.Decoder(Box).decode, raws)
    rows = (
        (b.id, b.image_id, b.category_id, b.counts, b.bbox[2] * b.bbox[3] if b.area is None else b.area) for b in boxes
    )
    row = np.dtype([("id", "i8"), ("image", "i8"), ("category", "i8"), ("valid", "?"), ("area", "f8")])
    return np.fromiter(rows, row, len(raws))


def _by_id(raw: msgspec.Raw, what: str, path: Path) -> tuple[np.ndarray, list[msgspec.Raw]]:
    """Split a list of entries and put it in the order of the ids, so that the order in the source does not matter."""
    entries = msgspec.json.decode(raw, type=list[msgspec.Raw])
    decode = msgspec.json.Decoder(_Id).decode
    ids = np.fromiter((decode(entry).id for entry in entries), np.int64, len(entries))
    order = _order(ids, what, path)
    return ids[order], [entries[i] for i in order]


def _order(ids: np.ndarray, what: str, path: Path) -> np.ndarray:
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    if len(twice := ordered[1:][ordered[1:] == ordered[:-1]]):
        raise UserError(f"{path}: id {twice[0]} occurs twice in {what}")
    return order


def _index(known: np.ndarray, wanted: np.ndarray, ids: np.ndarray, what: str, path: Path) -> np.ndarray:
    """Positions of `wanted` in the ascending `known`; UserError for one that is not there."""
    found = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    wrong = known[found] != wanted if len(known) else np.ones(len(wanted), bool)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UserError(f"{path}: annotation {ids[first]} names {what} {wanted[first]}, which the file does not have")
    return found


def _rank(key: str) -> int:
    return _WRITTEN_FIRST.index(key) if key in _WRITTEN_FIRST else len(_WRITTEN_FIRST)
