"""One pass of a teacher over images: its boxes with their scores, kept by what they depend on.

A file of boxes, `boxes_<imgsz>.json`, holds the identity of the teacher and of the settings, and the boxes of every
image by the image's SHA-256: a pass that was interrupted goes on, and another teacher's boxes are never taken for this
one's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tqdm import tqdm

from coco1k_kd.data.quiet import quiet
from coco1k_kd.errors import UserError
from coco1k_kd.files import write_atomic

LOW = 0.05  # the least score of a box that is kept
_KEPT_EVERY = 30  # seconds between two writings of the boxes
_FLAGS = ("teacher", "imgsz")  # of the identity, which a user can change


class BoxStore:
    """The boxes of one teacher with one set of settings, in a file. UserError if it holds those of another.

    `identity`: all that the boxes depend on, apart from the image; values are JSON. `seconds`: that finding them took,
    interrupted passes included.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, dict(identity)
        self._boxes: dict[str, list[list[float]]] = {}
        self.seconds = 0.0
        if path.exists():
            self._boxes, self.seconds = self._read()

    def __contains__(self, digest: str) -> bool:
        return digest in self._boxes

    def __getitem__(self, digest: str) -> np.ndarray:
        """(n, 6) teacher's class index, score, left, top, width, height in pixels of the image with this SHA-256."""
        return np.array(self._boxes[digest], float).reshape(-1, 6)

    def add(self, digest: str, boxes: np.ndarray) -> None:
        """Take the boxes of an image; `save` writes them."""
        self._boxes[digest] = boxes.tolist()

    def save(self) -> None:
        """Write all boxes, whole or not at all."""
        content = {"identity": self.identity, "seconds": round(self.seconds, 1), "images": self._boxes}
        write_atomic(self.path, json.dumps(content))

    def _read(self) -> tuple[dict[str, list[list[float]]], float]:
        try:
            content = msgspec.json.decode(self.path.read_bytes())
            identity, boxes, seconds = dict(content["identity"]), dict(content["images"]), float(content["seconds"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise UserError(f"{self.path} does not hold a teacher's boxes: give another --output") from None
        if other := [key for key in self.identity if identity.get(key) != self.identity[key]]:
            what = f"--{other[0]}" if other[0] in _FLAGS else other[0]
            there, here = (str(of.get(other[0]))[:12] for of in (identity, self.identity))
            raise UserError(f"{self.path} was made with another {what} ({there}, now {here}): give another --output")
        return boxes, seconds


def teach(
    teacher: str,
    images: Mapping[str, Path],
    sizes: Mapping[str, tuple[int, int]],
    store: BoxStore,
    what: str = "label",
    **settings: Any,
) -> dict[Path, str]:
    """Have the teacher find the boxes of all images that `store` lacks.

    Args:
        teacher: a checkpoint; its boxes count, whatever else it finds.
        images: files by their SHA-256.
        sizes: width and height in pixels after EXIF, by the SHA-256; images of one size share a batch, so that what
            is found in an image does not depend on the others.
        store: takes the boxes, and is saved every half minute and at the end, however that comes.
        what: is done, for the progress bar.
        settings: `imgsz`, `batch`, `device`, `iou`, `max_det` for Ultralytics.

    Returns:
        What cannot be decoded, with the reason.
    """
    from ultralytics import YOLO
    from ultralytics.utils.patches import imread

    todo = [digest for digest in images if digest not in store]
    if not todo:
        return {}
    bad: dict[Path, str] = {}
    model = YOLO(teacher)
    begun = saved = time.monotonic()
    before = store.seconds
    try:
        with quiet(), tqdm(total=len(images), initial=len(images) - len(todo), desc=what, unit="image") as bar:
            for digests in _batches(sorted(todo, key=lambda d: (sizes[d], str(images[d]))), sizes, settings["batch"]):
                pixels = {digest: imread(str(images[digest])) for digest in digests}
                for digest in digests:
                    if pixels[digest] is None or pixels[digest].shape[1::-1] != sizes[digest]:
                        bad[images[digest]] = "cannot be decoded"
                        del pixels[digest]
                asked = {"stream": True, "conf": LOW, "verbose": False, **settings}
                found = model.predict([*pixels.values()], **asked) if pixels else ()
                for digest, result in zip(pixels, found, strict=True):
                    store.add(digest, _boxes(result.boxes))
                bar.update(len(digests))
                store.seconds = before + time.monotonic() - begun
                if time.monotonic() - saved > _KEPT_EVERY:
                    store.save()
                    saved = time.monotonic()
    finally:
        store.save()
    return bad


def _batches(digests: list[str], sizes: Mapping[str, tuple[int, int]], most: int) -> Iterator[list[str]]:
    """Yield at most so many images of one size at a time."""
    for _, group in groupby(digests, key=sizes.__getitem__):
        alike = list(group)
        yield from (alike[start : start + most] for start in range(0, len(alike), most))


def _boxes(found: Any) -> np.ndarray:
    """(n, 6) class, score, left, top, width, height of Ultralytics' boxes; those without width or height are none."""
    corners = found.xyxy.cpu().numpy().astype(float).round(2)
    extent = corners[:, 2:] - corners[:, :2]
    label, score = (part.cpu().numpy().astype(float)[:, None] for part in (found.cls, found.conf))
    return np.hstack((label, score.round(4), corners[:, :2], extent.round(2)))[(extent > 0).all(axis=1)]
