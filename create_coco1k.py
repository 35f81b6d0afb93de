#!/usr/bin/env python3
"""Draw a small, even and natural subset of COCO: by default 1,500 train and 400 val images, into ./coco1k.

    python create_coco1k.py --coco-root /data/coco               # 10 seconds; images are hard links
    python create_coco1k.py --coco-root coco --download          # fetches the annotations and only the chosen images
    python create_coco1k.py --verify coco1k                      # is it still what it was?
    python create_coco1k.py --coco-root /data/coco --from-manifest coco1k/manifest.json --output-dir again
    python create_coco1k.py --data my.yaml --target-size 500 --val-size all    # from your data in Ultralytics' format
    python create_coco1k.py --train-annotations a.json --train-images a --val-annotations b.json --val-images b

How images are chosen: docs/sampling.md
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from coco1k_kd.data import download, subset
from coco1k_kd.data.annotations import Annotations
from coco1k_kd.data.certify import certify
from coco1k_kd.data.dataset import Split
from coco1k_kd.data.manifest import SPLITS, YAML, Manifest, read_manifest, table
from coco1k_kd.data.outside import POOL, draw_pool, drawn_pool, pool_jobs, without_same
from coco1k_kd.data.placing import LINKS, Job, check_present
from coco1k_kd.data.replacing import put_right
from coco1k_kd.data.sampling import BALANCES, TOLERANCE, Pool, draw, drift
from coco1k_kd.data.source import from_files, from_root, from_yaml, is_official
from coco1k_kd.data.verify import verify
from coco1k_kd.errors import UserError, run_cli, visible
from coco1k_kd.flags import Parser


def parser() -> Parser:
    """Every flag of the program."""
    p = Parser(__doc__)
    flag = p.add_argument
    flag(
        "--coco-root",
        type=Path,
        default=Path("coco"),
        metavar="DIR",
        help="folder of COCO 2017, or of your own COCO files in a usual layout: annotations/instances_train.json, "
        "train.json, train/_annotations.coco.json (default: coco)",
    )
    flag("--output-dir", type=Path, default=Path("coco1k"), metavar="DIR", help="what to write (default: coco1k)")
    flag = p.add_argument_group("your own data").add_argument
    flag("--data", type=Path, metavar="YAML", help="draw from data in Ultralytics' format instead")
    flag("--run-download", action="store_true", help="where its images are missing, run the program in its download:")
    for split in SPLITS:
        flag(f"--{split}-annotations", type=Path, metavar="FILE", help=f"or from COCO files: the one of {split}")
        flag(f"--{split}-images", type=Path, metavar="DIR", help="the folder that its file names are relative to")
    flag = p.add_argument_group("what to draw").add_argument
    flag("--target-size", type=_size, default=1500, metavar="N|all", help="train images (default: 1500)")
    flag("--val-size", type=_size, default=400, metavar="N|all", help="val images (default: 400)")
    flag("--seed", type=_at_least(0), default=0, metavar="N", help="another seed, another draw (default: 0)")
    flag(
        "--balance",
        choices=BALANCES,
        default="context",
        help="context: every class but person in equally many images, scenes as in COCO (default); strict: person too",
    )
    flag(
        "--pool",
        type=_pool,
        metavar="N|rest",
        help="also so many train images beside the subset, or all, without labels, drawn blind to classes: for a "
        "study's --unlabelled",
    )
    flag("--from-manifest", type=Path, metavar="FILE", help="the images, seed and balance of an earlier subset")
    flag = p.add_argument_group("how to write it").add_argument
    flag(
        "--link",
        choices=LINKS,
        default="hard",
        help="images are hard links (default; copies where there can be none), symlinks or copies",
    )
    flag("--no-images", action="store_true", help="write annotations, manifest and YAML only")
    flag("--download", action="store_true", help="fetch what is missing: annotations, 241 MB, and the chosen images")
    flag(
        "--judge",
        choices=("full",),
        help="have all val images of the source at hand, for a study to be judged by: with --download COCO's 5,000, "
        "0.8 GB",
    )
    flag("--force", action="store_true", help="replace a subset; what this tool did not write stays")
    flag(
        "--workers",
        type=_at_least(1),
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="threads for images (default: as many as cores, 8 at most)",
    )
    flag = p.add_argument_group("checks").add_argument
    flag("--certify", action="store_true", help="say how far the draw is from the proven optimum")
    flag("--verify", type=Path, metavar="DIR", help="only check a subset: name every fault, exit 2 if there is one")
    return p


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
        return int(text)

    return number


def _size(text: str) -> int | None:
    return None if text == "all" else _at_least(1)(text)


def _pool(text: str) -> int | Literal["rest"]:
    return text if text == "rest" else _at_least(1)(text)


def sources(args: argparse.Namespace) -> dict[str, Split]:
    """Where each split is drawn from. UserError for flags that do not go together."""
    files = {split: (getattr(args, f"{split}_annotations"), getattr(args, f"{split}_images")) for split in SPLITS}
    given = [flag for pair in files.values() for flag in pair if flag]
    if given and args.data:
        raise UserError("--data and --train-annotations name two sources: give one of them")
    if (given or args.data) and args.download:
        raise UserError("--download fetches COCO: leave it out for your own data")
    if args.data:
        return from_yaml(args.data, args.run_download)
    if given and len(given) < 4:
        raise UserError("own COCO files need --train-annotations, --train-images, --val-annotations and --val-images")
    if given:
        return {split: from_files(*files[split]) for split in SPLITS}
    if args.download:
        download.fetch_annotations(args.coco_root)
    return {split: from_root(args.coco_root, split) for split in SPLITS}


def choose(source: Annotations, pool: Pool, split: str, size: int | None, seed: int, balance: str) -> np.ndarray:
    """Ids of the images to take: all, or a draw. UserError when there are fewer, or no box."""
    if source.lack:
        raise UserError(source.lack)
    if size is None:
        return source.image_ids[source.usable]
    if size > len(pool.ids):
        flag = {"train": "--target-size", "val": "--val-size"}[split]
        raise UserError(f"{flag} {size}: only {len(pool.ids)} images of {split} have a valid box; ask for fewer or all")
    return draw(pool, size, seed, balance, TOLERANCE[split])


def pool_ids(
    asked: int | Literal["rest"] | None, source: Annotations, taken: list[int], seed: int, given: Manifest | None
) -> np.ndarray | None:
    """Ids of the pool that is asked for, or that a given manifest has; None where there is to be none."""
    if given and given.pool:
        return np.array(given.pool.image_ids, np.int64)
    return draw_pool(source, taken, None if asked == "rest" else asked, seed) if asked else None


def context(pool: Pool, image_ids: np.ndarray, split: str) -> str:
    """Say how far the scenes are from the source's, and plainly where that is more than was aimed at."""
    far = drift(pool, image_ids)
    person = "" if pool.person is None else "person {person:+.1f}, "
    text = f"from the source: {person}classes per image {{histogram:.1f}}, box sizes {{sizes:.1f}} points"
    aimed = TOLERANCE[split] + 100 / len(image_ids)  # shares of few images come in coarse steps
    missed = max(abs(far["person"]), far["histogram"]) > aimed
    return text.format(**far) + (f" (context aims at {TOLERANCE[split]} at most)" if missed else "")


def left_out(source: Annotations, split: str) -> list[str]:
    """Say which annotations and images of the source are not used."""
    crowds, empty = int(source.crowd.sum()), int(((source.box[:, 2:] == 0).any(axis=1) & ~source.crowd).sum())
    lines = [f"{split}: {crowds:,} crowd regions (iscrowd 1) are left out of the labels"] * (crowds > 0)
    lines += [f"{split}: {empty:,} boxes without width or height are left out of the labels"] * (empty > 0)
    return lines + [f"{split}: an image is not used: {why}" for why in source.unusable.values()]


def show(lines: Iterable[str]) -> None:
    """Print lines, if there are any."""
    for line in lines:
        print(visible(line))


def create(args: argparse.Namespace) -> None:
    """Draw a subset and write it."""
    output = args.output_dir.resolve()
    show(f"note: {text}" for text in put_right(output))
    subset.replaceable(output, args.force)  # says no before the work, not after it
    given = read_manifest(args.from_manifest) if args.from_manifest else None
    seed, balance = (given.seed, given.balance) if given else (args.seed, args.balance)
    found, drawn = sources(args), []
    for split, size in (("train", args.target_size), ("val", args.val_size)):
        source = found[split].content
        pool = Pool.of(source)
        listed = subset.listed(source, given, split) if given else None
        image_ids = choose(source, pool, split, size, seed, balance) if listed is None else listed
        show(left_out(source, split))
        print(f"{split}: {len(image_ids):,} of {len(source.image_ids):,} images; {context(pool, image_ids, split)}")
        if args.certify:
            print(f"{split}: {certify(pool, image_ids, balance, TOLERANCE[split])}")
        drawn.append(subset.take(source, pool, split, image_ids, balance))
    own: list[Job] = []
    if not args.no_images:
        own = [job for part in drawn for job in subset.split_jobs(part, found[part.split].images)]
    outside = pool_ids(args.pool, found["train"].content, drawn[0].counts.image_ids, seed, given)
    of_pool = [] if outside is None else pool_jobs(found["train"].content, outside, found["train"].images)
    work = own + ([] if args.no_images else of_pool)
    needed = {job.source: job.entry.coco_url for job in work}
    if args.judge:
        needed |= {found["val"].images / image.name: image.coco_url for image in found["val"].content.images()}
    if args.download:
        download.fetch_images([(url, path) for path, url in needed.items() if not path.is_file()], args.workers)
    check_present(work, is_official(found["train"]) and not args.train_annotations)
    if missing := [path for path in needed if not path.is_file()]:
        raise UserError(
            f"--judge full: {len(missing):,} val images are missing (the first: {missing[0]}); add --download"
        )
    if work and not given:
        val = (found["val"].images / image.name for image in found["val"].content.images())
        of_pool, same = without_same(of_pool, [*(job.source for job in own), *val])
        work = own + of_pool
        show(same)
    further = None if outside is None else drawn_pool(found["train"].content, of_pool)
    place = None if args.train_annotations else (args.data or args.coco_root).resolve()
    order = subset.Order(output, args.link, args.workers, args.force, seed, balance, given, place)
    written = subset.write(order, drawn, work, further)
    print(table({part.split: part.counts for part in drawn}))
    copies, cut = (sum(getattr(image, what) for image in written.images) for what in ("copied", "cut"))
    if copies > cut and args.link != "copy":
        print(f"{copies - cut:,} of {len(work):,} images are copies, since no hard links could be made")
    if cut:
        print(f"{cut:,} JPEGs had bytes after their end marker, which Ultralytics does not accept: cut from the copies")
    show(f"warning: {text}" for text in written.warnings)
    if further:
        print(f"pool: {len(further.image_ids):,} images without labels, in {output / 'images' / f'{POOL}2017'}")
    print(f"wrote {output}: train with data={output / YAML}")


def main() -> None:
    """Parse, call, print."""
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` cleans up as Ctrl-C does
    if args.verify:
        faults = verify(args.verify)
        show(faults)
        if faults:
            again = f"--from-manifest {args.verify / 'manifest.json'} with another --output-dir"
            raise UserError(f"{args.verify} has {len(faults)} faults; make it again: {again}")
        print(f"{args.verify}: every file is what the manifest says")
        return
    create(args)


if __name__ == "__main__":
    run_cli(main)
