"""Simulated studies, for the table of docs/statistics.md: `looks.py`, `changes.py` and `whole_report.py` count them.

Made up are the figures: normal shares of images, and seeds that are normal or heavy-tailed (Student's t with 3
degrees of freedom). What follows from them is the product's own: `at_once` takes thousands of studies through
`estimate`, the design's levels, `words_of` and `chance`, which work on arrays; `one_by_one` takes a study through
`compare_figures`, `decide`, `settled` and `futile`. A test holds each to the other, verdict by verdict.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import structs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.groups import Groups, equal_groups
from coco1k_kd.verdict.compare import compare_figures, decide
from coco1k_kd.verdict.entry import Entry
from coco1k_kd.verdict.futility import FUTILE, chance, futile
from coco1k_kd.verdict.intervals import BAND, estimate, words_of
from coco1k_kd.verdict.looks import FIXED, LOOKS, Design, sequential, settled
from coco1k_kd.verdict.matching import Figures

IMAGES = 400
STANDARD_ERROR = 0.002  # of the difference at the first look: 0.2 AP points
UNEQUAL = 4.0  # spread of the last arm's seeds over that of the first, in geometric steps
ALIKE = 1 / 3  # correlation of the images of a cluster: ten of them say as much as two and a half others
CHUNK = 250  # studies that are simulated at once


class Case(NamedTuple):
    """What all studies of a case share; AP values are fractions.

    Attributes:
        looks: numbers of seeds after which a study looks; with `fixed` it has the plain intervals of its one look.
        truth: true difference of every arm from the baseline.
        standard_error: of a difference at the first look.
        share: of its variance that comes from the images.
        heavy: whether seeds have heavy tails.
        arms: arms that are compared with the baseline.
        futility: whether an arm that further looks would hardly settle is not continued, as in a study.
        cluster: images of a video, which are alike; 1: all images are independent.
        uneven: whether clusters have 1 to 2 * `cluster` - 1 images, all equally often.
        grouped: whether the study knows the clusters (--groups).
        unequal: whether the arms' seeds spread unequally, the last `UNEQUAL` times as far as the first.
        images: that judge.
    """

    looks: tuple[int, ...] = LOOKS
    fixed: bool = False
    truth: float = 0.0
    standard_error: float = STANDARD_ERROR
    share: float = 0.0
    heavy: bool = False
    arms: int = 1
    unequal: bool = False
    futility: bool = True
    cluster: int = 1
    uneven: bool = False
    grouped: bool = True
    images: int = IMAGES

    @property
    def design(self) -> Design:
        """When such a study looks."""
        return FIXED if self.fixed else sequential(self.looks)


class Drawn(NamedTuple):
    """The figures of N studies with A arms, the baseline first: AP of each seed (N, A, S), and each image's part in it
    (N, A, I), which all seeds share; `groups` are those that the studies know."""

    ap: np.ndarray
    influence: np.ndarray
    groups: Groups | None


class Ended(NamedTuple):
    """How studies ended, an array each: seeds; whether a verdict is false, or given; whether all intervals hold the
    truth; how many runs there were."""

    seeds: np.ndarray
    false: np.ndarray
    given: np.ndarray
    held: np.ndarray
    runs: np.ndarray


def drawn(case: Case, studies: int, rng: np.random.Generator) -> Drawn:
    """Made-up figures of so many studies."""
    arms, most, count = case.arms, case.looks[-1], case.images
    variance = case.standard_error**2 / 2  # a difference has two arms
    spreads = np.r_[1.0, np.geomspace(1, UNEQUAL, arms) if case.unequal and arms > 1 else np.ones(arms)]
    shape = (studies, 1 + arms, most)
    seeds = rng.standard_t(3, shape) / 3**0.5 if case.heavy else rng.normal(size=shape)
    seeds *= (case.looks[0] * (1 - case.share) * variance) ** 0.5 * spreads[:, None]
    of_images = (max(case.share, 1e-9) * variance / count) ** 0.5  # not 0: then no image would decide anything
    images, groups = rng.normal(0, of_images, (studies, 1 + arms, count)), None
    if case.cluster > 1:
        sizes = rng.integers(1, 2 * case.cluster, count) if case.uneven else np.full(count, case.cluster)
        number = np.repeat(np.arange(count), sizes)[:count]
        of_cluster = rng.normal(0, of_images, (studies, 1 + arms, number[-1] + 1))[..., number]
        as_many = (np.bincount(number) ** 2).sum() / count  # images that an image's cluster has, on average
        images = (images * (1 - ALIKE) ** 0.5 + of_cluster * ALIKE**0.5) / (1 + (as_many - 1) * ALIKE) ** 0.5
        groups = Groups("made up", number, 0, ()) if case.grouped else None
    effects = np.r_[0.0, np.full(arms, case.truth)][:, None]
    return Drawn(0.4 + effects + images.sum(-1, keepdims=True) + seeds, images.astype(np.float32), groups)


def at_once(case: Case, figures: Drawn) -> Ended:
    """All studies, look by look; an arm that is settled, or not worth further seeds, has no more runs."""
    ap, influence = (values[:, 1:] - values[:, :1] for values in figures[:2])
    images = float(case.images)
    if groups := figures.groups:
        influence, images = groups.sums(influence), float(equal_groups(np.bincount(groups.number)))
    design, arms = case.design, case.arms
    said, ends = np.full(ap.shape[:2], "inconclusive"), np.zeros((2, *ap.shape[:2]))
    still_open, seeds, runs, before = np.ones(ap.shape[:2], bool), np.zeros(len(ap)), np.zeros(len(ap)), 0
    for look in case.looks:
        going = still_open.any(axis=1)
        seeds[going] = look
        runs += going * (look - before) * (1 + still_open.sum(axis=1))
        now = estimate(ap[..., :look], influence[..., None], [0] * look, images)
        interval = now.interval(design.level_at(look, arms))
        said = np.where(still_open, words_of(*interval), said)
        ends = np.where(still_open, interval, ends)
        still_open &= said == "inconclusive"
        if case.futility:
            still_open &= chance(now, design, arms) >= FUTILE
        before = look
    low, high = ends
    return Ended(
        seeds,
        _false(said, case.truth).any(axis=1),
        (said != "inconclusive").any(axis=1),
        ((low <= case.truth) & (case.truth <= high)).all(axis=1),
        runs,
    )


def _false(said: np.ndarray, truth: float) -> np.ndarray:
    """Which words are false; `no_difference` is from the band's edge on."""
    false = {"improves": truth <= 0, "hurts": truth >= 0, "no_difference": abs(truth) >= BAND}
    return np.isin(said, [word for word, wrong in false.items() if wrong])


def one_by_one(case: Case, figures: Drawn, number: int) -> list[Entry]:
    """How the study of this number ends, on the product's whole path from its figures on: its comparisons."""
    design, arms = case.design, case.arms
    runs = [
        [run_of(ap, influence) for ap in of_arm]
        for of_arm, influence in zip(figures.ap[number], figures.influence[number], strict=True)
    ]
    ended: set[int] = set()
    entries: list[Entry | None] = [None] * arms
    for look in case.looks:
        keys = [(0, seed) for seed in range(look)]
        for arm in set(range(arms)) - ended:
            entry = compare_figures(runs[1 + arm][:look], runs[0][:look], keys, False, figures.groups)
            entries[arm] = structs.replace(entry, arm=f"arm {arm}", against="baseline")
        entries = decide(entries, design)
        done = [settled(entry) or (case.futility and futile(entry, design)) for entry in entries]
        ended |= {arm for arm, over in enumerate(done) if over}
    return entries


def run_of(ap: float, influence: np.ndarray) -> Figures:
    """A run of one class, one box size and one threshold."""
    shares = influence[None, None].astype(np.float32)
    return Figures(["class"], np.full((1, 1, 1), ap), shares, shares[0], np.ones(shares.shape, bool))


def means(case: Case, studies: int, pool: ProcessPoolExecutor, seed: int = 0) -> Ended:
    """The means of the fields of `Ended` over so many studies."""
    sizes = chunks(studies)
    parts = pool.map(partial(_part, case, seed), range(len(sizes)), sizes)
    return Ended(*(float(np.concatenate(values).mean()) for values in zip(*parts, strict=True)))


def chunks(studies: int) -> list[int]:
    """The numbers of studies that are simulated at once, which make up so many."""
    return [min(CHUNK, studies - start) for start in range(0, studies, CHUNK)]


def _part(case: Case, seed: int, part: int, studies: int) -> Ended:
    rng = np.random.default_rng([part, seed, case.arms, case.heavy, round(100 * case.share)])
    return at_once(case, drawn(case, studies, rng))
