#!/usr/bin/env python3
"""Pool both splits of a COCO root and split them anew at random, so that a small root has many val images to judge.

    python benchmarks/resplit.py COCO OUT --val 1150 --seed 2
    python benchmarks/resplit.py COCO OUT --val 1150 --seed 2 --pixels 256

Writes OUT in COCO's layout: images are links to those of COCO, ids are new, and annotations stay as they are. With
--pixels they are copies whose long side is that, with their boxes and without outlines: a study at 192 px on two cores
would else spend half of its time on decoding pixels that it then throws away.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.files import write_json

SPLITS = ("train", "val")


def shrink(source: Path, target: Path, image: dict[str, Any], pixels: int) -> float:
    """Write a copy whose long side is `pixels`, put its size into `image`, and return the scale."""
    scale = pixels / max(image["width"], image["height"])
    image["width"], image["height"] = (max(round(image[side] * scale), 1) for side in ("width", "height"))
    copy = cv2.resize(cv2.imread(str(source)), (image["width"], image["height"]), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(target), copy, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return scale


def scaled(annotation: dict[str, Any], scale: float) -> dict[str, Any]:
    """An annotation in another size of its image; outlines are left out."""
    kept = {key: value for key, value in annotation.items() if key != "segmentation"}
    return kept | {"bbox": [scale * side for side in kept["bbox"]], "area": scale**2 * kept["area"]}


def resplit(
    root: Path, out: Path, val: int, seed: int, pixels: int | None = None, train: int | None = None, holes: float = 0
) -> None:
    """Write `out` with `val` of all images of `root` for validation, and the rest, or `train` of it, for training."""
    dropped = np.random.default_rng([seed, 1])
    documents = {split: json.loads((root / f"annotations/instances_{split}2017.json").read_bytes()) for split in SPLITS}
    images = [(split, image) for split in SPLITS for image in documents[split]["images"]]
    boxes: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for split in SPLITS:
        for annotation in documents[split]["annotations"]:
            boxes.setdefault((split, annotation["image_id"]), []).append(annotation)
    order = np.random.default_rng(seed).permutation(len(images))
    for name, chosen in (("train", order[:-val][:train]), ("val", order[-val:])):
        folder = out / f"{name}2017"
        folder.mkdir(parents=True)
        kept: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for place in sorted(chosen.tolist()):
            split, image = images[place]
            source, own = (root / f"{split}2017" / image["file_name"]).resolve(), boxes.get((split, image["id"]), [])
            if pixels:
                scale = shrink(source, folder / image["file_name"], image, pixels)
                own = [scaled(annotation, scale) for annotation in own]
            else:
                (folder / image["file_name"]).symlink_to(source)
            kept.append({**image, "id": place + 1})
            if name == "train" and holes:  # an image keeps one box at least, so that the same images can be drawn
                own = [own[i] for i in np.flatnonzero(dropped.random(len(own)) >= holes)] or own[:1]
            for annotation in own:
                annotations.append({**annotation, "id": len(annotations) + 1, "image_id": place + 1})
        document = {**documents[name], "images": kept, "annotations": annotations}
        write_json(out / f"annotations/instances_{name}2017.json", document)
        print(f"{name}: {len(kept):,} images, {len(annotations):,} boxes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="COCO")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--val", type=int, required=True, help="images for validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixels", type=int, help="of the long side of each image, as a copy (default: links)")
    parser.add_argument("--train", type=int, help="images for training (default: all others)")
    parser.add_argument("--holes", type=float, default=0.0, help="share of the train boxes to leave out (default 0)")
    args = parser.parse_args()
    resplit(args.root, args.out, args.val, args.seed, args.pixels, args.train, args.holes)


if __name__ == "__main__":
    main()
