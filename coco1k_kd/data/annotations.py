"""COCO annotation files in and out: fast, small in memory, and with every field of the source kept.

Entries stay raw slices of the file; only the few fields that the sampler, the labels and the evaluation need are
decoded. An entry that is written again is therefore the source's own bytes: segmentations, RLE crowds, unknown fields
and all. This is the only reader of COCO annotation files. Format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured

from coco1k_kd.data.entries import (
    SIDES,
    Beyond,
    Box,
    Category,
    Image,
    LooseBox,
    LooseCrowd,
    box_faults,
    entered_twice,
    entry_fault,
    malformed_entry,
)
from coco1k_kd.data.raws import fields_of, not_json
from coco1k_kd.errors import UserError, visible
from coco1k_kd.files import NOT_JSON

SMALL, MEDIUM = 32**2, 96**2  # COCO's size limits in square pixels: small below the first, large from the second on
TOLERATED = 0.01  # of the boxes, or of the images: what may be unusable before the whole file is refused
_KEPT_BYTES = 1 << 25  # COCO's val has 20 million; its train holds 0.8 GB as long as a split has it
_WRITTEN_FIRST = ("info", "licenses", "images", "annotations", "categories")

T = TypeVar("T", bound=msgspec.Struct)
_ROW = np.dtype(
    [("id", "i8"), ("image", "i8"), ("category", "i8"), ("crowd", "?"), *((name, "f8") for name in ("area", *SIDES))],
    align=True,
)


@dataclass(frozen=True, eq=False)
class Annotations:
    """One COCO annotation file: raw entries in the order of their ids, and arrays of what they say. Nobody changes it.

    Per image (I): `image_ids`, and `sizes` (I, 2), width and height in pixels. `unusable` has the images that cannot be
    trained on or judged by, with the reason: a box that is malformed or outside, or a file that Ultralytics does not
    read.

    Per annotation (N): `ids`; `image`, index into `image_ids`; `category`, class index; `box` (N, 4), left, top, width
    and height in pixels; `crowd`; `area` in square pixels, the box's where the file has none or an impossible one; and
    `valid`, whether it is a box to learn from: not a crowd, not empty, not on an unusable image.
    """

    path: Path
    raw: bytes
    sha256: str
    categories: tuple[Category, ...]
    image_ids: np.ndarray
    sizes: np.ndarray
    unusable: dict[int, str]
    ids: np.ndarray
    image: np.ndarray
    category: np.ndarray
    box: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    valid: np.ndarray
    description: str
    _fields: dict[str, Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Annotations) and (self.path, self.sha256) == (other.path, other.sha256)

    def __hash__(self) -> int:
        return hash((self.path, self.sha256))

    @property
    def names(self) -> list[str]:
        """Class names by class index, as they can be shown."""
        return [visible(category.name) for category in self.categories]

    @cached_property
    def usable(self) -> np.ndarray:
        """(I,) bool: the images that are not in `unusable`."""
        return ~np.isin(self.image_ids, list(self.unusable))

    @property
    def lack(self) -> str | None:
        """Say that there is no box to learn from, where there is none."""
        return None if self.valid.any() else f"{self.path}: none of the {len(self.image_ids):,} images has a valid box"

    def beyond_boxes(self) -> tuple[bool, bool]:
        """Whether there are outlines besides boxes, and whether there are keypoints."""
        found = [False, False]
        for entry in map(msgspec.json.Decoder(Beyond).decode, self._fields["annotations"]):
            found[0] |= bool(entry.segmentation)
            found[1] |= bool(entry.keypoints)
            if all(found):
                break
        return found[0], found[1]

    def images(self) -> Iterator[Image]:
        """Decode every image entry, in the order of the ids."""
        return map(msgspec.json.Decoder(Image).decode, self._fields["images"])

    def label_rows(self) -> dict[str, np.ndarray]:
        """The boxes to learn from, by the image's name: (n, 5) class index, centre x, centre y, width and height as
        shares of the image, in the order of the annotations' ids.
        """
        order = np.flatnonzero(self.valid)
        order = order[np.argsort(self.image[order], kind="stable")]
        image = self.image[order]
        shares = _shares(self.box[order], self.sizes[image])
        rows = np.column_stack((self.category[order], shares))
        parts = np.split(rows, np.searchsorted(image, np.arange(1, len(self.image_ids))))
        return {entry.name: part for entry, part in zip(self.images(), parts, strict=False)}  # no image, one part

    def truth(self) -> dict[str, Any]:
        """What COCOeval judges by: COCO's format, from the usable images, with what would mislead it put right.

        Ids of annotations count from 1, since COCOeval takes a match with id 0 for no match. Areas are those of
        `area`, since it ignores a box without a positive one. Empty boxes are left out: nothing can match them. A box
        that is annotated twice counts once, as it does in training: nothing finds it twice.
        """
        real = np.flatnonzero((self.box[:, 2:] > 0).all(axis=1) & self.usable[self.image])
        own = np.where(self.crowd[real], real, -1)  # crowds with equal boxes may differ in their masks
        same = np.column_stack((self.image[real], self.category[real], own, self.box[real]))
        real = real[np.sort(np.unique(same, axis=0, return_index=True)[1])]
        category_ids = [category.id for category in self.categories]
        columns = (self.image_ids[self.image], self.category, self.box, self.area, self.crowd)
        rows = zip(*(column[real].tolist() for column in columns), strict=True)
        return {
            "images": [
                {"id": image.id, "file_name": image.name, "width": image.width, "height": image.height}
                for image in self.images()
                if image.id not in self.unusable
            ],
            "annotations": [
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": category_ids[category],
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(crowd),
                }
                for number, (image_id, category, box, area, crowd) in enumerate(rows, 1)
            ],
            "categories": [
                {"id": category.id, "name": name} for category, name in zip(self.categories, self.names, strict=True)
            ],
        }

    def extract(self, image_ids: np.ndarray) -> bytes:
        """Return a COCO file of these images, all of their annotations and the rest of the source, unchanged."""
        chosen = np.isin(self.image_ids, image_ids)
        entries = {"categories": self._fields["categories"]}
        for key, taken in (("images", chosen), ("annotations", chosen[self.image])):
            entries[key] = [self._fields[key][i] for i in np.flatnonzero(taken)]
        fields = []
        for key in sorted(self._fields, key=lambda key: (_rank(key), key)):
            value = b"[" + b",\n".join(map(bytes, entries[key])) + b"]" if key in entries else bytes(self._fields[key])
            fields.append(msgspec.json.encode(key) + b":" + value)
        return b"{" + b",\n".join(fields) + b"}\n"


def read(path: Path) -> Annotations:
    """Read a COCO instances file. Raise UserError when it is missing, torn or not COCO detection data."""
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def parse(content: bytes, path: Path) -> Annotations:
    """Parse the content of a COCO instances file, once for all files of this content, unless it is a large one.

    `path` is for messages. Raise UserError when it is malformed.
    """
    try:
        return replace((_parse if len(content) > _KEPT_BYTES else _kept)(content), path=path)
    except NOT_JSON as error:
        raise UserError(f"{path}: {not_json(content, error)}") from None
    except OverflowError:
        raise UserError(f"{path}: an id or a size is too large for 64 bits; number the entries anew") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _parse(content: bytes) -> Annotations:
    with ThreadPoolExecutor(1) as pool:  # hashing holds no lock: it is free on a second core
        return _decoded(content, pool.submit(lambda: hashlib.sha256(content).hexdigest()).result)


_kept = lru_cache(maxsize=32)(_parse)  # the files that a study of several draws begins with


def _decoded(content: bytes, digest: Callable[[], str]) -> Annotations:
    fields = fields_of(content)
    images = _entries(fields, "images", Image)
    bad_images = {entry.id: fault for entry in images if (fault := entry_fault(entry))} | entered_twice(images)
    categories = _entries(fields, "categories", Category)
    names = [visible(category.name) for category in categories]
    if len(set(names)) < len(names):
        raise UserError("two categories have the same name")
    image_ids = np.fromiter((image.id for image in images), np.int64, len(images))
    sizes = np.fromiter((n for image in images for n in (image.width, image.height)), np.int64).reshape(-1, 2)
    del images  # 20 MB of COCO's train split

    table = np.fromiter(_rows(fields["annotations"]), _ROW, len(fields["annotations"]))
    order = _order(table["id"], "annotations")
    raws = fields["annotations"] = [fields["annotations"][i] for i in order]
    table = table[order]
    category_ids = np.array([category.id for category in categories], np.int64)
    image = _index(image_ids, table["image"], table["id"], "image")
    category = _index(category_ids, table["category"], table["id"], "category")
    box, crowd = structured_to_unstructured(table[SIDES]), table["crowd"]

    faults = box_faults(table, raws, sizes, image)
    for what, found, number in (("images", bad_images, len(image_ids)), ("annotations", faults, len(raws))):
        if len(found) > TOLERATED * number:
            some = f"{len(found):,} of {number:,} {what} cannot be used, the first" if len(found) > 1 else ""
            raise UserError(f"{some}{': ' * bool(some)}{next(iter(found.values()))}")
    unusable = {int(image_ids[image[i]]): fault for i, fault in faults.items()} | bad_images
    usable = ~np.isin(image_ids, list(unusable))
    with np.errstate(invalid="ignore", over="ignore"):
        of_box, most = box[:, 2] * box[:, 3], sizes.prod(axis=1)[image]
        area = np.where((table["area"] > 0) & (table["area"] <= most), table["area"], of_box)
        real = (box[:, 2:] > 0).all(axis=1)
    valid = real & ~crowd & usable[image]
    if len(crowd) and crowd.all():
        raise UserError(
            f"all {len(raws):,} annotations are crowd regions (iscrowd 1), which are not trained on; "
            "where they are single objects, set iscrowd to 0"
        )
    return Annotations(
        path=Path(),
        raw=content,
        sha256=digest(),
        categories=tuple(categories),
        image_ids=image_ids,
        sizes=sizes,
        unusable=unusable,
        ids=table["id"],
        image=image,
        category=category,
        box=box,
        crowd=crowd,
        area=area,
        valid=valid,
        description=_description(fields),
        _fields=fields,
    )


def _rows(raws: list[msgspec.Raw]) -> Iterator[tuple[Any, ...]]:
    """Decode annotations one at a time (all at once would need 0.3 GB more) into the rows of a table."""
    decode, nan = msgspec.json.Decoder(Box).decode, float("nan")
    for position, raw in enumerate(raws):
        try:
            b = decode(raw)
        except msgspec.ValidationError:
            yield _loose_row(raw, position)
        else:
            yield b.id, b.image_id, b.category_id, b.iscrowd, nan if b.area is None else b.area, *b.bbox


def _loose_row(raw: msgspec.Raw, position: int) -> tuple[Any, ...]:
    """The row of an annotation that is not quite COCO's: NaN for a malformed box, and for an area that is no number."""
    try:
        loose = msgspec.json.decode(raw, type=LooseBox)
        crowd = msgspec.convert({"iscrowd": loose.iscrowd}, LooseCrowd, strict=False).iscrowd
    except msgspec.ValidationError as error:
        raise malformed_entry(raw, "annotations", position, error) from None
    area = loose.area if isinstance(loose.area, (int, float)) else float("nan")
    try:
        box = msgspec.convert(loose.bbox, tuple[float, float, float, float])
    except msgspec.ValidationError:
        box = (float("nan"),) * 4
    return loose.id, loose.image_id, loose.category_id, crowd, area, *box


def _shares(box: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N, 4) centre x, centre y, width, height as shares of the image, of (N, 4) boxes in images of (N, 2) pixels."""
    return np.concatenate(((box[:, :2] + box[:, 2:] / 2) / sizes, box[:, 2:] / sizes), axis=1)


def _entries(fields: dict[str, Any], what: str, kind: type[T]) -> list[T]:
    """Decode a list of entries; it and its raw ones are put in the order of the ids, so that the source's is no
    matter.
    """
    raws, decode = fields[what], msgspec.json.Decoder(kind).decode
    entries = []
    for position, entry in enumerate(raws):
        try:
            entries.append(decode(entry))
        except msgspec.ValidationError as error:
            raise malformed_entry(entry, what, position, error) from None
    order = _order(np.fromiter((entry.id for entry in entries), np.int64, len(entries)), what)
    fields[what] = [raws[i] for i in order]
    return [entries[i] for i in order]


def _description(fields: dict[str, Any]) -> str:
    """What the file says of itself: `info.description`."""
    info = msgspec.json.decode(fields["info"]) if "info" in fields else None
    return str(info.get("description") or "") if isinstance(info, dict) else ""


def _order(ids: np.ndarray, what: str) -> np.ndarray:
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    if len(twice := ordered[1:][ordered[1:] == ordered[:-1]]):
        raise UserError(f"id {twice[0]} occurs twice in {what}; give each entry an id of its own")
    return order


def _index(known: np.ndarray, wanted: np.ndarray, ids: np.ndarray, what: str) -> np.ndarray:
    """Positions of `wanted` in the ascending `known`; UserError for one that is not there."""
    found = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    wrong = known[found] != wanted if len(known) else np.ones(len(wanted), bool)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UserError(f"annotation {ids[first]} names {what} {wanted[first]}, which the file does not have")
    return found


def _rank(key: str) -> int:
    return _WRITTEN_FIRST.index(key) if key in _WRITTEN_FIRST else len(_WRITTEN_FIRST)
