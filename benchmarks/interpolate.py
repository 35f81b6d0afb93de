#!/usr/bin/env python3
"""Show what bounds fine-tuning: AP along the straight line from a student as given to the same student fine-tuned.

    python benchmarks/interpolate.py yolo11n.pt RUNS/kd_cwd*/weights/last.pt --train coco1k \
        --judge RUNS/judges/full_val_* --imgsz 192 --device cpu

At 0 the weights are those given, at 1 those fine-tuned; several runs are the seeds of an arm. Where AP of the train
images rises along the line and AP of other images falls, what is learnt does not generalise; where both fall, the
steps are bad. The line is a fair path where the batch norms keep their statistics (`--freeze-bn`), as those are
interpolated too (Wortsman et al., arXiv 2109.01903, section 3).
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import fmean

import torch
import yaml
from ultralytics import YOLO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.dataset import read_data
from coco1k_kd.data.manifest import YAML
from coco1k_kd.runs.predict import predict
from coco1k_kd.verdict.compare import compare
from coco1k_kd.verdict.matching import coco_metrics


@dataclass(frozen=True)
class Place:
    """Images with their annotations, and a YAML whose val split they are."""

    annotations: Path
    images: Path
    data: Path


def of_train(subset: Path, folder: Path) -> Place:
    """The train images of a subset that create_coco1k.py wrote."""
    data = read_data(subset / YAML)
    told = yaml.safe_load(data.yaml.read_text(encoding="utf-8"))
    (folder / "train.yaml").write_text(yaml.safe_dump(told | {"val": told["train"]}), encoding="utf-8")
    return Place(data.train.annotations, data.train.images, folder / "train.yaml")


def between(given: YOLO, tuned: YOLO, alpha: float) -> YOLO:
    """The model whose floating-point state is (1 - alpha) of `given` and alpha of `tuned`."""
    model, ends = copy.deepcopy(given), tuned.model.state_dict()
    state = given.model.state_dict()
    mixed = {k: torch.lerp(v.float(), ends[k].float(), alpha) if v.is_floating_point() else v for k, v in state.items()}
    model.model.load_state_dict(mixed)
    return model


def detections(model: YOLO, place: Place, output: Path, asked: argparse.Namespace) -> Path:
    """Write the model's detections to `output`."""
    settings = {"data": str(place.data), "imgsz": asked.imgsz, "device": asked.device, "workers": 0}
    predict(model, place.annotations, place.images, output, **settings)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", help="weights of the student as given")
    parser.add_argument("tuned", nargs="+", help="weights of runs that began there, one for each seed")
    parser.add_argument("--train", type=Path, required=True, help="the subset that they trained on")
    parser.add_argument("--judge", type=Path, required=True, help="a folder judges/* of their study")
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.1, 0.25, 0.5, 1.0])
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    given, tuned = YOLO(asked.given), [YOLO(path) for path in asked.tuned]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judge = Place(asked.judge / "annotations.json", asked.judge / "images" / "val", asked.judge / "judge.yaml")
        for told, place in (("train", of_train(asked.train, folder)), ("judge", judge)):
            outputs = (folder / f"{told}_{number}.json" for number in count())
            as_given = detections(copy.deepcopy(given), place, next(outputs), asked)
            print(f"{told}: alpha 0, AP {100 * coco_metrics(place.annotations, as_given)['ap']:.2f}", flush=True)
            for alpha in asked.alphas:
                files = {
                    (0, seed): detections(between(given, run, alpha), place, next(outputs), asked)
                    for seed, run in enumerate(tuned)
                }
                ap = fmean(coco_metrics(place.annotations, file)["ap"] for file in files.values())
                entry = compare(place.annotations, files, dict.fromkeys(files, as_given), in_parts=False)
                low, high = (100 * x for x in entry.d_ap.ci95)
                gain = f"{100 * entry.d_ap.mean:+.2f} ({low:+.2f} to {high:+.2f})"
                print(f"{told}: alpha {alpha:g}, AP {100 * ap:.2f}, to the student as given {gain}", flush=True)


if __name__ == "__main__":
    main()
