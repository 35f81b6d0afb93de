"""A long-tailed pool to draw from, made of numbers."""

from __future__ import annotations

import numpy as np

from coco1k_kd.data.sampling import (
    Pool,
    priorities,
)


def make_pool(images: int, classes: int, seed: int = 0, person: bool = True) -> Pool:
    """A long-tailed pool: class c is in about 1/(c+2) of the images. Integers only, so that it is the same anywhere."""
    names = ("person" if person else "c0", *(f"c{i}" for i in range(1, classes)))
    words = priorities(np.arange(images * classes * 2), seed).reshape(2, images, classes)
    instances = np.where(words[0] % np.uint64(1000) < 1100 // (np.arange(classes) + 2), 1 + words[1] % np.uint64(4), 0)
    instances[instances.sum(axis=1) == 0, -1] = 1
    instances = instances.astype(np.int64)
    total = instances.sum(axis=1)
    sizes = np.stack([total // 3, total // 3, total - total // 3 * 2], axis=1)
    return Pool(names, np.arange(images) * 3 + 5, instances, sizes)
