"""The images that Ultralytics finds in a place, before it opens one of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from coco1k_kd.data.entries import SUFFIXES


def images_found(place: str | Sequence[str], data: Mapping[str, Any]) -> list[str]:
    """The images of a split in the order of Ultralytics' own data set.

    Args:
        place: a folder, a text file, or several of them.
        data: as its data set takes it.

    Raises:
        ValueError: one is a pipe, a socket or a device, on which Ultralytics would wait for ever.
    """
    from ultralytics.data.dataset import YOLODataset

    class Unread(YOLODataset):
        def get_labels(self) -> list[dict[str, Any]]:
            return []

    places = [place] if isinstance(place, str) else place
    if odd := next((file for one in places for file in _named(Path(one)) if _may_wait(file)), None):
        raise ValueError(f"{odd} is no file, and would be waited for; move it away")
    return Unread(img_path=place, data=data, augment=False).im_files


def _named(place: Path) -> Iterator[Path]:
    """Files with the suffix of an image in a folder, or in a text file."""
    if place.is_file():
        yield from (place.parent / line.strip() for line in place.read_text("utf-8", "replace").splitlines())
    for folder, _, names in os.walk(place):
        yield from (Path(folder, name) for name in names if name.rpartition(".")[2].lower() in SUFFIXES)


def _may_wait(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
