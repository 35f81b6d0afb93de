"""`.npy` files beside images: Ultralytics trains on IMAGE.npy in place of IMAGE.jpg, whatever is in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def arrays_fault(images: Iterable[Path]) -> str | None:
    """Say that arrays stand in for images, where some do.

    Ultralytics reads them in any cache mode, overwrites those of another shape and deletes those that it cannot load.
    Ask before anything has it load an image. Nothing is read or written here.
    """
    found = [array for image in images if (array := image.with_suffix(".npy")).exists()]
    if not found:
        return None
    return (
        f"{found[0]} lies beside its image ({len(found):,} such .npy files in all): Ultralytics would train on the "
        "array in place of the picture, and overwrite or delete it; move .npy files to another folder (those of "
        "cache=disk can be deleted)"
    )
