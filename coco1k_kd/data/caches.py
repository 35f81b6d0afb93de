"""Label caches of Ultralytics: pickles, which run code when they are read, and may speak of what was there before.

Ask before anything has it read one.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from coco1k_kd.data.labels import label_file
from coco1k_kd.errors import UserError

_NUMPY = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"}
_PLAIN = {"_reconstruct", "_frombuffer", "dtype", "ndarray", "scalar"}


def check_cache(images: Iterable[str]) -> None:
    """UserError if the label cache of some images, as Ultralytics lists them, holds more than numbers and texts.

    One that is older than a change of an image or of a label is removed, and Ultralytics writes it anew: by itself it
    looks at sizes and times, which an editor may have kept.
    """
    if not (listed := list(images)):
        return
    place = Path(label_file(min(listed))).parent.with_suffix(".cache")
    try:
        with place.open("rb") as file:
            written = os.fstat(file.fileno()).st_mtime_ns
            _read(file)
    except FileNotFoundError:
        return
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, IndexError, TypeError) as error:
        raise UserError(
            f"{place} is not a label cache that Ultralytics can read without running code ({error}); delete it, it is "
            "written anew"
        ) from None

    files = (file for image in listed for file in (image, label_file(image)))
    if newer := next((file for file in files if _changed(file) >= written), None):
        try:
            place.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{place} is older than {newer} and cannot be removed: {error.strerror}") from None


def _changed(file: str) -> int:
    """When a file was changed, in whatever way; 0 where there is none."""
    try:
        return Path(file).stat().st_ctime_ns
    except OSError:
        return 0


def _read(file: BinaryIO) -> None:
    """Read an array of Python objects as `numpy.load` does, which takes a file without a head for a bare pickle."""
    if file.peek(6)[:6] == np.lib.format.MAGIC_PREFIX:  # type: ignore[attr-defined]
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("it has another version")
        np.lib.format.read_array_header_1_0(file)
    _Plain(file).load()


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY and name in _PLAIN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
