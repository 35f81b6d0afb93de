"""False verdicts of studies that change something after a verdict, and of draws that share images. Prints rows of a
Markdown table.

python benchmarks/changes.py --studies 20000

There is no true difference. As in `made_up.py` studies go through the product's own code from their figures on
(`estimate`, the designs of `verdict/looks.py`, `words_of`); here they also do what their report marks as unplanned, as
long as it has found nothing: the worst that somebody can do who wants a result.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations

import numpy as np
from made_up import IMAGES, chunks

from coco1k_kd.data.groups import Groups
from coco1k_kd.verdict.intervals import estimate, words_of
from coco1k_kd.verdict.looks import FIXED, Design, continued, sequential

SPREAD, OF_IMAGES = 0.005, 0.001  # of a difference: between units, and from the choice of images; AP fraction
MOST = 12  # units
Looks = Iterator[np.ndarray]  # (N,) the words that somebody sees in each study, one look after the other


class Data:
    """Units of an arm without an effect, in N studies. Those of draws that share a part `overlap` of their images are
    alike.
    """

    def __init__(self, rng: np.random.Generator, studies: int, overlap: float = 0.0, spread: float = SPREAD) -> None:
        self.rng, self.studies, self.overlap = rng, studies, overlap
        common, own = rng.normal(size=(studies, 1)), rng.normal(size=(studies, MOST))
        self.of_units = spread * (overlap**0.5 * common + (1 - overlap) ** 0.5 * own)
        self.images = self.other_images()

    def other_images(self) -> np.ndarray:
        """Each image's (N, I) part in the difference."""
        return self.rng.normal(0, OF_IMAGES / IMAGES**0.5, (self.studies, IMAGES))

    def other(self) -> Data:
        """The same study again, with other runs."""
        return Data(self.rng, self.studies)

    def says(self, units: int, design: Design, family: int = 1, draws: bool = False, group: int = 1) -> np.ndarray:
        """The verdicts on the first `units`, each a draw with its seed or a seed."""
        ap = self.of_units[:, :units] + self.images.sum(-1, keepdims=True)
        groups = Groups("made up", np.arange(IMAGES) // group, 0, ())
        influence = np.broadcast_to(groups.sums(self.images)[..., None], (self.studies, IMAGES // group, units))
        keys = range(units) if draws else [0] * units
        found = estimate(ap, influence, keys, IMAGES / group, self.overlap if draws else 0.0)
        return words_of(*found.interval(design.level_at(units, family)))


def planned(data: Data, draws: bool = False) -> Looks:
    design = sequential()
    return (data.says(look, design, draws=draws) for look in design.looks)


def more_units(data: Data, first: int, last: int, draws: bool = False) -> Looks:
    """A fixed list that grows by one as long as nothing is found."""
    yield data.says(first, FIXED, draws=draws)
    for units in range(first + 1, last + 1):
        yield data.says(units, continued((), range(first, units), units), draws=draws)


def more_looks(data: Data) -> Looks:
    yield from planned(data)
    yield data.says(MOST, continued((3, 5, 8, MOST), (3, 5, 8), MOST))


def more_hours(data: Data) -> Looks:
    design = sequential()
    return (data.says(units, design) for units in (2, 3, 4, 5, 6, 8))


def draws_after_seeds(data: Data) -> Looks:
    yield data.says(3, FIXED)
    other = data.other()
    for units in (2, 3):
        yield other.says(units, continued((), range(2, units), units), draws=True)


def other_judge(data: Data) -> Looks:
    yield data.says(5, FIXED)
    data.images = data.other_images()
    yield data.says(5, FIXED)


def other_groups(data: Data) -> Looks:
    return (data.says(5, FIXED, group=group) for group in (1, 5, 20))


def more_arms(data: Data) -> Looks:
    arms = [data, data.other(), data.other()]
    return (arm.says(5, FIXED, number) for number in range(1, len(arms) + 1) for arm in arms[:number])


def fewer_arms(data: Data) -> Looks:
    """Three arms, then any two of them, then any one."""
    arms = [data, data.other(), data.other()]
    return (arm.says(5, FIXED, number) for number in (3, 2, 1) for left in combinations(arms, number) for arm in left)


CASES: dict[str, tuple[Callable[[Data], Looks], float, float]] = {
    "planned: `--draws auto`, no image in common": (partial(planned, draws=True), 0.0, SPREAD),
    "planned: `--draws auto`, draws share 20%": (partial(planned, draws=True), 0.2, SPREAD),
    "planned: `--draws auto`, draws share 60%": (partial(planned, draws=True), 0.6, SPREAD),
    "planned: three draws that share 60%": (lambda data: iter([data.says(3, FIXED, draws=True)]), 0.6, SPREAD),
    "seeds: 3, then one at a time to 8": (lambda data: more_units(data, 3, 8), 0.0, SPREAD),
    "draws: 2, then one at a time to 8": (lambda data: more_units(data, 2, 8, True), 0.0, SPREAD),
    "draws: one with 3 seeds, then 2, then 3": (draws_after_seeds, 0.0, SPREAD),
    "looks: 3 5 8, then 12": (more_looks, 0.0, SPREAD),
    "hours: end at 2, 4 and 6 seeds, looks at 3 5 8": (more_hours, 0.0, SPREAD),
    "judge: two sets of images": (other_judge, 0.0, SPREAD / 10),
    "groups: none, of 5, of 20": (other_groups, 0.0, SPREAD / 10),
    "arms: added one at a time, to three": (more_arms, 0.0, SPREAD),
    "arms: dropped from three until one finds something": (fewer_arms, 0.0, SPREAD),
}


def false(name: str, part: int, studies: int) -> np.ndarray:
    """Whether each of (N,) studies of the case says at any time that there is a difference."""
    looks, overlap, spread = CASES[name]
    data = Data(np.random.default_rng([part, 7]), studies, overlap, spread)
    return np.any([np.isin(words, ("improves", "hurts")) for words in looks(data)], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies a row")
    args = parser.parse_args()
    sizes = chunks(args.studies)
    print("| **What changes after a verdict** | | | | |")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name in CASES:
            told = np.concatenate(list(pool.map(partial(false, name), range(len(sizes)), sizes)))
            print(f"| {name} | {100 * told.mean():.1f} | | | |", flush=True)


if __name__ == "__main__":
    main()
