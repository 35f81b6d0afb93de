"""The entries of a COCO annotation file: the fields that are used here, and what is wrong with an entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec
import numpy as np

from coco1k_kd.errors import UserError, visible

# Those that Ultralytics reads
SUFFIXES = {"avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"}
OUTSIDE = 0.01  # of the image: how far a box may reach outside before Ultralytics leaves the image out
SIDES = ["left", "top", "width", "height"]
_PLAIN_NAME = re.compile(rf"(?:[^/\\.]+/)*[^/\\.][^/\\]*\.(?:{'|'.join(sorted(SUFFIXES))})", re.IGNORECASE)
_EXCERPT = 90  # characters of an entry that a message shows


class Category(msgspec.Struct, frozen=True, gc=False):
    """One class of the data set; its index in training is the rank of its id."""

    id: int
    name: str


class Image(msgspec.Struct, frozen=True, gc=False):
    """The fields of an image entry that are used here; width and height in pixels."""

    id: int
    file_name: str
    width: int
    height: int
    coco_url: str | None = None

    @property
    def name(self) -> str:
        """The path relative to the image folder by which the image is known: `file_name` without `./` and `//`."""
        return str(PurePosixPath(self.file_name))


class Box(msgspec.Struct, frozen=True, gc=False):
    """The fields of an annotation that are used here; `bbox` is left, top, width, height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | bool | None = 0


class Beyond(msgspec.Struct):
    """What an annotation may say besides its box, for other tasks than detection."""

    segmentation: Any = None
    keypoints: Any = None


class LooseBox(msgspec.Struct):
    """An annotation whose ids are sound; the rest may be anything."""

    id: int
    image_id: int
    category_id: int
    bbox: Any = None
    area: Any = None
    iscrowd: Any = 0


class LooseCrowd(msgspec.Struct):
    """What is taken for `iscrowd`, also from text."""

    iscrowd: int | float | None = 0


def box_faults(table: np.ndarray, raws: list[msgspec.Raw], sizes: np.ndarray, image: np.ndarray) -> dict[int, str]:
    """What is wrong with boxes, by position: no four numbers, or not a place in the image, in pixels."""
    malformed = np.zeros(len(raws), bool)
    least, most = np.full(len(raws), np.inf), np.full(len(raws), -np.inf)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for side, (begin, length) in enumerate((("left", "width"), ("top", "height"))):
            begin, length, full = table[begin], table[length], sizes[image, side]
            center = (begin + length / 2) / full
            malformed |= ~np.isfinite(begin + length) | (length < 0)
            np.minimum(least, center, out=least)
            np.maximum(most, np.maximum(center, length / full), out=most)
    counts = (
        ~malformed & ~table["crowd"] & (sizes > 0).all(axis=1)[image] & (table["width"] > 0) & (table["height"] > 0)
    )
    outside = counts & ((least < -OUTSIDE) | (most > 1 + OUTSIDE))
    fractions = counts & np.logical_and.reduce([table[side] <= 1 for side in SIDES])
    faults = {}
    for i in np.flatnonzero(malformed | outside | fractions).tolist():
        width, height = sizes[image[i]].tolist()
        begin = f"annotation {table['id'][i]} has the bbox {shown(msgspec.json.decode(raws[i]).get('bbox'))}"
        if malformed[i]:
            faults[i] = f"{begin}; it must be [left, top, width, height] in pixels: correct it or remove the annotation"
        elif fractions[i]:
            faults[i] = f"{begin}, which looks like shares of the image (0 to 1); COCO's boxes are in pixels"
        else:
            guess = _guess(*table[SIDES][i].item(), width, height)
            faults[i] = (
                f"{begin} outside its image of {width}x{height}{guess}; it must be [left, top, width, height] in "
                "pixels: correct it or remove the annotation"
            )
    return faults


def _guess(left: float, top: float, right: float, bottom: float, width: int, height: int) -> str:
    """Why a box may lie outside its image of `width` x `height`, where its numbers show it."""
    if left < right <= width and top < bottom <= height:
        return " (are these left, top, right, bottom?)"
    if left + right <= height and top + bottom <= width:
        return " (are width and height exchanged in the image's entry?)"
    return ""


def entry_fault(image: Image) -> str | None:
    """Why an image cannot be used, as far as its entry shows it."""
    if image.width < 1 or image.height < 1:
        return f"image {image.id} has the size {image.width}x{image.height}; give its width and height in pixels"
    if visible(image.file_name) != image.file_name:
        return f"image {image.id} has control characters in its file_name {image.file_name!a}; rename it"
    if _PLAIN_NAME.fullmatch(image.file_name):
        return None
    begin, parts = f"image {image.id} has the file_name {shown(image.file_name)}", PurePosixPath(image.file_name).parts
    if not parts or ".." in parts or "\\" in image.file_name or PurePosixPath(image.file_name).is_absolute():
        return f"{begin}, which is not a path relative to the image folder, with / between folders"
    if any(part.startswith(".") for part in parts):
        return f"{begin}; Ultralytics does not see names that begin with a dot"
    if folder := next((part for part in parts[:-1] if PurePosixPath(part).suffix[1:].lower() in SUFFIXES), None):
        return f"{begin}; Ultralytics would take the folder {shown(folder)} for an image: rename it"
    if PurePosixPath(image.file_name).suffix[1:].lower() not in SUFFIXES:
        return f"{begin}; Ultralytics reads the suffixes {', '.join(sorted(SUFFIXES))}: rename or convert the file"
    return None


def entered_twice(images: Sequence[Image]) -> dict[int, str]:
    """Images of which one file has several entries, by id: each entry would be learnt with a part of the boxes."""
    names = [image.file_name for image in images]
    if len(set(names)) == len(names) and not any("//" in name or "./" in name for name in names):
        return {}  # the most files, without a path taken apart a hundred thousand times
    ids: dict[str, list[int]] = {}
    for image in images:
        ids.setdefault(image.name, []).append(image.id)
    return {
        number: f"the same file {shown(name)} has {len(several)} image entries (ids {shown(several)}), each with boxes "
        "of its own; give the file one entry with all of them"
        for name, several in ids.items()
        if len(several) > 1
        for number in several
    }


def malformed_entry(raw: msgspec.Raw, what: str, position: int, error: Exception) -> UserError:
    """Name an entry that is not COCO's, and what about it is not."""
    reason = str(error).replace(" - at `$.", " for `").replace("`$`", "the entry")
    return UserError(
        f"{what}[{position}] is not in COCO's format ({reason}): {shown(msgspec.json.decode(raw))}; "
        "correct the program that wrote it, or the file"
    )


def shown(value: Any) -> str:
    """A value as JSON, on one line of limited length."""
    text = " ".join(msgspec.json.encode(value).decode(errors="replace").split())
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}..."
