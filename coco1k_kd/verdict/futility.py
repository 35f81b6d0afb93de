"""Whether more seeds of an arm may still lead to a verdict. Proof: docs/statistics.md, "Futility"."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr

from coco1k_kd.verdict.entry import BLIND, Entry
from coco1k_kd.verdict.intervals import BAND, Estimate
from coco1k_kd.verdict.looks import Design

FUTILE = 0.1  # below this chance of any verdict an arm is not continued


def chance(now: Estimate, design: Design, family: int = 1) -> float:
    """The predictive probability that a later look has a verdict, for an estimate that has none; 0 at the last look.

    The images stay, so what further seeds change is the mean of those that are drawn anew: predicted by Student's t
    around the mean so far. Intervals are planned with the spread so far. The looks' chances are added: a bound.
    An estimate of many studies has a chance for each.
    """
    total = np.zeros_like(now.mean)
    for look in design.looks:
        if look <= now.units:
            continue
        width = now.planned(look, now.images).half_width(design.level_at(look, family))
        spread = np.maximum((now.spread * (1 / now.units - 1 / look)) ** 0.5, 1e-12)

        def below(bound: np.ndarray, spread: np.ndarray = spread) -> np.ndarray:
            return stdtr(now.units - 1, (bound - now.mean) / spread)

        room = np.maximum(BAND - width, 0.0)
        total += below(-width) + 1 - below(width) + below(room) - below(-room)
    return np.minimum(total, 1.0)


def futile(entry: Entry, design: Design) -> bool:
    """Whether further looks of the design would hardly settle an open comparison.

    That changes no level: going on all the same would be no error. With fewer than two seeds nothing is known, and
    what the images cannot answer may be answerable once the arms have learned.
    """
    if entry.verdict != "inconclusive" or entry.reason in BLIND or entry.units < 2:
        return False
    return chance(Estimate.of(entry, entry.d_ap), design, entry.family) < FUTILE
