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
    """A mean difference over seeds and where its uncertainty comes from. All in AP fractions, variances squared."""

    mean: float
    seeds: int
    images: int
    shared: float  # variance from the choice of images that all seeds share
    single: float  # variance from the choice of images that each seed has for itself
    between: float  # variance from training again with another seed; 0 with one seed, where it is unknown

    @property
    def variance_images(self) -> float:
        return self.shared + self.single / self.seeds

    @property
    def variance_seeds(self) -> float:
        return self.between / self.seeds

    @property
    def se(self) -> float:
        return float(np.sqrt(self.variance_images + self.variance_seeds))

    def quantile(self, probability: float) -> float:
        """Cochran's: Student quantiles of both sources of variance, weighted with the variances."""
        of_images = student.ppf(probability, max(self.images - 1, 1))
        if not self.variance_seeds:
            return float(of_images)
        of_seeds = student.ppf(probability, self.seeds - 1)
        weight = self.variance_seeds / self.se**2
        return float((1 - weight) * of_images + weight * of_seeds)

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

    def planned(self, seeds: int, images: int) -> Estimate:
        """What the same study with other numbers of seeds and images would be expected to give."""
        scale = self.images / images
        return replace(self, seeds=seeds, images=images, shared=self.shared * scale, single=self.single * scale)

    def summary(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "ci95": list(self.ci95),
            "p": self.p,
            "se_images": float(np.sqrt(self.variance_images)),
            "se_seeds": float(np.sqrt(self.variance_seeds)) if self.seeds > 1 else None,
        }


def estimate(differences: np.ndarray, images: int) -> Estimate:
    """`differences` is (1 + B, S): the sample itself, then B bootstrap resamples of the images, for each of S seeds.

    `images` is the number of images that carry the figure (those that show the class, for a class). Resamples without a
    box of the class (NaN) do not count.
    """
    per_seed, replicates = differences[0], differences[1:]
    replicates = replicates[~np.isnan(replicates).any(axis=1)]
    seeds = len(per_seed)
    correction = images / max(images - 1, 1)  # the bootstrap's variance is that of a sample, not of its population
    of_mean = float(replicates.mean(axis=1).var()) * correction
    single = between = 0.0
    if seeds > 1:
        of_one = float(replicates.var(axis=0).mean()) * correction
        single = min(max(of_one - of_mean, 0.0) * seeds / (seeds - 1), of_mean * seeds)
        # The spread between seeds also holds `single`, which the images' variance holds already. Only half of it is
        # taken off, and with two seeds nothing: seeds that agree by chance would narrow it (docs/statistics.md).
        counted_twice = single / 2 if seeds > 2 else 0.0
        between = max(float(per_seed.var(ddof=1)) - counted_twice, 0.0)
    return Estimate(float(per_seed.mean()), seeds, images, of_mean - single / seeds, single, between)


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
    """`improves`, `hurts`, `no_difference` or `inconclusive`; with one seed always the last."""
    low, high = difference.ci95
    if difference.seeds == 1:
        return "inconclusive"
    if max(-low, high) <= BAND:
        return "no_difference"
    if low > 0:
        return "improves"
    return "hurts" if high < 0 else "inconclusive"


def needed(difference: Estimate) -> dict[str, int | None]:
    """Seeds, or images, in all that would settle the question if the truth is what was seen; None: too many.

    Settled means a difference as large as this one is found with 80% probability, or the interval fits into the band.
    """
    if difference.seeds == 1:
        return {"seeds": MIN_SEEDS, "images": None}

    def settles(plan: Estimate) -> bool:
        return plan.mde <= abs(plan.mean) or abs(plan.mean) + plan.half_width <= BAND

    def smallest(plan: Callable[[int], Estimate], low: int, high: int) -> int | None:
        numbers = range(low, high + 1)
        found = bisect_left(numbers, True, key=lambda n: settles(plan(n)))
        return numbers[found] if found < len(numbers) else None

    return {
        "seeds": smallest(lambda n: difference.planned(n, difference.images), difference.seeds, MAX_SEEDS),
        "images": smallest(lambda n: difference.planned(difference.seeds, n), difference.images, MAX_IMAGES),
    }


def judge(difference: Estimate) -> dict[str, Any]:
    """The verdict, the sentence a careful colleague would say, and what would settle the question if it is open."""
    word = verdict(difference)
    plan = needed(difference) if word == "inconclusive" else None
    return {"verdict": word, "sentence": _sentence(word, difference, plan), "needed": plan}


def _sentence(word: str, d: Estimate, plan: dict[str, int | None] | None) -> str:
    low, high = (points(x) for x in d.ci95)
    seen = f"{points(d.mean)} AP points (95% interval {low} to {high})"
    design = f"with {_count(d.seeds, 'seed')} on {_count(d.images, 'image')}"
    if d.seeds == 1:
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
    if plan["seeds"]:
        ways.append(f"run {_count(plan['seeds'] - d.seeds, 'more seed')}")
    if plan["images"]:
        ways.append(f"evaluate on {plan['images']:,} images")
    if not ways:
        return f"Neither {MAX_SEEDS} seeds nor {MAX_IMAGES:,} images alone would settle it."
    return f"To settle it, {' or '.join(ways)}."


def points(fraction: float) -> str:
    """An AP difference in signed AP points."""
    return f"{round(100 * fraction, 1) + 0:+.1f}"  # + 0: no "-0.0"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
