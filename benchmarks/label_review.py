#!/usr/bin/env python3
"""How many of the doubts about labels are faults: faults are planted into COCO's labels, and looked for.

    coco1k-kd label --teacher yolo11n.pt --images coco-mini/train2017 --imgsz 320 --output boxes
    python benchmarks/label_review.py coco-mini boxes/boxes_320.json

Faults that COCO's labels have themselves count as false here.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.files import sha256
from coco1k_kd.verdict.coco import Truth, of_images, overlap, rankings, read_truth
from coco1k_kd.verdict.suspicions import Suspicion, suspicions
from coco1k_kd.verdict.thresholds import best_thresholds

_REMOVED, _CHANGED, _ADDED = 0.05, 0.03, 0.03
_PARTS = ("image", "category", "box", "area", "crowd")


def main() -> None:
    """Print the share of planted faults among the doubts, by kind and doubt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="DIR", help="COCO's folder")
    parser.add_argument("boxes", type=Path, metavar="JSON", help="what a teacher found in its train images")
    args = parser.parse_args()
    truth = read_truth(args.root / "annotations" / "instances_train2017.json")
    kept = json.loads(args.boxes.read_bytes())["images"]
    digests = [sha256(args.root / "train2017" / name) for name in truth.files]
    truth = truth[np.array([digest in kept for digest in digests])[truth.image]]
    found = of_images(np.array(kept.get(digest, []), float).reshape(-1, 6) for digest in digests)
    thresholds, known = best_thresholds(rankings(truth, found), 0.3), np.ones(len(truth.names), bool)
    planted, removed, fault = _planted(truth)
    told = suspicions(planted, found, thresholds, known)
    right = np.array([_is_fault(one, planted, removed, fault) for one in told])
    kinds, doubts = np.array([one.kind for one in told]), np.array([one.doubt for one in told])
    print(f"{len(truth.image):,} labels, {len(removed.image):,} removed, {fault.sum():,} changed or added")
    print("of the first " + ", ".join(f"{number}: {right[:number].mean():.0%}" for number in (50, 100, 200, 500)))
    print(f"{'doubt':12}" + "".join(f"{f'{low:.1f} to {low + 0.1:.1f}':>16}" for low in np.arange(5, 10) / 10))
    for kind in dict.fromkeys(kinds.tolist()):
        cells = []
        for low in np.arange(5, 10) / 10:
            here = (kinds == kind) & (doubts >= low) & (doubts < low + 0.1 + (low == 0.9))
            cells.append(f"{right[here].mean():.0%} of {here.sum()}" if here.any() else "")
        print(f"{kind:12}" + "".join(f"{cell:>16}" for cell in cells))
    plain = suspicions(truth, found, thresholds, known)
    print(f"doubts about the labels as they are: {len(plain):,}")


def _planted(truth: Truth) -> tuple[Truth, Truth, np.ndarray]:
    """The truth with faults, what was removed from it, and (G,) bool which of its labels are faults."""
    random = np.random.default_rng(0)
    number, lot = len(truth.image), random.random(len(truth.image))
    gone, changed = (lot < _REMOVED) & ~truth.crowd, (lot > 1 - _CHANGED) & ~truth.crowd
    classes = len(truth.names)
    category = np.where(changed, (truth.category + random.integers(1, classes, number)) % classes, truth.category)
    left = replace(truth, category=category)[~gone]
    added = random.choice(number, int(_ADDED * number), replace=False)
    more = replace(truth[added], image=random.permutation(truth.image[added]))
    planted = replace(left, **{part: np.concatenate((getattr(left, part), getattr(more, part))) for part in _PARTS})
    return planted, truth[gone], np.concatenate((changed[~gone], np.ones(len(added), bool)))


def _is_fault(one: Suspicion, planted: Truth, removed: Truth, fault: np.ndarray) -> bool:
    if one.kind != "missing":
        same = (planted.image == one.image) & (planted.box == one.box).all(axis=1) & (planted.category == one.label)
        return bool(fault[same].any())
    near = removed.box[(removed.image == one.image) & (removed.category == one.found)]
    crowd = np.zeros(len(near), bool)
    return bool((overlap(np.broadcast_to(one.box, near.shape), near, crowd) >= 0.3).any())


if __name__ == "__main__":
    main()
