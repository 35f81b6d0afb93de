#!/usr/bin/env python3
"""Make a small data set of eight classes that COCO does not have, in YOLO format, from a COCO root.

    python benchmarks/merge_classes.py COCO OUT --train 600 --val 200 --test 800 --seed 0

Each class takes the boxes of several of COCO's; all others are left out, and so are crowds and images without a box.
Images are links to those of COCO.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.annotations import read
from coco1k_kd.data.subset import annotation_file

CLASSES = {
    "vehicle": ("car", "bus", "truck", "train", "boat", "airplane"),
    "two-wheeler": ("bicycle", "motorcycle"),
    "pet": ("cat", "dog"),
    "hoofed animal": ("horse", "sheep", "cow", "zebra", "giraffe", "elephant"),
    "seat": ("chair", "couch", "bench"),
    "drinkware": ("bottle", "wine glass", "cup"),
    "screen": ("tv", "laptop", "cell phone"),
    "sports gear": ("frisbee", "skis", "snowboard", "sports ball", "baseball bat", "skateboard", "tennis racket"),
}


def labelled(root: Path) -> list[tuple[Path, str]]:
    """Every image of a COCO root that has a box of the new classes, with the text of its label file."""
    found = []
    index = {name: number for number, names in enumerate(CLASSES.values()) for name in names}
    for split in ("train", "val"):
        annotations = read(annotation_file(root, split))
        rows, starts = annotations.label_rows()
        for position, image in enumerate(annotations.images()):
            boxes = rows[starts[position] : starts[position + 1]].tolist()
            kept = [(index.get(annotations.names[int(label)]), *box) for label, *box in boxes]
            if text := "".join("{} {:.6f} {:.6f} {:.6f} {:.6f}\n".format(*box) for box in kept if box[0] is not None):
                found.append(((root / f"{split}2017" / image.name).resolve(), text))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="COCO")
    parser.add_argument("out", type=Path, metavar="OUT")
    sizes = {"train": 600, "val": 200, "test": 800}
    for split, size in sizes.items():
        parser.add_argument(f"--{split}", type=int, default=size, help=f"images (default {size})")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found, begin = labelled(args.root), 0
    order = np.random.default_rng(args.seed).permutation(len(found)).tolist()
    if sum(getattr(args, split) for split in sizes) > len(found):
        sys.exit(f"{args.root} has {len(found):,} images with a box of these classes: ask for fewer")
    for split in sizes:
        chosen = order[begin : (begin := begin + getattr(args, split))]
        images, labels = (args.out / kind / split for kind in ("images", "labels"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for image, text in (found[place] for place in chosen):
            (images / image.name).symlink_to(image)
            (labels / image.name).with_suffix(".txt").write_text(text)
        print(f"{split}: {len(chosen):,} images")
    content = {"path": str(args.out.resolve()), **{split: f"images/{split}" for split in sizes}}
    (args.out / "data.yaml").write_text(yaml.safe_dump({**content, "names": dict(enumerate(CLASSES))}, sort_keys=False))


if __name__ == "__main__":
    main()
