"""Which images: a subset of exactly N in which the classes are even and the scenes are still the source's scenes.

Pure numpy, no disk. Every decision is made on integers and ties are broken by a hash of seed and image id, so a draw
is the same on every machine, Python and numpy, whatever the order of the source.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from coco1k_kd.data.annotations import MEDIUM, SMALL, Annotations
from coco1k_kd.data.repair import NONE, Goals, repair
from coco1k_kd.errors import UserError

ALGORITHM_VERSION = 1
PERSON = "person"
BALANCES = ("context", "strict")
TOLERANCE = {"train": 2, "val": 5}  # points: how far a draw's context may be from the source's
UNIT = 1 << 20  # weight of an image that is certainly drawn
SPARE = 8  # images that repair may choose among, per image drawn


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
        instances = np.zeros((images, classes), np.int32)  # 64 bits are 40 MB more of COCO's train split
        np.add.at(instances.reshape(-1), image * classes + annotations.category[valid], 1)
        sizes = np.bincount(image * 3 + size, minlength=images * 3).reshape(images, 3)
        drawable = sizes.any(axis=1)
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
        return self.names.index(PERSON) if PERSON in self.names else None

    def ordered(self, seed: int) -> Pool:
        """The pool in the order in which it is drawn from: like beside like, and by seed where there is no other."""
        rare = np.argsort(self.supply, kind="stable")
        rarest = rare[self.presence[:, rare].argmax(axis=1)]
        order = np.lexsort((priorities(self.ids, seed), self.presence.sum(axis=1), rarest))
        return replace(self, ids=self.ids[order], instances=self.instances[order], sizes=self.sizes[order])

    def balanced(self, balance: str) -> np.ndarray:
        """(C,) bool: the classes that shall be in equally many images."""
        return balanced(self.names, self.supply, balance)


def balanced(names: Sequence[str], supply: np.ndarray, balance: str) -> np.ndarray:
    """(C,) bool: the classes that shall be in equally many images: all there are, in `context` without person."""
    return (supply > 0) & np.array([balance == "strict" or name != PERSON for name in names], bool)


def priorities(ids: np.ndarray, seed: int) -> np.ndarray:
    """(I,) uint64 that order images by seed: splitmix64 (Steele et al. 2014) of the image id, started by the seed."""
    state = np.asarray(ids).astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    for _ in range(2):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def draw(pool: Pool, size: int, seed: int, balance: str, tolerance: int) -> np.ndarray:
    """Choose exactly `size` images; return their ids, ascending.

    The largest level k is looked for at which every balanced class is in exactly min(k, supply) images. Where there is
    none, every class is in at least min(k, supply) with the largest k found, and as even as can be. `tolerance`: how
    many points the context may move. Raise UserError when the pool is too small.
    """
    if size > len(pool.ids):
        raise UserError(f"{size} images are wanted, but only {len(pool.ids)} have a valid box; choose fewer")
    pool = pool.ordered(seed)
    base, supply = goals(pool, size, balance, tolerance), pool.supply[pool.balanced(balance)]
    lowest, level = levels(pool, size, balance, tolerance)
    best = _bisect(lowest, level, lambda k: Attempt.at(base.at(k, supply, equal=True), size))
    if best.violations != NONE:
        best = _bisect(0, level, lambda k: Attempt.at(base.at(k, supply, equal=False), size))
    return np.sort(pool.ids[best.polished()])


@dataclass(frozen=True)
class Attempt:
    """Goals for some images of the pool, which of these are drawn (a mask), and how far they are out of bounds."""

    images: np.ndarray
    goals: Goals
    drawn: np.ndarray
    violations: tuple[int, int, int]

    @classmethod
    def at(cls, goals: Goals, size: int) -> Attempt:
        """Weigh the images, draw by weight, repair by swaps among the images that are likely."""
        weights = rake(goals, size)
        drawn = systematic(weights, size)
        likely = drawn | systematic(np.minimum(weights * SPARE, UNIT), min(size * SPARE, len(weights)))
        images = np.flatnonzero(likely)
        goals = goals.of(images)
        return cls(images, goals, *repair(goals, drawn[images]))

    def polished(self) -> np.ndarray:
        """Indexes into the pool of the drawn images, after swaps that bring them nearer to the source."""
        return self.images[repair(self.goals, self.drawn, polish=True)[0]]


def _bisect(low: int, high: int, attempt: Callable[[int], Attempt]) -> Attempt:
    """Look for the largest k in [low, high] that meets its goals, the top first; return the best attempt."""
    best, middle = None, high
    while low <= high:
        latest = attempt(middle)
        if best is None or latest.violations <= best.violations:
            best = latest
        low, high = (middle + 1, high) if latest.violations == NONE else (low, middle - 1)
        middle = (low + high) // 2
    return best


def level_of(counts: np.ndarray, supply: np.ndarray) -> int:
    """Return the largest k such that every class is in at least min(k, supply) images."""
    short = counts < supply
    return int(counts[short].min() if short.any() else counts.max(initial=0))


def drift(pool: Pool, image_ids: np.ndarray) -> dict[str, float]:
    """How many points a draw is from its source: `histogram` of classes per image and box `sizes` (the largest
    difference of a share), and the share of images with a `person` (signed; 0 where there is no such class)."""
    mask = np.isin(pool.ids, image_ids)
    shown = pool.presence.sum(axis=1)
    person = pool.presence[:, pool.person] if pool.person is not None else np.zeros(len(mask))
    histogram, sizes = (
        draw / max(draw.sum(), 1) - source / max(source.sum(), 1)
        for draw, source in (
            (np.bincount(shown[mask], minlength=shown.max() + 1), np.bincount(shown)),
            (pool.sizes[mask].sum(axis=0), pool.sizes.sum(axis=0)),
        )
    )
    points = np.abs(histogram).max(), np.abs(sizes).max(), person[mask].mean() - person.mean()
    return {key: round(100 * float(v), 2) for key, v in zip(("histogram", "sizes", "person"), points, strict=True)}


def room(pool: Pool, size: int, balance: str, tolerance: int) -> tuple[int, int]:
    """Return the fewest and most (image, balanced class) pairs that `size` images of scenes like the pool's may show.

    That is as many as in the source, within `tolerance` percent of all pairs. Without the upper limit a larger k could
    be had by piling crowded scenes into each tolerated bin; `strict` has no lower one than a class in each image.
    """
    images, shown = len(pool.ids), int(pool.supply.sum())
    others = int(pool.supply[~pool.balanced(balance)].sum()) * size // images
    fewest, most = (shown * size * (100 + points) // (100 * images) - others for points in (-tolerance, tolerance))
    return (size if balance == "strict" else fewest), most


def levels(pool: Pool, size: int, balance: str, tolerance: int) -> tuple[int, int]:
    """Return the lowest and highest k that fit into the room, every class in min(k, supply) images."""
    supply, (fewest, most) = pool.supply[pool.balanced(balance)], room(pool, size, balance, tolerance)
    needed = [int(np.minimum(k, supply).sum()) for k in range(int(supply.max(initial=0)) + 1)]
    highest = bisect_right(needed, most) - 1
    return min(bisect_left(needed, fewest), highest), highest


def goals(pool: Pool, size: int, balance: str, tolerance: int) -> Goals:
    """Ask for scenes like the pool's; `Goals.at` adds how many images each balanced class shall be in.

    In `context` the share of every number of classes per image and of images with a person must stay within
    `tolerance` points. Boxes per image and their sizes are wished for, as shares of images with so many.
    """
    images, presence = len(pool.ids), pool.presence
    even = pool.balanced(balance)
    classes = [presence[:, c] for c in np.flatnonzero(even)]
    context = _bins(presence.sum(axis=1), range(2, 13))
    if balance == "context" and pool.person is not None:
        context.append(presence[:, pool.person])
    wishes = _bins(pool.sizes.sum(axis=1), (2, 3, 5, 9, 17))
    for boxes, edges in zip(pool.sizes.T, ((1, 2, 4, 8, 16), (1, 2, 4, 8), (1, 2, 3)), strict=True):
        wishes += _bins(boxes, edges)
    features = np.array(classes + context + wishes)
    natural = features.sum(axis=1) * size
    target = (natural + images // 2) // images
    low, high = np.zeros_like(target), np.full_like(target, size)
    if balance == "context":  # in whole images; both whole numbers next to the source's share are always allowed
        held, slack = slice(len(classes), len(classes) + len(context)), size * tolerance // 100
        below, above = natural[held] // images, -(-natural[held] // images)
        low[held], high[held] = np.minimum(above - slack, below), np.maximum(below + slack, above)
    weight = np.repeat([4, 8 if balance == "context" else 1, 1], [len(classes), len(context), len(wishes)])
    return Goals(features, target, low, high, weight, len(classes))


def _bins(values: np.ndarray, edges: Iterable[int]) -> list[np.ndarray]:
    """One feature per interval between the edges; those that no image has are left out."""
    index = np.digitize(values, list(edges))
    return [index == i for i in np.unique(index)]


def rake(goals: Goals, size: int, cycles: int = 30) -> np.ndarray:
    """Weigh the images so that each goal is met on average: (I,) int64, `UNIT` is "certainly drawn".

    Iterative proportional fitting (Deming & Stephan 1940; Deville & Sarndal 1992 for surveys): of all weightings that
    meet the goals its fixed point is the nearest to the source, so rare classes do not cost more context than need be.
    """
    weights = np.full(goals.features.shape[1], max(size * UNIT // goals.features.shape[1], 1), np.int64)
    low, high = goals.target.copy(), goals.target.copy()
    low[: goals.classes], high[: goals.classes] = goals.low[: goals.classes], goals.high[: goals.classes]
    members = [np.flatnonzero(feature) for feature in goals.features]
    for _ in range(cycles):
        for f in reversed(range(len(members))):  # the classes last: they matter most
            part = weights[members[f]]
            total = max(int(part.sum()), 1)
            aim = min(max(total, int(low[f]) * UNIT), int(high[f]) * UNIT)
            if aim != total:
                weights[members[f]] = np.minimum(part * aim // total, UNIT)
    return weights


def systematic(weights: np.ndarray, size: int) -> np.ndarray:
    """Draw `size` images at even steps along the cumulated weights (Madow 1949); returns a (I,) bool mask."""
    cumulated = np.cumsum(np.maximum(weights, 1))
    steps = cumulated * size // cumulated[-1]
    drawn = np.diff(steps, prepend=0) > 0
    missing = size - int(drawn.sum())  # an image that is heavier than a step takes several
    drawn[np.flatnonzero(~drawn)[np.argsort(-weights[~drawn], kind="stable")[:missing]]] = True
    return drawn
