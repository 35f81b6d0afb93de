#!/usr/bin/env python3
"""Make a small data set of eight classes that COCO does not have, in YOLO format, from a COCO root.

    python benchmarks/merge_classes.py COCO OUT --train 600 --val 200 --test 800 --seed 0
    python benchmarks/merge_classes.py COCO OUT --train 300 --val 200 --test 800 --pool

Each class takes the boxes of several of COCO's; all others are left out, and so are crowds and images without a box.
Images are links to those of COCO. With --pool the other images lie in OUT/pool without labels, and pool.json has these.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.annotations import read
from coco1k_kd.data.subset import annotation_file
from coco1k_kd.files import write_json

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
        for name, boxes in annotations.label_rows().items():
            kept = [(index.get(annotations.names[int(label)]), *box) for label, *box in boxes.tolist()]
            if text := "".join("{} {:.6f} {:.6f} {:.6f} {:.6f}\n".format(*box) for box in kept if box[0] is not None):
                found.append(((root / f"{split}2017" / name).resolve(), text))
    return found


def write_pool(out: Path, found: list[tuple[Path, str]]) -> None:
    """The images as a folder, and their labels apart, as COCO annotations."""
    (out / "pool").mkdir()
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, (image, text) in enumerate(found, 1):
        (out / "pool" / image.name).symlink_to(image)
        with Image.open(image) as opened:
            width, height = opened.size
        images.append({"id": number, "file_name": image.name, "width": width, "height": height})
        for label, *box in np.array([line.split() for line in text.splitlines()], float).tolist():
            x, y, w, h = (side * size for side, size in zip(box, (width, height, width, height), strict=True))
            own = {"bbox": [x - w / 2, y - h / 2, w, h], "area": w * h, "iscrowd": 0, "category_id": int(label) + 1}
            boxes.append({"id": len(boxes) + 1, "image_id": number, **own})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    write_json(out / "pool.json", {"images": images, "annotations": boxes, "categories": categories})
    print(f"pool: {len(images):,} images, {len(boxes):,} boxes in {out / 'pool.json'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="COCO")
    parser.add_argument("out", type=Path, metavar="OUT")
    sizes = {"train": 600, "val": 200, "test": 800}
    for split, size in sizes.items():
        parser.add_argument(f"--{split}", type=int, default=size, help=f"images (default {size})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", type=int, default=0, help="train images beside these, of those that are left over")
    parser.add_argument("--pool", action="store_true", help="the other images as a folder without labels")
    args = parser.parse_args()
    found, begin = labelled(args.root), 0
    order = np.random.default_rng(args.seed).permutation(len(found)).tolist()
    asked = sum(getattr(args, split) for split in sizes)
    if asked + args.more > len(found):
        sys.exit(f"{args.root} has {len(found):,} images with a box of these classes: ask for fewer")
    for split in sizes:
        chosen = order[begin : (begin := begin + getattr(args, split))]
        chosen += order[asked : asked + args.more] if split == "train" else []  # val and test stay as they are
        images, labels = (args.out / kind / split for kind in ("images", "labels"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for image, text in (found[place] for place in chosen):
            (images / image.name).symlink_to(image)
            (labels / image.name).with_suffix(".txt").write_text(text)
        print(f"{split}: {len(chosen):,} images")
    if args.pool:
        write_pool(args.out, [found[place] for place in order[begin + args.more :]])
    content = {"path": str(args.out.resolve()), **{split: f"images/{split}" for split in sizes}}
    (args.out / "data.yaml").write_text(yaml.safe_dump({**content, "names": dict(enumerate(CLASSES))}, sort_keys=False))


if __name__ == "__main__":
    main()
