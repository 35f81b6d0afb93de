"""Images that belong together, as the frames of a video or the pictures of a day do: they say less than as many others.

A group is named by a part of the file's name, which a regular expression finds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from coco1k_kd.data.alike import miniatures, neighbours
from coco1k_kd.data.dataset import Split
from coco1k_kd.errors import UserError

FLAG = "--groups"
_CLOSE, _MANY = 0.5, 0.05  # likeness of neighbours, and its share: of 2,848 neighbours in COCO none is above 0.33


@dataclass(frozen=True, eq=False)
class Groups:
    """Which images are one group. An image whose name does not match is a group of its own.

    Attributes:
        pattern: what finds the group's name in a file's name: its first group, or all that matches.
        number: (I,) of each image, from 0.
        alone: how many images do not match.
        names: (I,) of each image's group; None where its file's name does not match.
    """

    pattern: str
    number: np.ndarray
    alone: int
    names: tuple[str | None, ...]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.number.max()) + 1

    @property
    def largest(self) -> int:
        """Images of the largest group."""
        return int(np.bincount(self.number).max())

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Of (..., I) values of the images the sums within groups: (..., G)."""
        order = np.argsort(self.number, kind="stable")
        starts = np.searchsorted(self.number[order], np.arange(self.count))
        return np.add.reduceat(values[..., order], starts, axis=-1)


def read_pattern(pattern: str) -> re.Pattern[str]:
    """UserError if it is no regular expression."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{FLAG} {pattern}: not a regular expression: {error}") from None


def groups_of(pattern: str, files: Sequence[str]) -> Groups:
    """The groups of images with these names. UserError where the names of none match, or all are one group."""
    return _groups(pattern, tuple(files))


def equal_groups(images: np.ndarray) -> np.ndarray:
    """How many groups of one size would say as much as groups of (..., G) `images`: (sum)² / sum of squares.

    The variance that is computed from sums over groups is too small by the part 1 / this, and no more degrees of
    freedom than these are known.
    """
    images = images.astype(float)
    return images.sum(axis=-1) ** 2 / np.maximum((images**2).sum(axis=-1), 1)


def notes_on(groups: Groups, train: Sequence[str]) -> list[str]:
    """What is to be known of the groups before a study, each in a line. `train`: names of the images trained on."""
    images = len(groups.number)
    told = [f"{FLAG} {groups.pattern}: {groups.count:,} groups of {images:,} images, the largest of {groups.largest:,}"]
    if groups.largest == 1:
        told[0] += "; no two are in one group"
    if groups.alone:
        told[0] += f"; the names of {groups.alone:,} do not match, each is a group"
    trained = {_name(read_pattern(groups.pattern).search(file)) for file in train}
    if both := sorted({name for name in groups.names if name is not None} & trained):
        told.append(
            f"{FLAG} {groups.pattern}: {len(both):,} of the groups hold images to train on as well (the first: "
            f"{both[0]!r}); of what is alike in a group the verdict then says too much"
        )
    return told


def ungrouped_note(split: Split) -> list[str]:
    """Whether neighbours among the images that judge look alike, as frames of a video do, in at most one line."""
    close = int((neighbours(miniatures(split.files)) >= _CLOSE).sum())
    if close < _MANY * split.size:
        return []
    return [
        f"{split.images}: {close:,} of {split.size:,} images look like the one before them, as frames of a video do; "
        "such images say less than as many others, and verdicts on them are false too often: name with "
        f"{FLAG} REGEX the part of the file names that tells videos, cameras or days apart"
    ]


def _name(match: re.Match[str] | None) -> str | None:
    if not match:
        return None
    return match.group(1) if match.re.groups else match.group()


@lru_cache(maxsize=4)
def _groups(pattern: str, files: tuple[str, ...]) -> Groups:
    found = [read_pattern(pattern).search(file) for file in files]
    names = [_name(match) for match in found]
    matched = [name for name in names if name is not None]
    if not matched:
        raise UserError(f"{FLAG} {pattern}: matches the name of no image that judges (the first: {files[0]})")
    keys = [(file, True) if name is None else (name, False) for file, name in zip(files, names, strict=True)]
    number = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    if len(number) == 1:
        raise UserError(
            f"{FLAG} {pattern}: all {len(files):,} images that judge are one group ({matched[0]!r}): differences "
            "between groups are what the verdict is taken from; name a smaller part of the file names"
        )
    return Groups(pattern, np.array([number[key] for key in keys]), len(files) - len(matched), tuple(names))
