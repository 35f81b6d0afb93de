"""What a teacher has found in images, kept by what it depends on.

A file of boxes, `boxes_<imgsz>.json`, holds the identity of the teacher and of the settings, and the boxes of every
image by the image's SHA-256: a pass that was interrupted goes on, and another teacher's boxes are never taken for this
one's. Of several processes that look each has a file of its own, `boxes_<imgsz>_1.json` and so on: all are read, none
is ever merged into another, and a kill loses nothing that was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from coco1k_kd.data.lesson import Cost
from coco1k_kd.errors import UserError
from coco1k_kd.files import NOT_JSON, write_atomic

_FLAGS = ("teacher", "imgsz")  # of the identity, which a user can change
_INSTEAD = "remove it, or give another folder for results"
_Row = tuple[float, float, float, float, float, float]


class _File(msgspec.Struct, kw_only=True):
    """Its content; `seconds` and `cpu_seconds` are what finding the boxes took, interrupted passes included."""

    identity: dict[str, Any]
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    images: dict[str, list[_Row]] = {}
    sha256: str = ""

    def seal(self) -> str:
        """SHA-256 of all else."""
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, sha256=""))).hexdigest()


class BoxStore:
    """The boxes of one teacher with one set of settings, in a file. UserError if it holds those of another.

    Args:
        path: of the file of the first process.
        identity: all that the boxes depend on, apart from the image; values are JSON.
        process: which one this is, from 0 on: it adds to a file of its own.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], process: int = 0) -> None:
        self.path, self.identity = path, dict(identity)
        self._place = path.with_stem(f"{path.stem}_{process}") if process else path
        self.read()

    def read(self) -> None:
        """Read what is there, of all processes."""
        places = [self.path, *sorted(self.path.parent.glob(f"{self.path.stem}_*{self.path.suffix}"))]
        self._files = {place: self._read(place) for place in places if place.exists()}
        self._own = self._files.setdefault(self._place, _File(identity=self.identity))

    def __contains__(self, digest: str) -> bool:
        return any(digest in file.images for file in self._files.values())

    def __getitem__(self, digest: str) -> np.ndarray:
        """(n, 6) teacher's class index, score, left, top, width, height in pixels of the image with this SHA-256."""
        rows = next(file.images[digest] for file in self._files.values() if digest in file.images)
        return np.array(rows, float).reshape(-1, 6)

    @property
    def cost(self) -> Cost:
        """What finding all of them took."""
        files = self._files.values()
        seconds = [file.seconds for file in files]
        return Cost(sum(seconds), sum(file.cpu_seconds for file in files), max(seconds))

    def add(self, digest: str, boxes: np.ndarray) -> None:
        """Take the boxes of an image; `save` writes them."""
        self._own.images[digest] = boxes.tolist()

    def spend(self, seconds: float, cpu_seconds: float) -> None:
        """Count what this process has taken since the last call."""
        self._own.seconds += seconds
        self._own.cpu_seconds += cpu_seconds

    def save(self) -> None:
        """Write this process's boxes, whole or not at all."""
        self._own.sha256 = self._own.seal()
        write_atomic(self._place, msgspec.json.encode(self._own))

    def _read(self, place: Path) -> _File:
        try:
            found = msgspec.json.decode(place.read_bytes(), type=_File)
        except NOT_JSON:
            raise UserError(f"{place} does not hold a teacher's boxes: {_INSTEAD}") from None
        if other := [key for key in self.identity if found.identity.get(key) != self.identity[key]]:
            what = f"--{other[0]}" if other[0] in _FLAGS else other[0]
            there, here = (str(of.get(other[0]))[:12] for of in (found.identity, self.identity))
            raise UserError(f"{place} was made with another {what} ({there}, now {here}): {_INSTEAD}")
        if found.sha256 != found.seal():
            raise UserError(
                f"{place} has been changed since the teacher wrote it: remove it, and the images are looked at again"
            )
        return found
