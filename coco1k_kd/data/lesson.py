"""What a teacher found once, for a training to learn from: boxes by image, and from which score on they are labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from coco1k_kd.data.arrays import arrays_fault
from coco1k_kd.errors import UserError
from coco1k_kd.files import NOT_JSON, on_each, sha256, write_atomic


class Found(msgspec.Struct, frozen=True):
    """The boxes of an image: rows of class, score, left, top, width, height, in pixels of its upright size.

    `sha256`: of the image's file, as it was looked at.
    """

    width: int
    height: int
    rows: list[list[float]]
    sha256: str

    @property
    def table(self) -> np.ndarray:
        """(n, 6) the rows."""
        return np.array(self.rows, float).reshape(-1, 6)


class Cost(msgspec.Struct, frozen=True):
    """What a pass over images took.

    Attributes:
        seconds: of all processes that shared it together, by the clock of each.
        cpu_seconds: of all cores together.
        elapsed: seconds from its begin to its end, interruptions left out.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    elapsed: float = 0.0


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """Boxes that a teacher found, by the absolute path of the image, links resolved.

    Attributes:
        teacher: SHA-256 of its file.
        classes: of the data, by number.
        thresholds: of each class the score from which on a box is a label; what scores less is neither object nor
            background.
        imgsz: pixels at which it looked.
        pool: images without labels.
        labelled: the train images, for what their labels lack.
        cost: what the teacher took for all of them.
    """

    teacher: str
    classes: list[str]
    thresholds: list[float]
    imgsz: int = 0
    pool: dict[str, Found] = {}
    labelled: dict[str, Found] = {}
    cost: Cost = Cost()


def digest(lesson: Lesson) -> str:
    """SHA-256 of what can be learnt from it; the time that it took is no part of that."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(lesson, cost=Cost()))).hexdigest()


class Sealed(msgspec.Struct):
    """A lesson's file: what was changed by hand is known by its hash."""

    sha256: str
    lesson: Lesson

    @classmethod
    def of(cls, lesson: Lesson) -> Sealed:
        """The lesson as it will be read: its numbers are floats there."""
        as_read = msgspec.json.decode(msgspec.json.encode(lesson), type=Lesson)
        return cls(digest(as_read), as_read)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_atomic(path, msgspec.json.encode(self))


def read_lesson(path: str | Path, classes: list[str]) -> Lesson:
    """Read a lesson for data of these classes.

    Raises:
        UserError: it is none, it was changed, it is of other classes, or an image of its pool is gone, is another one
            now, or has an array in its place.
    """
    lesson = unsealed(path)
    if lesson.classes != classes:
        raise UserError(
            f"{path} was made for the classes {', '.join(lesson.classes[:3])}…, and the data have "
            f"{', '.join(classes[:3])}…: give the images again, by unlabelled="
        )
    files = [Path(file) for file in lesson.pool]
    if gone := [file for file in files if not file.is_file()]:
        raise UserError(f"{gone[0]} is gone, an image that the teacher has labelled: put it back, or label again")
    if fault := arrays_fault(files):
        raise UserError(fault)
    check_same(lesson.pool)
    return lesson


def check_same(found: Mapping[str, Found]) -> None:
    """UserError if an image is another one than the teacher has looked at; `found` has its boxes by the file."""
    for file, now in zip(found, on_each(sha256, map(Path, found)), strict=True):
        if now != found[file].sha256:
            raise UserError(f"{file} has changed since the teacher labelled it: put it back, or label again")


def unsealed(path: str | Path) -> Lesson:
    """A lesson as it was written. UserError if it is none, or was changed."""
    try:
        sealed = msgspec.json.decode(Path(path).read_bytes(), type=Sealed)
    except (OSError, *NOT_JSON) as error:
        raise UserError(
            f"{path} does not hold a teacher's boxes ({error}): give the images again, by unlabelled="
        ) from None
    if sealed.sha256 != digest(sealed.lesson):
        raise UserError(f"{path} has been changed since the teacher wrote it: remove it, and it is made again")
    return sealed.lesson
