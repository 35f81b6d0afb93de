"""One entry of `comparisons`: two arms compared, in figures alone. Texts are made of it in `report/words.py`."""

from __future__ import annotations

from typing import Literal

import msgspec

Replicate = tuple[int, int]  # (draw of the train images, seed of the training); draw 0 when there is one subset
Word = Literal["improves", "hurts", "no_difference", "inconclusive"]
Reason = Literal["one_seed", "few_images", "no_spread", "nothing_found", "interval", "gate", "more_time"]
EQUAL_TIME = 0.05  # two times are equal that differ by at most this share of the second
BLIND = ("few_images", "no_spread", "nothing_found")  # reasons that no level and no further seed takes away
Interval = tuple[float, float]


class Variance(msgspec.Struct, frozen=True):
    """The variance of a mean difference by source; None where a source is not repeated."""

    seed: float | None
    draw: float | None
    image: float


class Components(msgspec.Struct, frozen=True):
    """What an interval of any level is computed from: the fields of `intervals.Estimate` with these names."""

    shared: float
    single: float = 0.0
    spread: float = 0.0
    of_seeds: float = 0.0
    overlap: float = 0.0


class Difference(msgspec.Struct, frozen=True):
    """A mean difference of AP. `ci95` and `p` are plain; `ci` has the level of the entry, which decides the verdict."""

    mean: float
    ci95: Interval
    p: float
    variance: Variance
    components: Components | None = None
    ci: Interval | None = None

    @property
    def interval(self) -> Interval:
        """The interval that decides the verdict."""
        return self.ci or self.ci95


class Part(msgspec.Struct, frozen=True):
    """The difference in one class or box size; None where there are too few images for an interval."""

    mean: float
    ci95: Interval | None
    p: float | None
    p_holm: float | None
    images: int

    @property
    def interval(self) -> Interval | None:
        """The plain interval: a part has no verdict of its own."""
        return self.ci95

    @property
    def certain(self) -> bool:
        """Whether the difference stays certain after Holm's correction."""
        return self.p_holm is not None and self.p_holm < 0.05


class RunDifference(msgspec.Struct, frozen=True):
    """AP of the arm's run less AP of the other arm's run with the same draw and seed."""

    draw: int
    seed: int
    d_ap: float


class ImageInfluence(msgspec.Struct, frozen=True):
    """An image's share of a difference in AP; `file` is its path within the split's folder."""

    image_id: int
    file: str
    d_ap: float


class Needed(msgspec.Struct, frozen=True):
    """Seeds (draws, where there are several), or images, in all that would settle an open question; None: too many."""

    seeds: int | None = None
    draws: int | None = None
    images: int | None = None


class Last(msgspec.Struct, frozen=True):
    """The same comparison on the last epoch's predictions. It says that the arms differ only where the entry does: two
    chances of a false word would be too many.
    """

    d_ap: Difference
    d_ap50: Difference
    mde: float
    verdict: Word
    reason: Reason | None = None  # `gate` where it has no word for that


class Times(msgspec.Struct, frozen=True):
    """Seconds of training of a run of an arm, with its share of what the teacher took before, and of a run of
    `baseline_same_time`: equal where they differ by at most 5% of the latter.
    """

    arm: float
    against: float

    @property
    def equal(self) -> bool:
        """Whether neither had more time."""
        return not (self.less or self.more)

    @property
    def less(self) -> bool:
        """Whether the arm had less time."""
        return self.arm < (1 - EQUAL_TIME) * self.against

    @property
    def more(self) -> bool:
        """Whether the arm had more time."""
        return self.arm > (1 + EQUAL_TIME) * self.against


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Does `arm` differ from `against`? AP values are fractions."""

    arm: str = ""
    against: str = ""
    judge: Literal["val", "full_val", "test"] = "val"
    draws: list[int]
    seeds: list[int]
    images: int
    groups: int | None = None  # of images that are one sample each (--groups)
    samples: float | None = None  # groups of one size that would be as good as these
    replicates: int = 0  # no resamples: intervals come from each image's influence
    d_ap: Difference
    d_ap50: Difference
    per_run: list[RunDifference]
    times: Times | None = None  # where `against` is baseline_same_time
    level: float = 0.05  # two-sided, of `ci`: of the look, and of the share that each comparison has
    family: int = 1  # how many comparisons share the error
    unplanned: bool = False  # something was changed after a verdict: `design.changed` says what
    p_holm: float | None = None  # `p` corrected for looks and comparisons: below 0.05 where `ci` leaves out 0
    mde: float
    verdict: Word
    reason: Reason | None = None  # why it is inconclusive
    needed: Needed | None = None
    per_class: dict[str, Part] = {}
    per_size: dict[str, Part] = {}
    last: Last | None = None

    @property
    def units(self) -> int:
        """What is repeated: draws of the train images where there are several, else seeds."""
        return len(self.draws) if len(self.draws) > 1 else len(self.seeds)

    @property
    def seeds_each(self) -> int:
        """Seeds of each draw: all of them, or one where every draw has a seed of its own."""
        return len(self.per_run) // len(self.draws) or len(self.seeds)

    def sure(self, part: Part) -> bool:
        """Whether a class or size differs with certainty: only where the comparison itself found an effect, so that a
        study without effects has no further chance of a false word.
        """
        return part.certain and self.verdict in ("improves", "hurts")

    @property
    def at_odds(self) -> bool:
        """Whether best and last epoch lead to different verdicts."""
        return self.last is not None and self.last.verdict != self.verdict
