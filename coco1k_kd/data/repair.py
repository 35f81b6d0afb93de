"""A draw put right by swaps: what it should be like, and which images to exchange until it is.

Pure numpy. All numbers are whole, also where they are kept as floats, and below 2^53: sums of them are exact in any
order, and a draw is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

NONE = (0, 0, 0)  # nothing out of bounds
FEW, MANY = 6, 8  # images that repair looks for partners for, in a common and in a stuck step
BARRED = 2.0**60  # the price of an image that cannot be taken
PATIENCE, IDLE = 150, 20  # stuck steps after which repair gives up: since the best draw, and without any swap


@dataclass(frozen=True)
class Goals:
    """What a draw should be like: F yes/no features of images, and how many of the drawn images shall have each.

    Shapes: `features` (F, I) bool; all others (F,) int64. `low` and `high` are bounds that must hold, `target` is where
    to be between them, `weight` what a distance from it costs. `classes`: the first so many features are the balanced
    classes, whose bounds matter before those of the others.
    """

    features: np.ndarray
    target: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    classes: int

    def of(self, images: np.ndarray) -> Goals:
        """The same goals for a part of the pool."""
        return replace(self, features=self.features[:, images])

    def at(self, k: int, supply: np.ndarray, equal: bool) -> Goals:
        """The same goals with every balanced class in min(k, supply) images: exactly, or at least."""
        level = np.minimum(k, supply)
        target, low, high = (
            np.concatenate((ours, rest[self.classes :]))
            for ours, rest in ((level, self.target), (level, self.low), (level if equal else supply, self.high))
        )
        return replace(self, target=target, low=low, high=high)

    def violations(self, counts: np.ndarray) -> tuple[int, int, int]:
        """How far counts are out of bounds, the worst kind first: classes short, context off, classes in surplus."""
        short, over = np.maximum(self.low - counts, 0), np.maximum(counts - self.high, 0)
        n = self.classes
        return int(short[:n].sum()), int(short[n:].sum() + over[n:].sum()), int(over[:n].sum())


class Features:
    """Sums over the features of each image, (I,), of a number that each feature has, (F,).

    The features behind the classes are bins of a few histograms: few patterns of them occur, and all images of one
    have the same sum.
    """

    def __init__(self, goals: Goals) -> None:
        self.classes, rest = goals.classes, goals.features[goals.classes :]
        keys = (1 << np.arange(len(rest))) @ rest
        _, first, self._pattern = np.unique(keys, return_index=True, return_inverse=True)
        self._patterns = rest[:, first].astype(float)
        self._members = [np.flatnonzero(feature) for feature in goals.features[: self.classes]]

    def of_bins(self, numbers: np.ndarray) -> np.ndarray:
        """(I,) sums over the features behind the classes."""
        return (numbers[self.classes :] @ self._patterns)[self._pattern]

    def add_classes(self, sums: np.ndarray, numbers: np.ndarray) -> None:
        """Add to (I,) `sums` those over the classes; quick where few of them have another number than 0."""
        for c in numbers[: self.classes].nonzero()[0].tolist():
            sums[self._members[c]] += numbers[c]


def repair(goals: Goals, drawn: np.ndarray, polish: bool = False) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Swap images until every bound holds (`polish`: until nothing helps); return the best mask and its violations.

    Takes the best swap of the few images that are the best to lose; where there is none, of those that take part in
    what is out of bounds. Where no swap helps, that gets dearer (the breakout method, Morris 1993), which leads out of
    the local minimum.
    """
    features, sums = goals.features, Features(goals)
    drawn = drawn.copy()
    counts = features[:, drawn].sum(axis=1)
    dear = np.where((goals.low > 0) | (goals.high < int(drawn.sum())), 64, 0)
    changes = np.zeros((2, len(counts)))  # what one image more, or one less, with each feature costs
    of_classes = np.zeros((2, len(drawn)))  # the part of it that an image has by its classes
    best, fewest, waited, idle = drawn.copy(), goals.violations(counts), 0, 0

    def cost(counts: np.ndarray) -> np.ndarray:
        out = np.maximum(goals.low - counts, 0) + np.maximum(counts - goals.high, 0)
        return goals.weight * (counts - goals.target) ** 2 + dear * out**2

    def swap(one: int, own: np.ndarray, others: np.ndarray) -> tuple[float, int, int]:
        """Price of the best swap of one image, it, and its partner; what both have does not change."""
        shared = both * features[:, one]
        prices = others - sums.of_bins(shared)
        sums.add_classes(prices, -shared)
        other = int(prices.argmin())
        return float(own[one] + prices[other]), one, other

    for _ in range(2000 + 4 * int(drawn.sum())):
        if fewest == NONE and not polish:
            break
        latest = np.array([cost(counts + 1), cost(counts - 1)]) - cost(counts)
        for part, change in zip(of_classes, latest - changes, strict=True):
            sums.add_classes(part, change)
        changes[:] = latest
        joining, leaving = (part + sums.of_bins(change) for part, change in zip(of_classes, changes, strict=True))
        both = changes.sum(axis=0)
        joiners_alone, leavers_alone = np.where(drawn, BARRED, joining), np.where(drawn, leaving, BARRED)

        violations = goals.violations(counts)
        leavers = _cheapest(leaving, drawn, FEW)
        swaps = [swap(i, leaving, joiners_alone) for i in leavers]
        if min(swaps)[0] >= 0 and violations != NONE:
            over, short = counts > goals.high, counts < goals.low
            more = _cheapest(leaving, drawn & features[over].any(axis=0), MANY)
            joiners = _cheapest(joining, ~drawn & features[short].any(axis=0), MANY)
            swaps += [swap(i, leaving, joiners_alone) for i in more if i not in leavers]
            swaps += [(gain, i, j) for gain, j, i in (swap(j, joining, leavers_alone) for j in joiners)]
        gain, leaver, joiner = min(swaps)
        if gain < 0:
            idle = 0
            drawn[leaver], drawn[joiner] = False, True
            counts = counts + features[:, joiner] - features[:, leaver].astype(np.int64)
            violations = goals.violations(counts)
            if violations <= fewest:
                waited = waited if violations == fewest else 0
                best, fewest = drawn.copy(), violations
        elif fewest == NONE or waited == PATIENCE or idle == IDLE or sum(violations) > 2 * goals.classes:
            break
        else:
            waited, idle = waited + 1, idle + 1
            dear = dear + 32 * ((counts < goals.low) | (counts > goals.high))
    return best, fewest


def _cheapest(prices: np.ndarray, allowed: np.ndarray, number: int) -> list[int]:
    """Indexes of the lowest prices among the allowed, ties in the order of the pool."""
    images = np.flatnonzero(allowed)
    return images[np.argsort(prices[images], kind="stable")[:number]].tolist()
