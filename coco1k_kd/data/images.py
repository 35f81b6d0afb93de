"""Image files: what a picture is seen as in training, and what is wrong with one."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image as Pillow

from coco1k_kd.data.entries import SUFFIXES, Image

_FORMATS = SUFFIXES | {"jpeg2000"}  # Pillow's names of what Ultralytics reads
_SMALLEST = 10  # pixels a side: Ultralytics leaves smaller images out
_CHECKED = {"JPEG", "MPO", "PNG"}  # by their end marker or check sums; others are decoded to know that they can be
_MOST_PIXELS = 178_956_970  # where Pillow, too, takes a picture for an attack: a small file that fills the memory
_DEEP = re.compile(r"^[IF]|;(?:1[0-6]|24|32|64)")  # modes of channels of more than 8 bits
_ORIENTATION = 0x0112  # EXIF's tag: 1 upright, 2-4 mirrored or turned by 180 degrees, 5-8 width and height exchanged
_BEGIN, _END = b"\xff\xd8", b"\xff\xd9"
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # no stuffed byte and no restart marker, which data may hold


class Seen(NamedTuple):
    """An image as training sees it: width and height in pixels after its EXIF orientation, which is 1 where none is.

    `trailer`: a JPEG with bytes after its end marker; Ultralytics takes it for damaged and rewrites it in place.
    `deep`: more than 8 bits a channel, of which training sees the upper 8.
    """

    width: int
    height: int
    orientation: int
    trailer: bool = False
    deep: bool = False

    @property
    def turned_unseen(self) -> bool:
        """Whether the image is turned or mirrored in a way that its size does not show."""
        return self.orientation in (2, 3, 4) or (self.orientation > 1 and self.width == self.height)


def see(path: Path) -> Seen | str:
    """Read an image file's header, and all of it where the header does not vouch for the rest.

    A text says what is wrong with it.
    """
    try:
        with path.open("rb") as file, open_picture(file) as picture:
            seen = _seen(picture, path.read_bytes)
            if isinstance(seen, str):
                return seen
            if picture.format not in _CHECKED and not _decodes(path):
                return "cannot be decoded (by OpenCV, as Ultralytics reads it); convert it to JPEG or PNG"
            if picture.format != "JPEG":
                return seen
            if _ends_as_jpeg(file):
                return seen
            return jpeg_fault(path.read_bytes()) or seen._replace(trailer=True)
    except (OSError, SyntaxError, ValueError) as error:
        return _not_decoded(error)


def image_fault(data: bytes, entry: Image) -> str | None:
    """Say what is wrong with an image file, if anything: not decodable, cut short, or not of the annotated size."""
    try:
        with open_picture(BytesIO(data)) as picture:
            seen, jpeg = _seen(picture, lambda: data), picture.format == "JPEG"
            if isinstance(seen, str):
                return seen
            if fault := size_fault(seen, entry):
                return fault
            if jpeg and (fault := jpeg_fault(data)):
                return fault
            picture.draft(None, (picture.width // 8, picture.height // 8))  # reads all, computes an eighth
            picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        return _not_decoded(error)
    return None


def size_fault(seen: Seen, entry: Image) -> str | None:
    """Say in which way an image is not of the annotated size, if it is not."""
    if (seen.width, seen.height) == (entry.width, entry.height):
        return None
    fault = f"is {seen.width}x{seen.height}, but its annotations are for {entry.width}x{entry.height}"
    if (seen.height, seen.width) == (entry.width, entry.height):
        if seen.orientation > 4:
            return (
                f"{fault}: it is turned by its EXIF orientation {seen.orientation}; remove that tag, or annotate anew"
            )
        return f"{fault}: width and height are exchanged"
    return fault


def jpeg_damage(data: bytes) -> str | None:
    """Say why some bytes are not a whole JPEG, if they are not."""
    try:
        with open_picture(BytesIO(data)) as picture:
            if picture.format not in ("JPEG", "MPO"):
                return f"is in the format {picture.format}"
            picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        return _not_decoded(error)
    return jpeg_fault(data)


def jpeg_fault(data: bytes) -> str | None:
    """Say whether a JPEG is cut short: a cut in the last block still decodes."""
    return None if data.endswith(_END) or _end_of_jpeg(data) else "is cut short"


def without_trailer(data: bytes) -> bytes:
    """An image file without the bytes that follow a JPEG's end marker; Ultralytics would write such a file anew."""
    if not data.startswith(_BEGIN) or data.endswith(_END):
        return data
    with open_picture(BytesIO(data)) as picture:
        return data[: _end_of_jpeg(data)] if picture.format == "JPEG" else data  # an MPO has several pictures


def may_have_trailer(path: Path) -> bool:
    """Whether a file begins as a JPEG and does not end as one. OSError if it cannot be read."""
    with path.open("rb") as file:
        return file.read(len(_BEGIN)) == _BEGIN and not _ends_as_jpeg(file)


def _ends_as_jpeg(file: BinaryIO) -> bool:
    file.seek(-len(_END), os.SEEK_END)
    return file.read() == _END


def _end_of_jpeg(data: bytes) -> int | None:
    """Offset behind the end marker of a JPEG; None where there is none (ITU T.81, B.1.1)."""
    at = 2
    while marker := _MARKER.search(data, at):
        at, code = marker.end(), marker[1][0]
        if code == _END[1]:
            return at
        if code not in (0x01, 0xD8):  # all other markers begin a segment that holds its length
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _seen(picture: Pillow.Image, content: Callable[[], bytes]) -> Seen | str:
    width, height = picture.size
    deep = _is_deep(picture)  # before its EXIF data are asked for, which loads a PNG
    if picture.format.lower() not in _FORMATS:
        return f"is in the format {picture.format}, which Ultralytics does not read; convert it to JPEG or PNG"
    if min(width, height) < _SMALLEST:
        return f"is {width}x{height}; Ultralytics leaves out images of less than {_SMALLEST} pixels a side"
    orientation = (picture.tag_v2 if picture.format == "TIFF" else picture.getexif()).get(_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    if orientation > 1 and picture.format in ("JPEG", "MPO") and _exif_orientation(picture) != orientation:
        return (
            f"has the orientation {orientation} in its XMP data alone, by which Ultralytics takes its size, but does "
            "not turn it; remove that tag"
        )
    if orientation > 4:
        if picture.format in ("JPEG", "MPO", "AVIF", "HEIF"):  # the latter two Ultralytics decodes with Pillow
            return Seen(height, width, orientation)
        import cv2  # whose versions differ in which other formats they turn
        import numpy as np

        pixels = cv2.imdecode(np.frombuffer(content(), np.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            height, width = pixels.shape[:2]
    return Seen(width, height, orientation, deep=deep)


def brightest(images: Iterable[Path]) -> int:
    """The highest value of 255 that training sees in any of the images."""
    from ultralytics.utils.patches import imread

    return max(int(imread(image).max()) for image in images)


def _is_deep(picture: Pillow.Image) -> bool:
    """Whether a picture has more than 8 bits a channel, by its mode or by that of its file, which Pillow may reduce."""
    args = [tile[3] for tile in picture.tile]
    raw = [arg for given in args for arg in (given if isinstance(given, tuple) else (given,)) if isinstance(arg, str)]
    return picture.mode.startswith(("I", "F")) or any(_DEEP.search(mode) for mode in raw)


def _exif_orientation(picture: Pillow.Image) -> int | None:
    """The orientation in a picture's EXIF data, without that in XMP, which Pillow takes where EXIF has none."""
    exif = Pillow.Exif()
    exif.load(picture.info.get("exif", b""))
    return exif.get(_ORIENTATION)


def _decodes(path: Path) -> bool:
    """Whether Ultralytics gets the pixels of three channels that it trains on; OpenCV reads no pixels of 32 bits."""
    from ultralytics.utils.patches import imread

    pixels = imread(path)
    return pixels is not None and pixels.dtype == "uint8" and pixels.shape[2] == 3


def open_picture(file: BinaryIO) -> Pillow.Image:
    """As `PIL.Image.open`, which Ultralytics replaces by one that installs packages for files it does not know.

    Only the header is read. ValueError where it promises a picture that would take the memory, or there is none.
    """
    Pillow.init()
    begin = file.read(16)
    if not begin:
        raise ValueError("the file is empty")
    for factory, accepts in Pillow.OPEN.values():
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # what a plugin says of another's file
            if accepts is None or accepts(begin) is True:
                file.seek(0)
                return _of_a_size(factory(file, ""))
    raise ValueError("not an image that Pillow knows")


def _of_a_size(picture: Pillow.Image) -> Pillow.Image:
    if picture.width * picture.height > _MOST_PIXELS:
        raise ValueError(f"it is {picture.width}x{picture.height}, more than {_MOST_PIXELS:,} pixels: scale it down")
    return picture


def _not_decoded(error: Exception) -> str:
    return f"cannot be decoded ({' '.join(str(error).split())})"
