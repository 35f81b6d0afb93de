"""Prove a design by simulation: false verdicts and coverage at stopping. Prints Markdown tables, or JSON of one case.

python benchmarks/looks.py --studies 2000
python benchmarks/looks.py --studies 2000 --looks 2 4 6 8
python benchmarks/looks.py --grid --studies 1000
python benchmarks/looks.py --power --studies 1000
python benchmarks/looks.py --cluster 10 --share 0.9 --studies 2000 --json
python benchmarks/looks.py --arms 6 --effect 0.003 --standard-error 0.0007 --studies 2000 --seed 0 --json

Every study takes the whole path of a real one from its figures on: influences of the images and runs' AP go through
`compare_figures`, `decide` and `settled`, look by look, and it stops where the study would. Made up are the figures:
normal shares of 400 images, and seeds that are normal or heavy-tailed (Student's t with 3 degrees of freedom).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import structs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.groups import Groups
from coco1k_kd.verdict.compare import compare_figures, decide
from coco1k_kd.verdict.entry import Entry
from coco1k_kd.verdict.futility import futile
from coco1k_kd.verdict.intervals import BAND, Estimate
from coco1k_kd.verdict.looks import FIXED, LOOKS, Design, sequential, settled
from coco1k_kd.verdict.matching import Figures
from coco1k_kd.verdict.power import found

IMAGES = 400
STANDARD_ERROR = 0.002  # of the difference at the first look: 0.2 AP points
UNEQUAL = 4.0  # spread of the last arm's seeds over that of the first, in geometric steps
SHARES = (0.0, 0.3, 0.6, 0.9)  # of its variance that comes from the images
TRUTHS = (0.0, 0.003, -0.003, 0.01)
GRID_ARMS, GRID_ERRORS = (1, 3, 6), (0.0003, 0.0007, 0.003, 0.01)
ALIKE = 1 / 3  # correlation of the images of a cluster: ten of them say as much as two and a half others
_SHOWN = np.ones((1, 1, IMAGES), bool)


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


class Ended(NamedTuple):
    """How a study ended: whether a verdict is false or given, and whether all intervals hold the truth."""

    seeds: int
    false: bool
    given: bool
    held: bool
    runs: int


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


def study(number: int, case: Case, seed: int = 0) -> Ended:
    """One study of the case; settled arms run no further."""
    rng = np.random.default_rng([number, seed, case.arms, case.heavy, round(100 * case.share)])
    arms, most = case.arms, case.looks[-1]
    variance = case.standard_error**2
    spreads = np.r_[1.0, np.geomspace(1, UNEQUAL, arms) if case.unequal and arms > 1 else np.ones(arms)]
    of_seeds = (case.looks[0] * (1 - case.share) * variance / 2) ** 0.5 * spreads[:, None]  # a difference has two arms
    drawn = rng.standard_t(3, (1 + arms, most)) / 3**0.5 if case.heavy else rng.normal(size=(1 + arms, most))
    seeds = of_seeds * drawn
    of_images = (max(case.share, 1e-9) * variance / 2 / IMAGES) ** 0.5  # not 0: then no image would decide anything
    images = rng.normal(0, of_images, (1 + arms, IMAGES))
    groups = None
    if case.cluster > 1:
        sizes = rng.integers(1, 2 * case.cluster, IMAGES) if case.uneven else np.full(IMAGES, case.cluster)
        number = np.repeat(np.arange(IMAGES), sizes)[:IMAGES]
        of_cluster = rng.normal(0, of_images, (1 + arms, number[-1] + 1))[:, number]
        as_many = (np.bincount(number) ** 2).sum() / IMAGES  # images that an image's cluster has, on average
        images = (images * (1 - ALIKE) ** 0.5 + of_cluster * ALIKE**0.5) / (1 + (as_many - 1) * ALIKE) ** 0.5
        groups = Groups("made up", number, 0, ()) if case.grouped else None
    effects = np.r_[0.0, np.full(arms, case.truth)]
    runs = [[figures(0.4 + effects[a] + images[a].sum() + one, images[a]) for one in seeds[a]] for a in range(1 + arms)]
    design = FIXED if case.fixed else sequential(case.looks)
    compared: dict[int, Entry] = {}
    ended: set[int] = set()
    done = 0
    for look in case.looks:
        keys = [(0, seed) for seed in range(look)]
        open_arms = [arm for arm in range(arms) if arm not in ended]
        done += (1 + len(open_arms)) * (look - max((len(entry.seeds) for entry in compared.values()), default=0))
        for arm in open_arms:
            entry = compare_figures(runs[1 + arm][:look], runs[0][:look], keys, in_parts=False, groups=groups)
            compared[arm] = structs.replace(entry, arm=f"arm {arm}", against="baseline")
        compared = dict(zip(compared, decide(list(compared.values()), design), strict=True))
        ended |= {arm for arm, entry in compared.items() if settled(entry)}
        if case.futility:
            ended |= {arm for arm, entry in compared.items() if futile(entry, design)}
        if len(ended) == arms:
            break
    entries = list(compared.values())
    return Ended(
        look,
        any(is_false(entry, case.truth) for entry in entries),
        any(settled(entry) for entry in entries),
        all(entry.d_ap.interval[0] <= case.truth <= entry.d_ap.interval[1] for entry in entries),
        done,
    )


def ends_of(case: Case, studies: int, pool: ProcessPoolExecutor, seed: int = 0) -> np.ndarray:
    """Means of the fields of `Ended` over so many studies."""
    return np.mean(list(pool.map(partial(study, case=case, seed=seed), range(studies), chunksize=25)), axis=0)


def table(case: Case, studies: int, truths: Sequence[float]) -> None:
    """Print a row for each share of the images, true difference and kind of seeds."""
    print(
        "| images' share | true difference | seeds | false, % | truth in all intervals, % | settled, % | seeds used |\n"
        "|---|---|---|---|---|---|---|"
    )
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for share in SHARES:
            for truth in truths:
                for heavy in (False, True):
                    row = case._replace(share=share, truth=truth, heavy=heavy)
                    seeds, false, given, held, _ = ends_of(row, studies, pool) * (1, 100, 100, 100, 1)
                    head = f"| {share} | {100 * truth:+.1f} | {'heavy' if heavy else 'normal'}"
                    print(f"{head} | {false:.1f} | {held:.1f} | {given:.0f} | {seeds:.1f} |", flush=True)


def power(studies: int) -> None:
    """Print how many studies find the difference that `verdict/power.py` says they find with 80% probability."""
    print("| design | images' share | standard error | difference | found, % |\n|---|---|---|---|---|")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for looks, share, error in product((LOOKS, (5,)), (0.0, 0.3, 0.9), (STANDARD_ERROR, 5 * STANDARD_ERROR)):
            fixed, units = len(looks) == 1, looks[0]
            of_units = units * (1 - share) * error**2
            plan = Estimate(0.0, 1, units, IMAGES, share * error**2, 0.0, of_units)
            effect = found(plan, FIXED if fixed else sequential(looks), looks[-1])
            case = Case(looks, fixed, effect, error, share)
            head = f"| {' '.join(map(str, looks))} | {share} | {100 * error:g} | {100 * effect:.2f}"
            print(f"{head} | {100 * ends_of(case, studies, pool)[2]:.1f} |", flush=True)


def grid(studies: int, futility: bool) -> None:
    """Print a row for each number of arms, standard error and true difference; designs and spreads side by side."""
    designs = {"looks": Case(futility=futility), "five seeds": Case((5,), True)}
    kinds = [(name, unequal) for name in designs for unequal in (False, True)]
    head = " | ".join(f"{name}, {'unequal' if unequal else 'equal'}" for name, unequal in kinds)
    print(f"| arms | standard error | true difference | images' share | {head} |\n|{'---|' * (4 + len(kinds))}")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for arms, error, truth, share in product(GRID_ARMS, GRID_ERRORS, TRUTHS[:2], (0.0, 0.6)):
            cells = []
            for name, unequal in kinds:
                case = designs[name]._replace(
                    arms=arms, standard_error=error, truth=truth, share=share, unequal=unequal
                )
                ends = ends_of(case, studies, pool)
                cells.append(f"{100 * ends[1]:.1f} / {100 * ends[3]:.1f} / {ends[4]:.1f}")
            print(f"| {arms} | {100 * error:g} | {100 * truth:+.1f} | {share} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies a row")
    parser.add_argument("--looks", type=int, nargs="+", default=list(LOOKS), help="numbers of seeds")
    parser.add_argument("--fixed", type=int, metavar="SEEDS", help="a fixed list of so many seeds in place of looks")
    parser.add_argument("--arms", type=int, default=1, help="arms that share the 5%%")
    parser.add_argument("--unequal", action="store_true", help=f"the last arm's seeds spread {UNEQUAL:g} times as far")
    parser.add_argument("--no-futility", action="store_true", help="go on where a verdict is hardly to be expected")
    parser.add_argument(
        "--standard-error", type=float, default=STANDARD_ERROR, help="of a difference at the first look, AP fraction"
    )
    parser.add_argument("--json", action="store_true", help="print one case as JSON in place of the tables")
    parser.add_argument("--effect", type=float, default=0.0, help="with --json: true difference, AP fraction")
    parser.add_argument("--share", type=float, default=0.3, help="with --json: of the variance, that of the images")
    parser.add_argument("--heavy", action="store_true", help="with --json: seeds with heavy tails")
    parser.add_argument("--cluster", type=int, default=1, help="with --json: images of a video, which are alike")
    parser.add_argument("--uneven", action="store_true", help="with --cluster N: of 1 to 2N - 1 images")
    parser.add_argument("--ungrouped", action="store_true", help="with --json: the study does not know the clusters")
    parser.add_argument("--seed", type=int, default=0, help="with --json: of the simulation")
    parser.add_argument("--grid", action="store_true", help="false / truth in all intervals / runs for 1 to 6 arms")
    parser.add_argument("--power", action="store_true", help="whether 80%% of studies find what is said that they find")
    args = parser.parse_args()
    if args.grid:
        grid(args.studies, not args.no_futility)
        return
    if args.power:
        power(args.studies)
        return
    looks = (args.fixed,) if args.fixed else sequential(args.looks).looks
    figures_of_case = (args.effect, args.standard_error, args.share, args.heavy, args.arms, args.unequal)
    clusters = (args.cluster, args.uneven, not args.ungrouped)
    case = Case(looks, bool(args.fixed), *figures_of_case, not args.no_futility, *clusters)
    if args.json:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            _, false, _, held, runs = ends_of(case, args.studies, pool, args.seed)
        print(json.dumps({"false": float(false), "held": float(held), "runs": float(runs)}))
        return
    design = FIXED if args.fixed else Design(looks)
    levels = ", ".join(f"{100 * design.level_at(look):.2f}%" for look in looks)
    print(f"Looks at {', '.join(map(str, looks))} seeds, levels {levels}; {args.arms} arm(s); {args.studies} a row.\n")
    table(case, args.studies, TRUTHS if args.arms == 1 else TRUTHS[:3])


if __name__ == "__main__":
    main()
