"""When a study may look at its result and stop: group-sequential designs with repeated confidence intervals.

Every look at growing data is one more chance of a false verdict. At the look after n seeds the interval therefore has
the two-sided level c * n in place of 5%; c is such that under no difference all looks together find one in 5% of
studies where all variance is between seeds, which is the worst case (Jennison and Turnbull, Group Sequential Methods,
2000, chapters 7 and 9; the looks' t statistics are exact, not their normal limit). Proof: docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import msgspec
import numpy as np
from scipy.special import stdtr

from coco1k_kd.errors import UserError
from coco1k_kd.verdict.entry import Entry

ALPHA = 0.05  # false verdicts of a whole study
LOOKS = (3, 5, 8)  # seeds
MAX_LOOKS, MAX_LOOK = 10, 100
_STUDIES = 2**20  # simulated for the levels: 5% is then known to 0.02%


class Design(msgspec.Struct, frozen=True):
    """After how many seeds a study looks; without looks it is a fixed design, which has one level."""

    looks: tuple[int, ...] = ()

    @property
    def levels(self) -> tuple[float, ...]:
        """Two-sided level of the interval at each look."""
        return tuple(self.level_at(look) for look in self.looks)

    def level_at(self, seeds: int, family: int = 1) -> float:
        """Two-sided level of the interval after `seeds` seeds, where `family` comparisons share the error.

        A number of seeds that is no look (hours ran out, seeds were added) gets the level that it would have had as a
        further look of the same plan. One seed compares two models, not two methods, and decides nothing: plain 95%.
        """
        if not self.looks or seeds == 1:
            return ALPHA / family
        smallest = _smallest(self._with(seeds))
        return seeds * float(smallest[int(ALPHA / family * len(smallest))])

    def overall(self, p: float, seeds: int) -> float:
        """The p-value `p` of the look after `seeds` seeds, corrected for all looks."""
        if not self.looks or seeds == 1:
            return p
        looks = self._with(seeds)
        smallest = _smallest(looks)
        seen = (1 + np.searchsorted(smallest, p / seeds, side="right")) / (1 + len(smallest))
        return float(min(seen, sum(looks) * p / seeds, 1.0))

    def next_look(self, seeds: int) -> int | None:
        """The first look with more than `seeds` seeds."""
        return next((look for look in self.looks if look > seeds), None)

    def _with(self, seeds: int) -> tuple[int, ...]:
        return tuple(sorted({*self.looks, seeds}))


FIXED = Design()


def sequential(looks: Iterable[int] = LOOKS) -> Design:
    """The design that looks after so many seeds. Raises UserError for looks that have no levels."""
    looks = tuple(looks)
    typed = " ".join(map(str, looks))
    if not looks or looks[0] < 2:
        raise UserError(f"--looks {typed}: a look needs 2 seeds at least, as in --looks 3 5 8")
    if any(later <= earlier for earlier, later in pairwise(looks)):
        raise UserError(f"--looks {typed}: each look needs more seeds than the look before it, as in --looks 3 5 8")
    if len(looks) > MAX_LOOKS or looks[-1] > MAX_LOOK:
        raise UserError(f"--looks {typed}: at most {MAX_LOOKS} looks, and at most {MAX_LOOK} seeds")
    return Design(looks)


def continued(planned: Iterable[int], earlier: Iterable[int], units: int) -> Design:
    """The design of a study that has looked before, as nobody had planned, after so many `earlier` units.

    Args:
        planned: its looks from now on; none for a fixed number of units.
        earlier: what it had when it looked.
        units: what it will have at most.
    """
    return Design(tuple(sorted({*planned, *(look for look in earlier if 1 < look < units), units})))


def settled(entry: Entry) -> bool:
    """Whether the comparison is decided, so that it needs no more runs of its arm."""
    return entry.verdict != "inconclusive"


@lru_cache
def _smallest(looks: tuple[int, ...]) -> np.ndarray:
    """Smallest p / seeds over the looks of studies without a difference, all variance between seeds: sorted."""
    rng = np.random.default_rng(0)
    total, squares, found, before = np.zeros(_STUDIES), np.zeros(_STUDIES), np.full(_STUDIES, np.inf), 0
    for look in looks:
        new = look - before
        mean = rng.standard_normal(_STUDIES) / new**0.5
        squares += new * mean**2 + (rng.chisquare(new - 1, _STUDIES) if new > 1 else 0.0)
        total += new * mean
        spread = np.maximum(squares - total**2 / look, 0.0) / (look - 1)
        t = np.abs(total) / np.sqrt(np.maximum(spread, 1e-300) * look)
        np.minimum(found, 2 * stdtr(look - 1, -t) / look, out=found)
        before = look
    return np.sort(found)
