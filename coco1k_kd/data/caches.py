"""Label caches of Ultralytics: pickles, which run code when they are read. Ask before anything has it read one."""

from __future__ import annotations

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
    """UserError if the label cache of some images, as Ultralytics lists them, holds more than numbers and texts."""
    if not (first := min(images, default="")):
        return
    place = Path(label_file(first)).parent.with_suffix(".cache")
    try:
        with place.open("rb") as file:
            _read(file)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, IndexError, TypeError) as error:
        raise UserError(
            f"{place} is not a label cache that Ultralytics can read without running code ({error}); delete it, it is "
            "written anew"
        ) from None


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
