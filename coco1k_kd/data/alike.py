"""Which pictures look alike: the same scene in another encoding, size or brightness, slightly cropped, or turned.

A perceptual hash whose likeness is a correlation: of differences between neighbouring cells of a small grey picture.
Measured in docs/lab/alike.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from coco1k_kd.data.images import open_picture
from coco1k_kd.files import on_each

ALIKE = 0.9  # from this likeness on two pictures show the same; of 2,850 others of COCO no two exceed 0.81
_CELLS = 16  # a side
_DECODED = 128  # pixels a side at least: a JPEG is decoded at an eighth of its size, in a fraction of the time
_FLAT = 1.0  # grey levels between neighbouring cells, root mean square: below it there is nothing to compare
_PATIENCE = 3  # seconds before a progress bar is shown
_ROWS = 2048  # compared at a time, which bounds the memory


def miniatures(files: Iterable[Path]) -> np.ndarray:
    """(n, 16, 16) uint8 small grey pictures, upright by EXIF, in the order of the files.

    One that cannot be read is black, and therefore like no other.
    """
    files = list(files)
    found = tqdm(on_each(_miniature, files), "look", len(files), unit="image", delay=_PATIENCE)
    return np.array(list(found), np.uint8).reshape(-1, _CELLS, _CELLS)


def patterns(small: np.ndarray) -> np.ndarray:
    """(n, 480) float32 of what `looks` gives: the likeness of two pictures is the product of their rows, -1 to 1.

    A picture without contrast is a row of 0, and like no other.
    """
    grey = small.astype(np.float32)
    steps = np.concatenate([np.diff(grey, axis=axis).reshape(len(grey), -1) for axis in (1, 2)], axis=1)
    length = np.linalg.norm(steps, axis=1, keepdims=True)
    return np.where(length >= _FLAT * np.sqrt(steps.shape[1]), steps / np.maximum(length, 1e-6), np.float32(0))


def alike(one: np.ndarray, others: np.ndarray, least: float = ALIKE) -> dict[int, int]:
    """Which of `one` look like one of `others`: the position of the likest, by position.

    Also where they are mirrored, or turned by right angles.

    Args:
        one, others: from `miniatures`.
        least: the likeness from which on two pictures count as alike.
    """
    if not len(others):
        return {}
    rows, best, likest = patterns(one), np.full(len(one), -1, np.float32), np.zeros(len(one), int)
    for side, turns in product((others, others[:, :, ::-1]), range(4)):
        known = patterns(np.rot90(side, turns, (1, 2))).T
        for start in range(0, len(one), _ROWS):
            part = slice(start, start + _ROWS)
            likeness = rows[part] @ known
            where, highest = likeness.argmax(axis=1), likeness.max(axis=1)
            likest[part] = np.where(highest > best[part], where, likest[part])
            best[part] = np.maximum(highest, best[part])
    return {number: int(likest[number]) for number in np.flatnonzero(best >= least).tolist()}


def neighbours(small: np.ndarray) -> np.ndarray:
    """(n - 1,) likeness of each of n pictures to the next, from `miniatures`."""
    rows = patterns(small)
    return (rows[1:] * rows[:-1]).sum(axis=1)


def _miniature(file: Path) -> np.ndarray:
    try:
        with file.open("rb") as opened, open_picture(opened) as picture:
            picture.draft("L", (_DECODED, _DECODED))
            upright = _eight_bits(ImageOps.exif_transpose(picture))
            return np.asarray(upright.convert("L").resize((_CELLS, _CELLS), Image.Resampling.BOX))
    except (OSError, SyntaxError, ValueError):
        return np.zeros((_CELLS, _CELLS), np.uint8)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of more bits, which `convert("L")` would cut off at 255, stretched over 8."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, np.float32)
    low, high = float(values.min()), float(values.max())
    return Image.fromarray(((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8))
