#!/usr/bin/env python3
"""Draw a small, even and natural subset of COCO: by default 1,500 train and 400 val images, into ./coco1k.

    python create_coco1k.py --coco-root /data/coco               # 10 seconds; images are hard links
    python create_coco1k.py --coco-root coco --download          # fetches the annotations and only the chosen images
    python create_coco1k.py --verify coco1k                      # is it still what it was?
    python create_coco1k.py --coco-root /data/coco --from-manifest coco1k/manifest.json --output-dir again

How images are chosen: docs/sampling.md
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np

from coco1k_kd.data import subset
from coco1k_kd.data.certify import certify
from coco1k_kd.data.manifest import read_manifest, table
from coco1k_kd.data.sampling import BALANCES, TOLERANCE, Pool, draw, drift
from coco1k_kd.data.verify import verify
from coco1k_kd.errors import UserError, run_cli


def parser() -> argparse.ArgumentParser:
    """Every flag of the program."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag = p.add_argument
    flag("--coco-root", type=Path, default=Path("coco"), metavar="DIR", help="folder of COCO 2017 (default: coco)")
    flag("--output-dir", type=Path, default=Path("coco1k"), metavar="DIR", help="what to write (default: coco1k)")
    flag = p.add_argument_group("what to draw").add_argument
    flag("--target-size", type=_at_least(1), default=1500, metavar="N", help="train images (default: 1500)")
    flag("--val-size", type=_at_least(1), default=400, metavar="N", help="val images (default: 400)")
    flag("--seed", type=_at_least(0), default=0, metavar="N", help="another seed, another draw (default: 0)")
    flag(
        "--balance",
        choices=BALANCES,
        default="context",
        help="context: every class but person in equally many images, scenes as in COCO (default); strict: person too",
    )
    flag("--from-manifest", type=Path, metavar="FILE", help="the images, seed and balance of an earlier subset")
    flag = p.add_argument_group("how to write it").add_argument
    flag(
        "--link",
        choices=subset.LINKS,
        default="hard",
        help="images are hard links (default; copies where there can be none), symlinks or copies",
    )
    flag("--no-images", action="store_true", help="write annotations, manifest and YAML only")
    flag("--download", action="store_true", help="fetch what is missing: annotations, 241 MB, and the chosen images")
    flag("--force", action="store_true", help="replace a subset; what this tool did not write stays")
    flag("--workers", type=_at_least(1), default=min(8, os.cpu_count() or 1), metavar="N", help="threads for images")
    flag = p.add_argument_group("checks").add_argument
    flag("--certify", action="store_true", help="say how far the draw is from the proven optimum (needs scipy)")
    flag("--verify", type=Path, metavar="DIR", help="only check a subset: name every fault, exit 2 if there is one")
    return p


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is no whole number of at least {least}")
        return int(text)

    return number


def context(pool: Pool, image_ids: np.ndarray, split: str) -> str:
    """Say how far the scenes are from the source's, and plainly where that is more than was aimed at."""
    far = drift(pool, image_ids)
    text = "from the source: person {person:+.1f}, classes per image {histogram:.1f}, box sizes {sizes:.1f} points"
    aimed = TOLERANCE[split] + 100 / len(image_ids)  # shares of few images come in coarse steps
    missed = max(abs(far["person"]), far["histogram"]) > aimed
    return text.format(**far) + (f" (context aims at {TOLERANCE[split]} at most)" if missed else "")


def create(args: argparse.Namespace) -> None:
    """Draw a subset and write it."""
    output = args.output_dir.resolve()
    subset.replaceable(output, args.force)  # says no before the work, not after it
    given = read_manifest(args.from_manifest) if args.from_manifest else None
    seed, balance = (given.seed, given.balance) if given else (args.seed, args.balance)
    if args.download:
        from coco1k_kd.data.download import fetch_annotations, fetch_images

        fetch_annotations(args.coco_root)
    drawn = []
    for split, size in (("train", args.target_size), ("val", args.val_size)):
        source = subset.read_source(args.coco_root, split)
        pool = Pool.of(source)
        drawing = (pool, size, seed, balance, TOLERANCE[split])
        image_ids = subset.listed(source, given, split) if given else draw(*drawing)
        print(f"{split}: {len(image_ids):,} of {len(source.image_ids):,} images; {context(pool, image_ids, split)}")
        if args.certify:
            print(f"{split}: {certify(pool, image_ids, balance, TOLERANCE[split])}")
        drawn.append(subset.take(source, pool, split, image_ids, balance))
    work = [] if args.no_images else [job for part in drawn for job in subset.jobs(part, args.coco_root)]
    if args.download:
        fetch_images([(job.entry.coco_url, job.source) for job in work if not job.source.is_file()], args.workers)
    subset.check_present(work)
    order = subset.Order(output, args.link, args.workers, args.force, seed, balance, given)
    link = subset.write(order, drawn, work)
    print(table({part.split: part.counts for part in drawn}))
    if work and link != args.link:
        print(f"images are copies: no hard links from {args.coco_root} to {output}")
    print(f"wrote {output}: train with data={output / subset.YAML}")


def main() -> None:
    """Parse, call, print."""
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` cleans up as Ctrl-C does
    if args.verify:
        faults = verify(args.verify)
        print(*faults, sep="\n", end="\n" if faults else "")
        if faults:
            again = f"--from-manifest {args.verify / 'manifest.json'} with another --output-dir"
            raise UserError(f"{args.verify} has {len(faults)} faults; make it again: {again}")
        print(f"{args.verify}: every file is what the manifest says")
        return
    create(args)


if __name__ == "__main__":
    run_cli(main)
