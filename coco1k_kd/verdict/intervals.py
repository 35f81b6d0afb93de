"""From a difference and its variances to an interval, a p-value and a verdict. Method and proof: docs/statistics.md."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from msgspec import structs
from scipy.optimize import brentq
from scipy.special import stdtrit

from coco1k_kd.verdict.entry import Components, Difference, Entry, Interval, Needed, Part, Reason, Variance, Word

BAND = 0.003  # AP fraction: a difference that stays within +-0.3 AP points is none that matters
MIN_SEEDS = 3  # fewer say too little about the spread between seeds to plan with
MIN_IMAGES = 20  # with fewer images of a figure its interval is too narrow too often: docs/statistics.md
MIN_CLASS_IMAGES = 5  # with fewer images of a class the spread between images is unknown
MAX_SEEDS = 100  # a plan beyond these is none
MAX_IMAGES = 5000  # val2017 has no more
_PLAIN, _POWER = 0.05, 0.8
_NO_VARIANCE = 1e-300  # in the place of 0, by which nothing can be divided


@dataclass(frozen=True)
class Estimate:
    """A mean difference and where its uncertainty comes from. All in AP fractions, variances squared.

    What is repeated are draws of the train images where there are several, else seeds: the `units`. Mean and variances
    may be arrays, of as many studies of one size: then so are the intervals.
    """

    mean: float
    draws: int
    seeds: int  # of each draw
    images: float  # or groups of them, where images are not independent
    shared: float  # variance from the choice of images that all units share
    single: float = 0.0  # variance from the choice of images that each unit has for itself
    spread: float = 0.0  # variance seen between units, which holds `single`; 0 with one unit, where it is unknown
    of_seeds: float = 0.0  # variance of a unit from its seeds; told apart from that of draws where a draw has several
    overlap: float = 0.0  # share of the train images that two draws have in common, on average

    @classmethod
    def of(cls, entry: Entry, difference: Difference) -> Estimate:
        """What a difference of the entry was summarised from."""
        parts = structs.asdict(difference.components)
        return cls(difference.mean, len(entry.draws), entry.seeds_each, entry.samples or entry.images, **parts)

    @property
    def units(self) -> int:
        return self.draws if self.draws > 1 else self.seeds

    @cached_property
    def variance_units(self) -> float:
        """Of the mean of the units. Draws that share images are alike: they spread less than others would, and their
        mean varies more than their spread says.
        """
        alike = (1 + (self.units - 1) * self.overlap) / (1 - self.overlap)
        return self.spread / self.units * alike

    @cached_property
    def se(self) -> float:
        return _number(np.sqrt(self.shared + self.variance_units))

    @cached_property
    def _se_images(self) -> float:
        """From the choice of images alone."""
        return _number(np.sqrt(self.shared + self.single / self.units))

    @cached_property
    def _weight(self) -> float:
        """The part of the variance that the spread between units tells."""
        return _number(self.variance_units / np.maximum(self.se**2, _NO_VARIANCE))

    def split(self) -> Variance:
        """The variance of the mean by source; None where it cannot be known.

        Estimates, none below zero: their sum may be more than se².
        """
        images = self.shared + self.single / self.units
        rest = max(self.spread - self.single, 0.0) / self.units
        if self.draws == 1:
            return Variance(rest if self.seeds > 1 else None, None, images)
        seeds = min(self.of_seeds / self.units, rest)
        draws = rest - seeds + self.variance_units - self.spread / self.units
        return Variance(seeds if self.seeds > 1 else None, draws, images)

    def reach(self, probability: float) -> float:
        """How far the estimate strays with this probability.

        The quantile is Cochran's: Student's of both sources of variance, weighted with the variances. It is never less
        than the choice of images alone makes it: by chance the units of a study may agree more than their images allow.
        """
        of_images, of_units = (float(stdtrit(max(n - 1, 1), probability)) for n in (self.images, self.units))
        cochran = ((1 - self._weight) * of_images + self._weight * of_units) * self.se
        return _number(np.maximum(cochran, of_images * self._se_images))

    def half_width(self, level: float = _PLAIN) -> float:
        return self.reach(1 - level / 2)

    def interval(self, level: float = _PLAIN) -> Interval:
        """Holds the true difference with a probability of one less the `level`."""
        return self.mean - self.half_width(level), self.mean + self.half_width(level)

    @property
    def p(self) -> float:
        """Two-sided: one less the confidence of the widest interval that leaves out zero."""
        if not self.mean:
            return 1.0
        if self.reach(1 - 1e-12) < abs(self.mean):
            return 0.0
        return float(brentq(lambda p: self.reach(1 - p / 2) - abs(self.mean), 2e-12, 1.0))

    def mde(self, level: float = _PLAIN) -> float:
        """The true difference that this design finds, two-sided at the level, with 80% probability."""
        return self.reach(1 - level / 2) + self.reach(_POWER)

    def planned(self, units: int, images: float) -> Estimate:
        """What the same study with other numbers of units and images would be expected to give."""
        scale = self.images / images
        single = self.single * scale
        return replace(
            self,
            **{"draws" if self.draws > 1 else "seeds": units},
            images=images,
            shared=self.shared * scale,
            single=single,
            spread=single + np.maximum(self.spread - self.single, 0.0),
        )

    def summary(self, level: float = _PLAIN) -> Difference:
        components = Components(self.shared, self.single, self.spread, self.of_seeds, self.overlap)
        return Difference(self.mean, self.interval(), self.p, self.split(), components, self.interval(level))


def estimate(
    observed: np.ndarray, influence: np.ndarray, draws: Sequence[int], images: float, overlap: float = 0.0
) -> Estimate:
    """From the difference of each of R runs (..., R), and each image's influence on it (..., I, R).

    Further dimensions are of studies of one size. `draws` says of which draw of the train images each run is. `images`
    is the number of images that carry the figure (those that show the class, for a class); I may be groups of images,
    and `images` how many equal ones they are as good as. `overlap`: share of the train images that two draws have in
    common. Where all runs are of one draw and an image says the same of each, (..., I, 1) will do.
    """
    of_images = np.swapaxes(influence, -1, -2).astype(float) @ influence
    of_images *= images / max(images - 1, 1)  # of a sample's population
    of_draw = np.array([np.equal(draws, draw) for draw in sorted(set(draws))], float)
    seeds = int(of_draw.sum(axis=1).min())
    of_seeds = 0.0
    units, between = observed, of_images
    if len(of_draw) > 1:
        share = of_draw / of_draw.sum(axis=1, keepdims=True)
        units, between = observed @ share.T, share @ of_images @ share.T
        if seeds > 1:
            parts = [np.flatnonzero(chosen) for chosen in of_draw]
            each = [_excess(observed[..., i], of_images[..., i[:, None], i]) / len(i) for i in parts]
            of_seeds = _number(np.mean(each, axis=0))
    shared, single, spread = _components(units, between)
    return Estimate(_number(units.mean(-1)), len(of_draw), seeds, images, shared, single, spread, of_seeds, overlap)


def _components(observed: np.ndarray, of_images: np.ndarray) -> tuple[float, float, float]:
    """Image variance that U units share, that each has for itself, and the variance seen between them.

    `of_images` (..., U, U): covariance of the units over samples of images.
    """
    count = observed.shape[-1]
    of_mean, of_one = of_images.mean((-2, -1)), of_images.diagonal(axis1=-2, axis2=-1).mean(-1)
    if count == 1:
        return _number(of_mean), 0.0, 0.0
    single = np.clip((of_one - of_mean) * count / (count - 1), 0.0, of_mean * count)
    return _number(of_mean - single / count), _number(single), _number(observed.var(ddof=1, axis=-1))


def _excess(observed: np.ndarray, of_images: np.ndarray) -> np.ndarray:
    """Variance between runs beyond what the choice of images explains."""
    _, single, spread = _components(observed, of_images)
    return np.maximum(spread - single, 0.0)


def _number(value: np.ndarray) -> float:
    """A plain number, or the array where there are several."""
    return value if np.ndim(value) else float(value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: those below 0.05 hold all at once with 95% confidence, however dependent they are."""
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    result = np.empty(len(order))
    result[order] = np.minimum(adjusted, 1)
    return result.tolist()


def corrected(estimates: Mapping[str, Estimate], images: Mapping[str, int] | None = None) -> dict[str, Part]:
    """Figures by name, `p_holm` corrected for looking at all of them. With too few samples: the mean, the rest None.

    `images`: how many carry each figure, where they are not the samples themselves.
    """
    shown = images or {name: int(e.images) for name, e in estimates.items()}
    known = {name: e for name, e in estimates.items() if e.images >= MIN_CLASS_IMAGES}
    adjusted = dict(zip(known, holm([e.p for e in known.values()]), strict=True))
    return {
        name: Part(e.mean, e.interval(), e.p, adjusted[name], shown[name])
        if name in known
        else Part(e.mean, None, None, None, shown[name])
        for name, e in estimates.items()
    }


def verdict(difference: Estimate, level: float = _PLAIN) -> tuple[Word, Reason | None]:
    """`improves`, `hurts`, `no_difference` or `inconclusive`, and for the last why.

    The method is judged from two units on, on enough images, and where the choice of images makes a difference at all.
    """
    if difference.units == 1:
        return "inconclusive", "one_seed"
    if difference.images < MIN_IMAGES:
        return "inconclusive", "few_images"
    if not difference.shared + difference.single:
        return "inconclusive", "no_spread"
    word = str(words_of(*difference.interval(level)))
    return word, "interval" if word == "inconclusive" else None


def words_of(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """What intervals say: of one, or of many."""
    told = [np.maximum(-low, high) <= BAND, low > 0, high < 0]
    return np.select(told, ["no_difference", "improves", "hurts"], "inconclusive")


def needed(
    difference: Estimate, reason: Reason | None = "interval", level: float = _PLAIN, each: float = 1.0
) -> Needed:
    """Seeds (draws, where there are several), or images, in all that would settle the question; None: too many.

    `reason` is why it is open. What was seen is taken for the truth. Settled means a difference as large as this one is
    found with 80% probability, or the interval fits into the band. `each`: images that are as good as one, in groups.
    """
    if difference.units == 1:
        return Needed(seeds=MIN_SEEDS)
    if reason == "few_images":
        return Needed(images=round(MIN_IMAGES * each))
    if reason in ("no_spread", "nothing_found"):
        return Needed()

    def settles(plan: Estimate) -> bool:
        return plan.mde(level) <= abs(plan.mean) or abs(plan.mean) + plan.half_width(level) <= BAND

    def smallest(plan: Callable[[int], Estimate], low: int, high: int) -> int | None:
        numbers = range(low, high + 1)
        found = bisect_left(numbers, True, key=lambda n: settles(plan(n)))
        return numbers[found] if found < len(numbers) else None

    units, images = difference.units, difference.images
    return Needed(
        **{
            "draws" if difference.draws > 1 else "seeds": smallest(
                lambda n: difference.planned(n, images), units + 1, MAX_SEEDS
            )
        },
        images=smallest(lambda n: difference.planned(units, n / each), round(images * each) + 1, MAX_IMAGES),
    )
