"""Prove a group-sequential design by simulation: false verdicts and coverage at stopping. Prints Markdown tables.

python benchmarks/looks.py --studies 2000
python benchmarks/looks.py --studies 2000 --looks 2 4 6 8

Every study takes the whole path of a real one from its figures on: influences of the images and runs' AP go through
`compare_figures`, `decide` and `settled`, look by look, and it stops where the study would. Made up are the figures:
normal shares of 400 images, and seeds that are normal or heavy-tailed (Student's t with 3 degrees of freedom).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import structs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.verdict.compare import compare_figures, decide
from coco1k_kd.verdict.entry import Entry
from coco1k_kd.verdict.intervals import BAND
from coco1k_kd.verdict.looks import LOOKS, Design, sequential, settled
from coco1k_kd.verdict.matching import Figures

IMAGES = 400
STANDARD_ERROR = 0.002  # of the difference at the first look: 0.2 AP points
SHARES = (0.0, 0.3, 0.6, 0.9)  # of its variance that comes from the images
TRUTHS = (0.0, 0.003, -0.003, 0.01)
_SHOWN = np.ones((1, 1, IMAGES), bool)


class Ended(NamedTuple):
    """How one simulated study ended: seeds, and of its arms whether a verdict is false or given, and the truth held."""

    seeds: int
    false: bool
    given: bool
    held: bool


def figures(ap: float, influence: np.ndarray) -> Figures:
    """A run of one class, one box size and one threshold."""
    shares = influence[None, None].astype(np.float32)
    return Figures(["class"], np.full((1, 1, 1), ap), shares, shares[0], _SHOWN)


def is_false(entry: Entry, truth: float) -> bool:
    """`no_difference` counts as false from the band's edge on."""
    return {
        "improves": truth <= 0,
        "hurts": truth >= 0,
        "no_difference": abs(truth) >= BAND,
        "inconclusive": False,
    }[entry.verdict]


def study(number: int, design: Design, truth: float, share: float, heavy: bool, arms: int = 1) -> Ended:
    """One study of `arms` arms against a baseline; settled arms run no further."""
    rng = np.random.default_rng([number, arms, heavy, round(100 * share), round(1000 * (truth + 1))])
    most = design.looks[-1]
    variance = STANDARD_ERROR**2
    of_seeds = (design.looks[0] * (1 - share) * variance / 2) ** 0.5  # of each arm; a difference has two
    seeds = of_seeds * (rng.standard_t(3, (1 + arms, most)) / 3**0.5 if heavy else rng.normal(size=(1 + arms, most)))
    of_images = (max(share, 1e-9) * variance / 2 / IMAGES) ** 0.5  # not 0: images that never differ decide nothing
    images = rng.normal(0, of_images, (1 + arms, IMAGES))
    effects = np.r_[0.0, np.full(arms, truth)]
    runs = [
        [figures(0.4 + effects[a] + images[a].sum() + seed, images[a]) for seed in seeds[a]] for a in range(1 + arms)
    ]
    compared: dict[int, Entry] = {}
    for look in design.looks:
        keys = [(0, seed) for seed in range(look)]
        for arm in range(arms):
            if arm not in compared or not settled(compared[arm]):
                entry = compare_figures(runs[1 + arm][:look], runs[0][:look], keys, in_parts=False)
                compared[arm] = structs.replace(entry, arm=f"arm {arm}", against="baseline")
        compared = dict(enumerate(decide(list(compared.values()), design)))
        if all(settled(entry) for entry in compared.values()):
            break
    entries = list(compared.values())
    return Ended(
        look,
        any(is_false(entry, truth) for entry in entries),
        any(settled(entry) for entry in entries),
        all(entry.d_ap.ci[0] <= truth <= entry.d_ap.ci[1] for entry in entries),
    )


def table(design: Design, studies: int, arms: int, truths: Sequence[float]) -> None:
    """Print a row for each share of the images, true difference and kind of seeds."""
    print(
        "| images' share | true difference | seeds | false, % | truth in the interval, % | settled, % | seeds used |\n"
        "|---|---|---|---|---|---|---|"
    )
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for share in SHARES:
            for truth in truths:
                for heavy in (False, True):
                    one = partial(study, design=design, truth=truth, share=share, heavy=heavy, arms=arms)
                    ends = list(pool.map(one, range(studies), chunksize=50))
                    seeds, false, given, held = np.mean(ends, axis=0) * (1, 100, 100, 100)
                    head = f"| {share} | {100 * truth:+.1f} | {'heavy' if heavy else 'normal'}"
                    print(f"{head} | {false:.1f} | {held:.1f} | {given:.0f} | {seeds:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies a row")
    parser.add_argument("--looks", type=int, nargs="+", default=LOOKS, help="numbers of seeds")
    parser.add_argument("--arms", type=int, default=1, help="arms that share the 5%%")
    args = parser.parse_args()
    design = sequential(args.looks)
    levels = ", ".join(f"{100 * level:.2f}%" for level in design.levels)
    looks = ", ".join(map(str, design.looks))
    print(f"Looks at {looks} seeds, levels {levels}; {args.arms} arm(s); {args.studies} studies a row.\n")
    table(design, args.studies, args.arms, TRUTHS if args.arms == 1 else TRUTHS[:1])


if __name__ == "__main__":
    main()
