"""Which images: a subset of exactly N in which the classes are even and the scenes are still the source's scenes.

Pure numpy, no disk. Every decision is made on integers and ties are broken by a hash of seed and image id, so a draw
is the same on every machine, Python and numpy, whatever the order of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coco1k_kd.annotations import MEDIUM, SMALL, Annotations
from coco1k_kd.errors import UserError

ALGORITHM_VERSION = 1
BALANCES = ("context", "strict")


@dataclass(frozen=True)
class Pool:
    """The images of one split that can be drawn, that is those with a valid box.

    Shapes: `ids` (I,) ascending, `instances` (I, C) boxes per class, `sizes` (I, 3) small, medium and large boxes.
    """

    names: tuple[str, ...]
    ids: np.ndarray
    instances: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, annotations: Annotations) -> Pool:
        """Count what the sampler needs to know of each image; crowds and empty boxes do not count."""
        valid, images, classes = annotations.valid, len(annotations.image_ids), len(annotations.names)
        image, area = annotations.image[valid], annotations.area[valid]
        size = (area >= SMALL).astype(np.int64) + (area >= MEDIUM)
        instances = np.bincount(image * classes + annotations.category[valid], minlength=images * classes)
        instances = instances.reshape(images, classes)
        sizes = np.bincount(image * 3 + size, minlength=images * 3).reshape(images, 3)
        drawable = instances.any(axis=1)
        return cls(tuple(annotations.names), annotations.image_ids[drawable], instances[drawable], sizes[drawable])

    @cached_property
    def presence(self) -> np.ndarray:
        """(I, C) bool: which classes an image shows."""
        return self.instances > 0

    @cached_property
    def supply(self) -> np.ndarray:
        """(C,) images that show each class."""
        return self.presence.sum(axis=0)

    @property
    def person(self) -> int | None:
        """Class index of `person`, which context leaves at its natural share; None where there is no such class."""
        return self.names.index("person") if "person" in self.names else None

    def balanced(self, balance: str) -> np.ndarray:
        """(C,) bool: the classes that shall be in equally many images."""
        chosen = self.supply > 0
        if balance == "context" and self.person is not None:
            chosen[self.person] = False
        return chosen


def priorities(ids: np.ndarray, seed: int) -> np.ndarray:
    """(I,) uint64 that order images by seed: splitmix64 (Steele et al. 2014) of the image id, started by the seed."""
    state = np.asarray(ids).astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    for _ in range(2):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def draw(pool: Pool, size: int, seed: int, balance: str) -> np.ndarray:
    """Choose `size` images of the pool; return their ids, ascending. Raise UserError when the pool is too small."""
    if size > len(pool.ids):
        raise UserError(f"asked for {size} images, but only {len(pool.ids)} have a valid box; ask for fewer")
    order = np.argsort(priorities(pool.ids, seed), kind="stable")
    presence = pool.presence[order].astype(np.int32)
    taken = np.zeros(len(order), bool)
    taken[:size] = True
    balanced = pool.balanced(balance)
    counts = presence[:size].sum(axis=0)
    target = int(counts[balanced].sum()) // max(int(balanced.sum()), 1)
    columns = presence[:, balanced]
    counts = columns[taken].sum(axis=0)
    classes = np.minimum(presence.sum(axis=1), 8)
    person = presence[:, pool.person] if pool.person is not None else np.zeros(len(order), np.int32)
    kind = classes * 2 + (person if balance == "context" else 0)  # a swap keeps scene size and person: context stays
    for _ in range(30 * size):
        excess = 2 * (counts - np.minimum(target, pool.supply[balanced]))
        gain_in, gain_out = columns @ (excess + 1), columns @ (excess - 1)
        best = None
        for value in np.unique(kind):
            inside, outside = np.flatnonzero(taken & (kind == value)), np.flatnonzero(~taken & (kind == value))
            if len(inside) and len(outside):
                drop, add = inside[np.argmax(gain_out[inside])], outside[np.argmin(gain_in[outside])]
                delta = gain_in[add] - gain_out[drop] - 2 * (columns[add] * columns[drop]).sum()
                if best is None or delta < best[0]:
                    best = delta, drop, add
        if best is None or best[0] >= 0:
            break
        _, drop, add = best
        taken[drop], taken[add] = False, True
        counts += columns[add] - columns[drop]
    return np.sort(pool.ids[order[taken]])
