#!/usr/bin/env python3
"""From which score on should a teacher's boxes be labels? Thresholds chosen on some images, judged on the others.

coco1k-kd label --teacher yolo11n.pt --images coco-mini/train2017 --imgsz 320 --output boxes
python benchmarks/label_thresholds.py coco-mini boxes/boxes_320.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.files import sha256
from coco1k_kd.verdict.coco import Ranking, of_images, rankings, read_truth
from coco1k_kd.verdict.thresholds import SCORES, shrunk_f1

_CHOOSING, _DRAWS = (100, 200, 400), 30  # images, and how often they are drawn
_JUDGED = 30  # boxes: a class with fewer of them does not count in the mean over classes
_FEW = 10
_MORE = (10, 20, 40, 80, 160)


def main() -> None:
    """Print F1 on the images that choose nothing, by the way of choosing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="DIR", help="COCO's folder")
    parser.add_argument("boxes", type=Path, metavar="JSON", help="what a teacher found in its train images")
    args = parser.parse_args()
    truth = read_truth(args.root / "annotations" / "instances_train2017.json")
    kept = json.loads(args.boxes.read_bytes())["images"]
    images = (args.root / "train2017" / name for name in truth.files)
    found = of_images(np.array(kept[sha256(image)], float).reshape(-1, 6) for image in images)
    by_class, random = rankings(truth, found), np.random.default_rng(0)
    print(f"{'':24}" + "".join(f"{f'{number} images':>22}" for number in _CHOOSING))
    print(f"{'F1 in points':24}" + f"{'each class':>14}{'all':>8}" * len(_CHOOSING))
    table = {number: _judged(by_class, len(truth.files), number, random) for number in _CHOOSING}
    for way in table[_CHOOSING[0]]:
        print(f"{way:24}" + "".join("{:14.2f}{:8.2f}".format(*table[number][way]) for number in _CHOOSING))


def _judged(by_class: list[Ranking], images: int, number: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Mean over classes, and over all boxes, of F1 by the way of choosing, in points, over draws."""
    results: dict[str, list[tuple[float, float]]] = {}
    for _ in range(_DRAWS):
        chosen = np.zeros(images, bool)
        chosen[random.choice(images, number, replace=False)] = True
        right, found, boxes = _counts(by_class, ~chosen)
        counts, classes = boxes >= _JUDGED, np.arange(len(boxes))
        f1 = shrunk_f1(right, found, boxes, 0)
        for way, at in (_ways(*_counts(by_class, chosen)) | {"the best possible": f1.argmax(axis=1)}).items():
            of_all = 2 * right[classes, at].sum() / (found[classes, at].sum() + boxes.sum())
            results.setdefault(way, []).append((f1[classes, at][counts].mean(), of_all))
    return {way: 100 * np.mean(values, axis=0) for way, values in results.items()}


def _ways(right: np.ndarray, found: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
    """(C,) positions of the thresholds, by the way of choosing."""
    alone = shrunk_f1(right, found, np.maximum(boxes, 1e-9), 0).argmax(axis=1)
    together = (2 * right.sum(axis=0) / (found.sum(axis=0) + boxes.sum())).argmax()
    return {
        "0.3": np.full(len(boxes), np.searchsorted(SCORES, 0.3)),
        "one for all classes": np.full(len(boxes), together),
        f"class alone, from {_FEW} on": np.where(boxes >= _FEW, alone, together),
        **{f"with {more} more": shrunk_f1(right, found, boxes, more).argmax(axis=1) for more in _MORE},
    }


def _counts(by_class: list[Ranking], images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(C, S) right and found detections from each threshold on, and (C,) boxes, in some of the images."""
    right, found = (np.zeros((len(by_class), len(SCORES))) for _ in range(2))
    for number, ranking in enumerate(by_class):
        here = images[ranking.image] & ranking.counted[0, 0]
        for counts, ours in ((found, here), (right, here & ranking.hit[0, 0])):
            counts[number] = ours.sum() - np.searchsorted(np.sort(ranking.score[ours]), SCORES)
    return right, found, np.array([ranking.boxes[0][images].sum() for ranking in by_class], float)


if __name__ == "__main__":
    main()
