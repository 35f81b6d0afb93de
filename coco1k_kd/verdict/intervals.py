"""From bootstrap replicates to an interval, a p-value and a verdict. Method and proof: docs/statistics.md."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

BAND = 0.003  # AP fraction: a difference that stays within +-0.3 AP points is none that matters
MIN_SEEDS = 3  # fewer say too little about the spread between seeds to plan with
MAX_SEEDS = 100  # beyond these, more is not advice but an insult
MAX_IMAGES = 5000  # val2017 has no more
MIN_CLASS_IMAGES = 5  # with fewer images of a class its bootstrap knows nothing of the spread
_ALPHA, _POWER = 0.05, 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean difference and where its uncertainty comes from. All in AP fractions, variances squared.

    What is repeated are draws of the train images where there are several, else seeds: the `units`.
    """

    mean: float
    draws: int
    seeds: int  # of each draw
    images: int
    shared: float  # variance from the choice of images that all units share
    single: float = 0.0  # variance from the choice of images that each unit has for itself
    spread: float = 0.0  # variance seen between units, which holds `single`; 0 with one unit, where it is unknown
    of_seeds: float = 0.0  # variance of a unit from its seeds; told apart from that of draws where a draw has several

    @property
    def units(self) -> int:
        return self.draws if self.draws > 1 else self.seeds

    @property
    def variance_units(self) -> float:
        return self.spread / self.units

    @property
    def se(self) -> float:
        return float(np.sqrt(self.shared + self.variance_units))

    def split(self) -> dict[str, float | None]:
        """The variance of the mean by source; None where it cannot be known.

        Estimates, none below zero: their sum may be more than se².
        """
        images = self.shared + self.single / self.units
        rest = max(self.spread - self.single, 0.0) / self.units
        if self.draws == 1:
            return {"seed": rest if self.seeds > 1 else None, "draw": None, "image": images}
        seeds = min(self.of_seeds / self.units, rest)
        return {"seed": seeds if self.seeds > 1 else None, "draw": rest - seeds, "image": images}

    def quantile(self, probability: float) -> float:
        """Cochran's: Student quantiles of both sources of variance, weighted with the variances."""
        of_images = student.ppf(probability, max(self.images - 1, 1))
        if not self.spread:
            return float(of_images)
        of_units = student.ppf(probability, self.units - 1)
        weight = self.variance_units / self.se**2
        return float((1 - weight) * of_images + weight * of_units)

    @property
    def half_width(self) -> float:
        return self.quantile(1 - _ALPHA / 2) * self.se

    @property
    def ci95(self) -> tuple[float, float]:
        return self.mean - self.half_width, self.mean + self.half_width

    @property
    def p(self) -> float:
        """Two-sided: one less the confidence of the widest interval that leaves out zero."""
        if not self.mean:
            return 1.0
        if not self.se or self.quantile(1 - 1e-12) * self.se < abs(self.mean):
            return 0.0
        return float(brentq(lambda p: self.quantile(1 - p / 2) * self.se - abs(self.mean), 2e-12, 1.0))

    @property
    def mde(self) -> float:
        """The true difference that this design finds (5% two-sided) with 80% probability."""
        return (self.quantile(1 - _ALPHA / 2) + self.quantile(_POWER)) * self.se

    def planned(self, units: int, images: int) -> Estimate:
        """What the same study with other numbers of units and images would be expected to give."""
        scale = self.images / images
        single = self.single * scale
        return replace(
            self,
            **{"draws" if self.draws > 1 else "seeds": units},
            images=images,
            shared=self.shared * scale,
            single=single,
            spread=single + max(self.spread - self.single, 0.0),
        )

    def summary(self) -> dict[str, Any]:
        return {"mean": self.mean, "ci95": list(self.ci95), "p": self.p, "variance": self.split()}


def estimate(differences: np.ndarray, draws: Sequence[int], images: int) -> Estimate:
    """`differences` is (1 + B, R): the sample itself, then B bootstrap resamples of the images, for each of R runs.

    `draws` says of which draw of the train images each run is. `images` is the number of images that carry the figure
    (those that show the class, for a class). Resamples without a box of the class (NaN) do not count.
    """
    differences = differences[~np.isnan(differences).any(axis=1)]
    correction = images / max(images - 1, 1)  # the bootstrap's variance is that of a sample, not of its population
    by_draw = [differences[:, np.equal(draws, draw)] for draw in sorted(set(draws))]
    seeds = min(runs.shape[1] for runs in by_draw)
    of_seeds = 0.0
    if len(by_draw) > 1:
        units = np.stack([runs.mean(axis=1) for runs in by_draw], axis=1)
        if seeds > 1:
            of_seeds = float(np.mean([_excess(runs, correction) / runs.shape[1] for runs in by_draw]))
    else:
        units = differences
    shared, single, spread = _components(units, correction)
    return Estimate(float(units[0].mean()), len(by_draw), seeds, images, shared, single, spread, of_seeds)


def _components(units: np.ndarray, correction: float) -> tuple[float, float, float]:
    """Image variance that units share, that each has for itself, and the variance seen between units (1 + B, U)."""
    observed, replicates = units[0], units[1:]
    count = units.shape[1]
    of_mean = float(replicates.mean(axis=1).var()) * correction
    if count == 1:
        return of_mean, 0.0, 0.0
    of_one = float(replicates.var(axis=0).mean()) * correction
    single = min(max(of_one - of_mean, 0.0) * count / (count - 1), of_mean * count)
    return of_mean - single / count, single, float(observed.var(ddof=1))


def _excess(runs: np.ndarray, correction: float) -> float:
    """Variance between runs beyond what the choice of images explains."""
    _, single, spread = _components(runs, correction)
    return max(spread - single, 0.0)


def permutation_p(observed: float, swapped: np.ndarray) -> float:
    """Two-sided p-value of a difference among those with the two arms swapped at random, image by image."""
    return float((1 + np.count_nonzero(np.abs(swapped) >= abs(observed) - 1e-12)) / (1 + len(swapped)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: those below 0.05 hold all at once with 95% confidence, however dependent they are."""
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    result = np.empty(len(order))
    result[order] = np.minimum(adjusted, 1)
    return result.tolist()


def corrected(estimates: dict[str, Estimate]) -> dict[str, dict[str, Any]]:
    """Figures by name, `p_holm` corrected for looking at all of them. With too few images: the mean, the rest None."""
    known = {name: e for name, e in estimates.items() if e.images >= MIN_CLASS_IMAGES}
    adjusted = dict(zip(known, holm([e.p for e in known.values()]), strict=True))
    return {
        name: {
            "mean": e.mean,
            "ci95": list(e.ci95) if name in known else None,
            "p": e.p if name in known else None,
            "p_holm": adjusted.get(name),
            "images": e.images,
        }
        for name, e in estimates.items()
    }


def verdict(difference: Estimate) -> str:
    """`improves`, `hurts`, `no_difference` or `inconclusive`; with one run always the last."""
    low, high = difference.ci95
    if difference.units == 1:
        return "inconclusive"
    if max(-low, high) <= BAND:
        return "no_difference"
    if low > 0:
        return "improves"
    return "hurts" if high < 0 else "inconclusive"


def needed(difference: Estimate) -> dict[str, int | None]:
    """Seeds (draws, where there are several), or images, in all that would settle the question; None: too many.

    Takes what was seen for the truth. Settled means a difference as large as this one is found with 80% probability, or
    the interval fits into the band.
    """
    plan: dict[str, int | None] = {"seeds": None, "draws": None, "images": None}
    if difference.units == 1:
        return plan | {"seeds": MIN_SEEDS}

    def settles(plan: Estimate) -> bool:
        return plan.mde <= abs(plan.mean) or abs(plan.mean) + plan.half_width <= BAND

    def smallest(plan: Callable[[int], Estimate], low: int, high: int) -> int | None:
        numbers = range(low, high + 1)
        found = bisect_left(numbers, True, key=lambda n: settles(plan(n)))
        return numbers[found] if found < len(numbers) else None

    units, images = difference.units, difference.images
    return plan | {
        _unit(difference): smallest(lambda n: difference.planned(n, images), units + 1, MAX_SEEDS),
        "images": smallest(lambda n: difference.planned(units, n), images + 1, MAX_IMAGES),
    }


def _unit(d: Estimate) -> str:
    return "draws" if d.draws > 1 else "seeds"


def judge(difference: Estimate) -> dict[str, Any]:
    """The verdict, the sentence a careful colleague would say, and what would settle the question if it is open."""
    word = verdict(difference)
    plan = needed(difference) if word == "inconclusive" else None
    return {"verdict": word, "sentence": _sentence(word, difference, plan), "needed": plan}


def _sentence(word: str, d: Estimate, plan: dict[str, int | None] | None) -> str:
    low, high = (points(x) for x in d.ci95)
    seen = f"{points(d.mean)} AP points (95% interval {low} to {high})"
    of_draws = f" of each of {_count(d.draws, 'draw')}" if d.draws > 1 else ""
    design = f"with {_count(d.seeds, 'seed')}{of_draws} on {_count(d.images, 'image')}"
    if d.units == 1:
        return (
            f"Inconclusive about the method: one seed compares this pair of models only, {seen} over "
            f"{_count(d.images, 'image')}. Run {_count(MIN_SEEDS - 1, 'more seed')} at least."
        )
    if word == "inconclusive":
        return (
            f"Inconclusive: {design} you could have seen {100 * d.mde:.1f} AP points; you saw {points(d.mean)} ± "
            f"{100 * d.half_width:.1f}. {_advice(d, plan)}"
        )
    if word == "no_difference":
        return f"No difference that matters: {seen} {design}, all within ±{100 * BAND:.1f}."
    return f"{word.capitalize()}: {seen} {design}."


def _advice(d: Estimate, plan: dict[str, int | None]) -> str:
    ways = []
    if more := plan[_unit(d)]:
        ways.append(f"run {_count(more - d.units, f'more {_unit(d)[:-1]}')}")
    if plan["images"]:
        ways.append(f"evaluate on {plan['images']:,} images")
    if not ways:
        return f"Neither {MAX_SEEDS} {_unit(d)} nor {MAX_IMAGES:,} images alone would settle it."
    return f"To settle it, {' or '.join(ways)}."


def points(fraction: float) -> str:
    """An AP difference in signed AP points."""
    return f"{round(100 * fraction, 1) + 0:+.1f}"  # + 0: no "-0.0"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
