"""How many reports of studies without effects hold a false word, whatever they print. Prints rows of a Markdown table.

python benchmarks/whole_report.py --studies 2000

A study compares 1, 3 or 6 arms with the baseline, the first of them with a baseline of the same time, too, and, as
nobody asked for, the others with that one as well, all with the last of them (as with Ultralytics' distillation), two
with an ignorant teacher, and every arm with the student as given. Each comparison has classes, box sizes and a last
epoch, and each with the baseline has kinds of error. A false word is `improves` or `hurts` of any comparison, best or
last epoch, or a class or a size that is called certain. A cell has the % of reports with one / what it would be if
nothing had to wait for the comparisons that were asked for / the % in which an interval of a kind of error leaves out
zero.

As in `made_up.py`, `at_once` has studies as arrays, and `one_by_one` takes one through `compare_figures`,
`decide_families`, `settled`, `futile`, `Entry.sure` and `compare_losses`; a test holds one to the other.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import structs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.verdict.compare import compare_figures, decide_families, has_effect
from coco1k_kd.verdict.entry import Entry, Last
from coco1k_kd.verdict.errors_by_kind import KINDS, Losses, compare_losses
from coco1k_kd.verdict.futility import FUTILE, chance, futile
from coco1k_kd.verdict.intervals import estimate, words_of
from coco1k_kd.verdict.looks import ALPHA, FIXED, LOOKS, Design, sequential, settled
from coco1k_kd.verdict.matching import Figures

ARMS, FIXED_SEEDS, CHUNK = (1, 3, 6), (5,), 100
NAMES, SIZES, IMAGES = [f"class {number}" for number in range(6)], 4, 90
OF_SEEDS, OF_IMAGES, OF_EPOCH = 0.004, 0.002, 0.002  # standard deviations of an AP: seeds, images, best to last epoch
BASELINE, STUDENT, SAME_TIME, RANDOM, FIRST = range(5)
SHOWN = (np.arange(IMAGES) + np.arange(len(NAMES))[:, None]) % 3 == 0  # a class is on every third image
EFFECTS = ("improves", "hurts")
Pair = tuple[int, int]


class Setup(NamedTuple):
    """A study of so many arms, with looks or a fixed number of seeds."""

    arms: int
    fixed: bool

    @property
    def looks(self) -> tuple[int, ...]:
        return FIXED_SEEDS if self.fixed else LOOKS

    @property
    def design(self) -> Design:
        return FIXED if self.fixed else sequential()

    @property
    def families(self) -> tuple[list[Pair], list[Pair], list[Pair]]:
        """The comparisons that were asked for, the others, and those with the student as given."""
        given = list(range(FIRST, FIRST + self.arms))
        asked = [*((arm, BASELINE) for arm in given), (FIRST, SAME_TIME)]
        others = [*((arm, given[-1]) for arm in given[:-1]), (RANDOM, BASELINE), (FIRST, RANDOM)]
        others += [(arm, SAME_TIME) for arm in given[1:]]
        return asked, others, [(arm, STUDENT) for arm in (BASELINE, SAME_TIME, *given)]

    @property
    def beside(self) -> list[Pair]:
        """Those whose kinds of error are shown."""
        return [pair for family in self.families for pair in family if pair[1] == BASELINE]


class Drawn(NamedTuple):
    """What M models of N studies find, who differ by chance alone: AP by box size and class of the best and the last
    epoch (N, M, A, C, S), each image's part (N, M, A, C, I), AP50 lost by kind of error (N, M, K, S), and its parts.
    """

    best: np.ndarray
    last: np.ndarray
    influence: np.ndarray
    lost: np.ndarray
    influence_lost: np.ndarray


def drawn(setup: Setup, studies: int, rng: np.random.Generator) -> Drawn:
    """Made-up figures of so many studies."""
    models, seeds = FIRST + setup.arms, setup.looks[-1]
    whole, kinds = (studies, models, SIZES, len(NAMES)), (studies, models, len(KINDS))
    influence = (rng.normal(0, OF_IMAGES / SHOWN[0].sum() ** 0.5, (*whole, IMAGES)) * SHOWN).astype(np.float32)
    influence_lost = rng.normal(0, OF_IMAGES / IMAGES**0.5, (*kinds, IMAGES))
    noise = [
        rng.normal(0, spread, shape)
        for spread, shape in (
            (OF_SEEDS, (*whole, seeds)),
            (OF_SEEDS, (studies, models, 1, 1, seeds)),
            (OF_EPOCH, (studies, models, 1, 1, seeds)),
            (OF_SEEDS, (*kinds, seeds)),
        )
    ]
    for one in noise:
        one[:, STUDENT] = 0  # it is one model, whatever the seed
    of_class, of_run, of_epoch, of_kind = noise
    best = 0.4 + influence.sum(-1, dtype=float)[..., None] + of_class + of_run
    lost = 0.05 + influence_lost.sum(-1, keepdims=True) + of_kind
    return Drawn(best, best + of_epoch, influence, lost, influence_lost)


def at_once(setup: Setup, figures: Drawn) -> np.ndarray:
    """(3, N) of each study: a false word in its report; one if no gate were; a false interval of a kind of error."""
    design, families, beside = setup.design, setup.families, setup.beside
    pairs = [pair for family in families for pair in family]
    one, other = np.array(pairs).T
    best, last, influence, lost, influence_lost = (values[:, one] - values[:, other] for values in figures)
    of_kinds = [pairs.index(pair) for pair in beside]
    of_family = np.split(np.arange(len(pairs)), np.cumsum([len(family) for family in families])[:-1])
    said, certain, wrong = (np.zeros((len(best), len(pairs)), bool) for _ in range(3))
    said_last, running = said.copy(), np.ones((len(best), FIRST + setup.arms), bool)
    still_open = np.ones((len(best), len(families[0])), bool)
    for look in setup.looks:
        on = running[:, one] & running[:, other]

        def of(values: np.ndarray, parts: np.ndarray, images: int = IMAGES, look: int = look):
            return estimate(values[..., :look], parts[..., None], [0] * look, images)

        overall = influence[:, :, 0].mean(2)
        for number, family in enumerate(of_family):
            level = design.level_at(look, len(family))
            for epoch, told in ((best, said), (last, said_last)):
                found = of(epoch[:, family, 0].mean(2), overall[:, family])
                words = words_of(*found.interval(level))
                told[:, family] = np.where(on[:, family], np.isin(words, EFFECTS), told[:, family])
                if number == 0 and epoch is best:
                    still_open &= (words == "inconclusive") & (chance(found, design, len(family)) >= FUTILE)
        classes = leaves_out(of(best[:, :, 0], influence[:, :, 0], int(SHOWN[0].sum())), ALPHA / len(NAMES))
        sizes = leaves_out(of(best[:, :, 1:].mean(3), influence[:, :, 1:].mean(3)), ALPHA / (SIZES - 1))
        certain = np.where(on, (classes | sizes), certain)  # Holm's first step
        found = of(lost[:, of_kinds], influence_lost[:, of_kinds])
        for column, pair in enumerate(of_kinds):
            share = len(next(family for family in of_family if pair in family))
            level = design.level_at(look, share) * share / len(beside) / len(KINDS)
            wrong[:, pair] = np.where(on[:, pair], leaves_out(found, level)[:, column], wrong[:, pair])
        running[:] = False
        running[:, [BASELINE, STUDENT, RANDOM]] = still_open.any(axis=1, keepdims=True)
        for column, pair in enumerate(families[0]):
            running[:, pair] |= still_open[:, [column]]
    effect = said[:, of_family[0]].any(axis=1)
    told = said & (effect[:, None] | (np.arange(len(pairs)) < len(families[0])))
    return np.array([told.any(axis=1), (said | said_last | certain).any(axis=1), wrong.any(axis=1)])


def leaves_out(found: object, level: float) -> np.ndarray:
    """Whether an interval of any part (last dimension) leaves out zero."""
    low, high = found.interval(level)
    return (low * high > 0).any(axis=-1)


def one_by_one(setup: Setup, figures: Drawn, number: int) -> tuple[bool, bool]:
    """Whether the report of the study of this number has a false word, and a false interval of a kind of error."""
    design, families = setup.design, setup.families
    running, units, entries = set(range(FIRST + setup.arms)), {}, {}
    for look in setup.looks:
        units |= dict.fromkeys(running, look)
        pairs = [pair for family in families for pair in family if {*pair} <= running]
        entries |= {pair: entry_of(figures, number, pair, look) for pair in pairs}
        decided = decide_families(*([entries[pair] for pair in family] for family in families), design=design)
        entries = dict(zip(entries, [entry for family in decided for entry in family], strict=True))
        still = [pair for pair in families[0] if not (settled(entries[pair]) or futile(entries[pair], design))]
        running = {BASELINE, STUDENT, RANDOM, *(model for pair in still for model in pair)}
        if not still:
            break
    says = any(
        has_effect(entry)
        or has_effect(entry.last)
        or any(entry.sure(part) for part in (*entry.per_class.values(), *entry.per_size.values()))
        for entry in entries.values()
    )
    told = [kinds_of(figures, number, pair, entries[pair], len(setup.beside)) for pair in setup.beside]
    return says, any(told)


def entry_of(figures: Drawn, number: int, pair: Pair, seeds: int) -> Entry:
    """The comparison of two models on their first seeds."""
    shown, keys = np.broadcast_to(SHOWN, (SIZES, *SHOWN.shape)), [(0, seed) for seed in range(seeds)]

    def runs(ap: np.ndarray, model: int) -> list[Figures]:
        parts = figures.influence[number, model]
        return [Figures(NAMES, ap[number, model, :, None, :, seed], parts, parts[0], shown) for seed in range(seeds)]

    best, of_last = (
        compare_figures(*(runs(ap, model) for model in pair), keys, ap is figures.best) for ap in figures[:2]
    )
    return structs.replace(best, last=Last(of_last.d_ap, of_last.d_ap50, of_last.mde, of_last.verdict))


def kinds_of(figures: Drawn, number: int, pair: Pair, entry: Entry, shown: int) -> bool:
    """Whether an interval of a kind of error of the comparison leaves out zero, where so many are `shown`."""
    lost, parts = figures.lost[number], figures.influence_lost[number]
    sides = [[Losses(0.6, lost[model, :, seed], parts[model]) for seed in entry.seeds] for model in pair]
    told = compare_losses(*sides, [(0, seed) for seed in entry.seeds], level=entry.level * entry.family / shown)
    return any(low * high > 0 for low, high in (of.difference.interval for of in told.values()))


def _part(setup: Setup, part: int) -> np.ndarray:
    return at_once(setup, drawn(setup, CHUNK, np.random.default_rng([part, *setup])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help=f"simulated studies a cell, in steps of {CHUNK}")
    args = parser.parse_args()
    print("| **The whole report** | | | | |")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for arms in ARMS:
            cells = []
            for fixed in (False, True):
                parts = pool.map(partial(_part, Setup(arms, fixed)), range(-(-args.studies // CHUNK)))
                cells.append(" / ".join(f"{100 * share:.1f}" for share in np.hstack(list(parts)).mean(axis=1)))
            print(f"| {arms} arm{'s' * (arms > 1)} | {cells[0]} | | {cells[1]} | |", flush=True)


if __name__ == "__main__":
    main()
