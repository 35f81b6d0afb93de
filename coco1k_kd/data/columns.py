"""What stands behind the box in rows of YOLO labels: Ultralytics takes more than six columns for class and polygon."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

_POLYGON = 7  # columns and more
_ENOUGH = 10  # rows that must all look like boxes with keypoints before they are taken for that
_SLACK = 1e-3  # of the image: how far a keypoint may lie outside its box


class Outlines(NamedTuple):
    """The rows of some label files that Ultralytics reads as polygons, around which it draws the boxes.

    `keypoints`: the first of these files, where all of the rows look like class, box and keypoints instead.
    """

    rows: int = 0
    keypoints: Path | None = None


def outlines(label_files: Iterable[Path]) -> Outlines:
    """Count the polygons in label files; those that are not there, or not in rows of numbers, count none."""
    rows, far, columns, first = 0, 0, set(), None
    for file in label_files:
        content = file.read_text(errors="replace") if file.is_file() else ""
        found = [row for line in content.splitlines() if len(row := line.split()) >= _POLYGON]
        rows, first = rows + len(found), first or (file if found else None)
        columns |= {len(row) for row in found}
        if len(columns) > 1:  # keypoints have one number of columns, outlines seldom
            continue
        for row in found:
            lies_far = _size_lies_far(row)
            if lies_far is None:
                columns.add(0)  # an outline after all
                break
            far += lies_far
    keypoints = first if len(columns) == 1 and rows >= _ENOUGH and 2 * far > rows else None
    return Outlines(rows, keypoints)


def _size_lies_far(row: list[str]) -> bool | None:
    """None unless columns 2 to 5 are a box that holds all points behind it, as x y or as x y visibility.

    Whether width and height, taken for a point, lie far from all other points: a corner of an outline does not.
    """
    try:
        numbers = np.array(row[1:], float)
    except ValueError:
        return None
    place, size = numbers[:2], numbers[2:4]
    if (np.abs(place - 0.5) + size / 2 > 0.5 + _SLACK).any():
        return None
    for step in (2, 3):
        points = numbers[4:].reshape(-1, step) if not len(numbers[4:]) % step else np.zeros((0, step))
        seen = points[(points[:, :2] != 0).any(axis=1)]  # 0 0 is a keypoint that nobody has seen
        held = (np.abs(seen[:, :2] - place) <= size / 2 + _SLACK).all()
        if len(seen) and held and (step == 2 or np.isin(points[:, 2], (0, 1, 2)).all()):
            others = np.vstack((seen[:, :2], place))
            reach = np.ptp(others, axis=0).max()
            return bool(((size < others.min(axis=0) - reach) | (size > others.max(axis=0) + reach)).any())
    return None
