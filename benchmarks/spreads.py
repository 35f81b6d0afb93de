"""How far differences in AP spread from seed to seed, and from image to image, in studies that are done.

python benchmarks/spreads.py STUDY/comparison_*.json
python benchmarks/spreads.py --half-widths 5:440:0.64 5:1600:0.51 5:4600:0.47

These are the two figures that `coco1k_kd/verdict/power.py` starts from before a study knows its own (`PRIOR_UNIT`,
`PRIOR_IMAGE`). The first form prints them for every comparison of those files, and their medians; the second fits them
to plain half-widths in AP points, each with its seeds and images, where nothing else is left of a study.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

import numpy as np
from scipy.optimize import least_squares

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.report.comparison import read_comparison
from coco1k_kd.verdict.intervals import Estimate
from coco1k_kd.verdict.power import PRIOR_IMAGE, PRIOR_UNIT, prior


def of_studies(files: list[Path]) -> None:
    """Print both spreads of every comparison that has several seeds, and their medians."""
    print("| study | comparison | seeds | images | between seeds, AP | of an image, AP |\n|---|---|---|---|---|---|")
    found = []
    for file in files:
        for entry in read_comparison(file).comparisons:
            if entry.units < 2 or entry.d_ap.components is None:
                continue
            seen = Estimate.of(entry, entry.d_ap)
            unit = max(seen.spread - seen.single, 0.0) ** 0.5
            image = ((seen.shared + seen.single) * seen.images) ** 0.5
            found.append((unit, image))
            head = f"| {file.stem} | {entry.arm} - {entry.against} | {entry.units} | {entry.images}"
            print(f"{head} | {100 * unit:.2f} | {100 * image:.1f} |")
    if found:
        print(f"| median | | | | {' | '.join(f'{100 * median(each):.2f}' for each in zip(*found, strict=True))} |")


def of_half_widths(given: list[str]) -> None:
    """Print the two spreads whose plain half-widths come nearest to the given ones, in AP points."""
    seeds, images, widths = np.array([[float(part) for part in one.split(":")] for one in given]).T

    def misses(spreads: np.ndarray) -> list[float]:
        unit, image = spreads
        plans = [Estimate(0.0, 1, int(s), i, image**2 / i, 0.0, unit**2) for s, i in zip(seeds, images, strict=True)]
        return [plan.half_width() - width for plan, width in zip(plans, widths, strict=True)]

    unit, image = least_squares(misses, (0.3, 3.0)).x
    ours = [100 * prior(i, int(s)).half_width() for s, i in zip(seeds, images, strict=True)]
    print(f"between seeds {abs(unit):.2f} AP, of an image {abs(image):.1f} AP")
    print(f"in use: {100 * PRIOR_UNIT:.2f} and {100 * PRIOR_IMAGE:.1f}: {', '.join(f'{width:.2f}' for width in ours)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="comparison_*.json of studies")
    parser.add_argument("--half-widths", nargs="+", metavar="SEEDS:IMAGES:AP", help="in place of files")
    args = parser.parse_args()
    of_half_widths(args.half_widths) if args.half_widths else of_studies(args.files)


if __name__ == "__main__":
    main()
