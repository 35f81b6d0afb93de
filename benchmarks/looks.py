"""Prove a design by simulation: false verdicts, truths held, runs and power. Prints rows of a Markdown table.

python benchmarks/looks.py --studies 20000
python benchmarks/looks.py --arms 6 --effect 0.003 --standard-error 0.0007 --studies 20000 --seed 0 --json
python benchmarks/looks.py --cluster 10 --share 0.9 --studies 20000 --json

The rows are those of docs/statistics.md; `--json` prints one case. What is simulated, and how, says `made_up.py`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product

from made_up import STANDARD_ERROR, UNEQUAL, Case, means

from coco1k_kd.verdict.intervals import BAND, Estimate
from coco1k_kd.verdict.looks import LOOKS, sequential
from coco1k_kd.verdict.power import found

ARMS, ERRORS = (1, 2, 3, 4, 5, 6), (0.0003, 0.0007, 0.002, 0.003, 0.01)
FIXED_SEEDS = (5,)
IMAGES = 400.0
Row = tuple[str, Sequence[Case | None]]  # what it is; its cases: looks and five seeds, with equal and unequal spread


def kinds(case: Case) -> list[Case | None]:
    """The case with looks and with five seeds, each with arms that spread equally and unequally."""
    designs = (case, case._replace(looks=FIXED_SEEDS, fixed=True))
    cases = [one._replace(unequal=unequal) for one in designs for unequal in (False, True)]
    return [None if one.unequal and case.arms == 1 else one for one in cases]


def several_arms() -> Iterator[Row]:
    """All variance between seeds, which is the worst case, so that the number of images says nothing; at the band both
    signs.
    """
    for arms, error, truth in product(ARMS, ERRORS, (0.0, BAND)):
        told = f"{arms} arm{'s' * (arms > 1)}, SE {100 * error:g}, true {'±' * bool(truth)}{100 * truth:g}"
        yield told, kinds(Case(arms=arms, standard_error=error, truth=truth, images=50))


def images_share() -> Iterator[Row]:
    for share, truth, heavy in product((0.3, 0.6, 0.9), (0.0, BAND), (False, True)):
        told = f"3 arms, SE 0.2, true {'±' * bool(truth)}{100 * truth:g}, {share:.0%} from images"
        yield told + ", heavy tails" * heavy, kinds(Case(arms=3, share=share, truth=truth, heavy=heavy))


def groups() -> Iterator[Row]:
    for share, (uneven, grouped) in product((0.3, 0.9), ((False, True), (True, True), (False, False))):
        told = f"clusters of {'1 to 19' if uneven else '10'} images, {share:.0%} from images"
        told += "" if grouped else ", **without `--groups`**"
        yield told, kinds(Case(arms=3, share=share, cluster=10, uneven=uneven, grouped=grouped))


def futility() -> Iterator[Row]:
    for truth, on in product((0.0, BAND, 0.005, 0.01), (True, False)):
        case = Case(share=0.3, truth=truth, futility=on)
        yield f"1 arm, SE 0.2, true {100 * truth:g}, 30% from images, {'with' if on else 'without'}", [case]


BLOCKS = {
    "Several arms": several_arms,
    "Images and tails": images_share,
    "Images in groups (3 arms, SE 0.2, no effect)": groups,
    "Futility": futility,
}


def told(case: Case | None, studies: int, pool: ProcessPoolExecutor) -> str:
    """The cell of a case: false / truths held / runs; at the band the worse of both signs."""
    if case is None:
        return ""
    signs = (1, -1) if abs(case.truth) == BAND else (1,)
    ends = [means(case._replace(truth=sign * case.truth), studies, pool) for sign in signs]
    false, held = max(end.false for end in ends), min(end.held for end in ends)
    return f"{100 * false:.1f} / {100 * held:.1f} / {max(end.runs for end in ends):.1f}"


def power(studies: int, pool: ProcessPoolExecutor) -> None:
    """How many studies find the difference that `verdict/power.py` says they find with 80% probability."""
    for share, error in product((0.0, 0.3, 0.9), (STANDARD_ERROR, 5 * STANDARD_ERROR)):
        cells = []
        for looks, fixed in ((LOOKS, False), (FIXED_SEEDS, True)):
            units = looks[0]
            plan = Estimate(0.0, 1, units, IMAGES, share * error**2, 0.0, units * (1 - share) * error**2)
            case = Case(looks, fixed, 0.0, error, share)
            effect = found(plan, case.design, looks[-1])
            cells.append(f"{100 * effect:.2f}: {100 * means(case._replace(truth=effect), studies, pool).given:.1f}")
        print(f"| SE {100 * error:g}, {share:.0%} from images | {cells[0]} | | {cells[1]} | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies a cell")
    parser.add_argument("--json", action="store_true", help="print one case, which the other flags name, as JSON")
    parser.add_argument("--looks", type=int, nargs="+", default=list(LOOKS), help="numbers of seeds")
    parser.add_argument("--fixed", type=int, metavar="SEEDS", help="a fixed list of so many seeds in place of looks")
    parser.add_argument("--arms", type=int, default=1, help="arms that share the 5%%")
    parser.add_argument("--unequal", action="store_true", help=f"the last arm's seeds spread {UNEQUAL:g} times as far")
    parser.add_argument("--no-futility", action="store_true", help="go on where a verdict is hardly to be expected")
    parser.add_argument(
        "--standard-error", type=float, default=STANDARD_ERROR, help="of a difference at the first look, AP fraction"
    )
    parser.add_argument("--effect", type=float, default=0.0, help="true difference, AP fraction")
    parser.add_argument("--share", type=float, default=0.3, help="of the variance, that of the images")
    parser.add_argument("--heavy", action="store_true", help="seeds with heavy tails")
    parser.add_argument("--cluster", type=int, default=1, help="images of a video, which are alike")
    parser.add_argument("--uneven", action="store_true", help="with --cluster N: of 1 to 2N - 1 images")
    parser.add_argument("--ungrouped", action="store_true", help="the study does not know the clusters")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    args = parser.parse_args()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        if args.json:
            looks = (args.fixed,) if args.fixed else sequential(args.looks).looks
            figures = (args.effect, args.standard_error, args.share, args.heavy, args.arms, args.unequal)
            clusters = (args.cluster, args.uneven, not args.ungrouped)
            case = Case(looks, bool(args.fixed), *figures, not args.no_futility, *clusters)
            end = means(case, args.studies, pool, args.seed)
            print(json.dumps({"false": end.false, "held": end.held, "runs": end.runs}))
            return
        for name, rows in BLOCKS.items():
            print(f"| **{name}** | | | | |")
            for head, cases in rows():
                cells = [told(case, args.studies, pool) for case in cases]
                print(f"| {head} | {' | '.join(cells + [''] * (4 - len(cells)))} |", flush=True)
        print("| **Power** | | | | |")
        power(args.studies, pool)


if __name__ == "__main__":
    main()
