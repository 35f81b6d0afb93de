"""Where labels lie: Ultralytics finds the label file of an image by the image's path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any


def label_file(image: str) -> str:
    """The label file of an image: the last folder `images` of its path becomes `labels`, its suffix `.txt`.

    As `ultralytics.data.utils.img2label_paths` has it, for paths with / that are absolute or begin with `images/`.
    """
    head, images, tail = f"/{image}".rpartition("/images/")
    path = f"{head}/labels/{tail}"[1:] if images else image
    return str(PurePosixPath(path).with_suffix(".txt"))


def left_out(image: str, label: str, data: dict[str, Any]) -> str:
    """What Ultralytics says of an image that it leaves out, with its label file; `data` as its dataset takes it."""
    from ultralytics.data.utils import verify_image_label

    shape = data.get("kpt_shape", (0, 0))
    return verify_image_label((image, label, "", False, len(data["names"]), *shape, False))[-1]


def label_clashes(names: Iterable[str]) -> list[str]:
    """Images that would share a label file, each file in a line."""
    times = Counter(str(PurePosixPath(name).with_suffix("")) for name in names)
    return [f"{n} images have the file_name {stem} but for the suffix" for stem, n in times.items() if n > 1]
