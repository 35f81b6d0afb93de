#!/usr/bin/env python3
"""How far Ultralytics' own AP is from COCOeval's on the same detections, by the number of images: docs/lab/witness.md.

    python benchmarks/witness.py --coco-root COCO --weights yolo11n.pt yolov8n.pt     # 2 minutes on a core

The study compares the two for each checkpoint (study/witness.py) and needs to know how far apart they may be.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ultralytics import YOLO
from ultralytics.utils.metrics import ap_per_class

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.quiet import quiet
from coco1k_kd.runs import predict
from coco1k_kd.verdict.matching import coco_metrics

IMAGES, SIZES, DRAWS = 400, (24, 50, 100, 200), 20
CREATE = Path(__file__).resolve().parents[1] / "create_coco1k.py"


class Keeping(predict.CocoValidator):
    """Keeps what Ultralytics' figures are made from, image by image."""

    made: ClassVar[list[Keeping]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made.append(self)

    def get_stats(self) -> dict[str, Any]:
        self.kept = {key: list(value) for key, value in self.metrics.stats.items()}
        return super().get_stats()


def differences(weights: str, root: Path, imgsz: int) -> dict[int, np.ndarray]:
    """Ultralytics' AP less COCOeval's, in AP points, over `DRAWS` subsets of each size."""
    annotations, found = root / "annotations/instances_val2017.json", root / "predictions.json"
    settings = {"data": str(root / "coco1k.yaml"), "imgsz": imgsz, "batch": 16, "device": "cpu", "workers": 0}
    with quiet():
        predict.predict(YOLO(weights), annotations, root / "images/val2017", found, **settings)
    last, truth, detections = Keeping.made[-1], json.loads(annotations.read_bytes()), json.loads(found.read_bytes())
    ids = [last.image_ids[file] for file in last.dataloader.dataset.im_files]
    rng, differing = np.random.default_rng(0), {}
    for size in SIZES:
        differing[size] = np.empty(DRAWS)
        for draw in range(DRAWS):
            picked = rng.choice(len(ids), size, replace=False)
            chosen = {ids[index] for index in picked}
            keys = ("tp", "conf", "pred_cls", "target_cls")
            own = ap_per_class(*(np.concatenate([last.kept[key][index] for index in picked]) for key in keys))[5].mean()
            part = truth | {"images": [image for image in truth["images"] if image["id"] in chosen]}
            part["annotations"] = [box for box in truth["annotations"] if box["image_id"] in chosen]
            (root / "part.json").write_text(json.dumps(part))
            (root / "found.json").write_text(json.dumps([box for box in detections if box["image_id"] in chosen]))
            differing[size][draw] = 100 * (own - coco_metrics(root / "part.json", root / "found.json")["ap"])
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco-root", required=True)
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    args = parser.parse_args()
    predict.CocoValidator = Keeping
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "coco1k"
        command = [sys.executable, str(CREATE), "--coco-root", args.coco_root, "--output-dir", str(root)]
        command += ["--target-size", "50", "--val-size", str(IMAGES)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print("| model | images | mean | sd | largest |\n|---|---:|---:|---:|---:|")
        for weights in args.weights:
            for size, of_size in differences(weights, root, args.imgsz).items():
                figures = of_size.mean(), of_size.std(), abs(of_size).max()
                print(f"| {Path(weights).stem} | {size} |", " | ".join(f"{figure:.2f}" for figure in figures), "|")


if __name__ == "__main__":
    main()
