#!/usr/bin/env python3
"""Pool both splits of a COCO root and split them anew at random, so that a small root has many val images to judge.

    python benchmarks/resplit.py COCO OUT --val 1150 --seed 2

Writes OUT in COCO's layout: images are links to those of COCO, ids are new, and annotations stay as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.files import write_json

SPLITS = ("train", "val")


def resplit(root: Path, out: Path, val: int, seed: int) -> None:
    """Write `out` with `val` of all images of `root` for validation, and the rest for training."""
    documents = {split: json.loads((root / f"annotations/instances_{split}2017.json").read_bytes()) for split in SPLITS}
    images = [(split, image) for split in SPLITS for image in documents[split]["images"]]
    boxes: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for split in SPLITS:
        for annotation in documents[split]["annotations"]:
            boxes.setdefault((split, annotation["image_id"]), []).append(annotation)
    order = np.random.default_rng(seed).permutation(len(images))
    for name, chosen in (("train", order[:-val]), ("val", order[-val:])):
        folder = out / f"{name}2017"
        folder.mkdir(parents=True)
        kept: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for place in sorted(chosen.tolist()):
            split, image = images[place]
            (folder / image["file_name"]).symlink_to((root / f"{split}2017" / image["file_name"]).resolve())
            kept.append({**image, "id": place + 1})
            for annotation in boxes.get((split, image["id"]), []):
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
    args = parser.parse_args()
    resplit(args.root, args.out, args.val, args.seed)


if __name__ == "__main__":
    main()
