"""False verdicts of studies that change something after a verdict, and of draws that share images. Prints a table.

python benchmarks/changes.py --studies 4000

There is no true difference. As in `looks.py` a study goes through the product's own code from its figures on
(`compare_figures`, `decide` and the designs of `verdict/looks.py`); here it also does what its report marks as
unplanned, as long as it has found nothing: the worst that somebody can do who wants a result.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from looks import IMAGES, figures

from coco1k_kd.data.groups import Groups
from coco1k_kd.verdict.compare import compare_figures, decide, has_effect
from coco1k_kd.verdict.entry import Entry
from coco1k_kd.verdict.looks import FIXED, Design, continued, sequential

SPREAD, OF_IMAGES = 0.005, 0.001  # of a difference: between units, and from the choice of images; AP fraction
MOST = 12  # units
_NONE = figures(0.4, np.zeros(IMAGES))


class Data:
    """Units of an arm without an effect. Those of draws that share a part `overlap` of their images are alike."""

    def __init__(self, rng: np.random.Generator, overlap: float = 0.0, spread: float = SPREAD) -> None:
        self.rng, self.overlap = rng, overlap
        common, own = rng.normal(), rng.normal(size=MOST)
        self.of_units = spread * (overlap**0.5 * common + (1 - overlap) ** 0.5 * own)
        self.images = rng.normal(0, OF_IMAGES / IMAGES**0.5, IMAGES)

    def entry(self, units: int, design: Design, family: int = 1, draws: bool = False, group: int = 1) -> Entry:
        """The verdict on the first `units`, each a draw with its seed or a seed."""
        keys = [(unit if draws else 0, unit) for unit in range(units)]
        runs = [figures(0.4 + self.images.sum() + one, self.images) for one in self.of_units[:units]]
        groups = Groups("made up", np.arange(IMAGES) // group, 0, ()) if group > 1 else None
        found = compare_figures(runs, [_NONE] * units, keys, False, groups, self.overlap if draws else 0.0)
        return decide([found], design, family=family)[0]


Looks = Iterator[Entry]  # the verdicts that somebody sees one after the other


def planned(data: Data, draws: bool = False) -> Looks:
    design = sequential()
    return (data.entry(look, design, draws=draws) for look in design.looks)


def more_units(data: Data, first: int, last: int, draws: bool = False) -> Looks:
    """A fixed list that grows by one as long as nothing is found."""
    yield data.entry(first, FIXED, draws=draws)
    for units in range(first + 1, last + 1):
        yield data.entry(units, continued((), range(first, units), units), draws=draws)


def more_looks(data: Data) -> Looks:
    yield from planned(data)
    yield data.entry(MOST, continued((3, 5, 8, MOST), (3, 5, 8), MOST))


def more_hours(data: Data) -> Looks:
    design = sequential()
    return (data.entry(units, design) for units in (2, 3, 4, 5, 6, 8))


def draws_after_seeds(data: Data) -> Looks:
    yield data.entry(3, FIXED)
    other = Data(data.rng)
    for units in (2, 3):
        yield other.entry(units, continued((), range(2, units), units), draws=True)


def other_judge(data: Data) -> Looks:
    yield data.entry(5, FIXED)
    data.images = data.rng.normal(0, OF_IMAGES / IMAGES**0.5, IMAGES)
    yield data.entry(5, FIXED)


def other_groups(data: Data) -> Looks:
    return (data.entry(5, FIXED, group=group) for group in (1, 5, 20))


def more_arms(data: Data) -> Looks:
    arms = [data, Data(data.rng), Data(data.rng)]
    return (arm.entry(5, FIXED, family=number) for number, arm in enumerate(arms, 1))


CASES: dict[str, tuple[Callable[[Data], Looks], float, float]] = {
    "`--draws auto`, no image in common": (partial(planned, draws=True), 0.0, SPREAD),
    "`--draws auto`, draws share 20%": (partial(planned, draws=True), 0.2, SPREAD),
    "`--draws auto`, draws share 60%": (partial(planned, draws=True), 0.6, SPREAD),
    "three draws that share 60%": (lambda data: iter([data.entry(3, FIXED, draws=True)]), 0.6, SPREAD),
    "seeds: 3, then one at a time to 8": (lambda data: more_units(data, 3, 8), 0.0, SPREAD),
    "draws: 2, then one at a time to 8": (lambda data: more_units(data, 2, 8, True), 0.0, SPREAD),
    "draws: one with 3 seeds, then 2, then 3": (draws_after_seeds, 0.0, SPREAD),
    "looks: 3 5 8, then 12": (more_looks, 0.0, SPREAD),
    "hours: end at 2, 4 and 6 seeds, looks at 3 5 8": (more_hours, 0.0, SPREAD),
    "judge: two sets of images": (other_judge, 0.0, SPREAD / 10),
    "groups: none, of 5, of 20": (other_groups, 0.0, SPREAD / 10),
    "arms: three, one at a time": (more_arms, 0.0, SPREAD),
}


def is_false(number: int, name: str) -> bool:
    """Whether one study of the case says at any time that there is a difference."""
    looks, overlap, spread = CASES[name]
    return any(has_effect(entry) for entry in looks(Data(np.random.default_rng([number, 7]), overlap, spread)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000, help="simulated studies a row")
    args = parser.parse_args()
    print("| what is done | false, % |\n|---|---|")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name in CASES:
            false = np.mean(list(pool.map(partial(is_false, name=name), range(args.studies), chunksize=50)))
            print(f"| {name} | {100 * false:.1f} |", flush=True)


if __name__ == "__main__":
    main()
