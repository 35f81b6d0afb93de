#!/usr/bin/env python3
"""Compare settings of the distillation in short trainings: weight, schedule, aligner's start, precision.

    python benchmarks/recipe.py --data coco1k/coco1k.yaml --teacher yolov8m.pt --epochs 5 --imgsz 256 \
        baseline cwd cwd:weight=3 mgd:weight=1 cwd:aligner=random cwd:precision=fp32
    python benchmarks/recipe.py baseline cwd cwd:weight=10 mgd:mask_ratio=0.3 cwd:levels=16,32 --start neck ...

Each run is LOSS[:SETTING=VALUE...], of `coco1k_kd.YOLO.train(distillation_SETTING=VALUE)`, or of Ultralytics' own
training settings, which --train sets for all runs. Three settings are of the experiment alone: aligner=random leaves
the aligners as PyTorch initialises them, levels=16,32 distils at these strides only, normalise=none compares features
as they are instead of standardised ones.
Prints one JSON object per run: the last row of results.csv in short, and AP by epoch. One seed and one short run say
which setting is sane, not which is best: that takes test_coco1k_kd.py and several seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ["YOLO_VERBOSE"] = "False"  # before Ultralytics is imported: standard output is for our JSON

from torch import Tensor, nn

import coco1k_kd.distiller
import coco1k_kd.trainer
from coco1k_kd import YOLO
from coco1k_kd.distiller import FIT_BATCHES
from coco1k_kd.inputs import read_train_args
from coco1k_kd.settings import Distillation
from coco1k_kd.start import FRESH_TRAINING, FROZEN, STARTS, WEIGHTS, frozen_layers, partial_start

NUMBERS = ("tau", "mask_ratio", "target_ratio")
DEFAULTS: dict[str, object] = {"close_mosaic": 1, "warmup_epochs": 1}
STANDARDISE = coco1k_kd.distiller.standardise


class Off(nn.Module):
    """The loss of a level that is not distilled."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return 0.0 * student.sum()


def keep_levels(model: YOLO, strides: str) -> None:
    """Distil at these of the teacher's strides alone ("16,32")."""
    kept = [int(stride) for stride in strides.split(",")]

    def switch_off(trainer: Any) -> None:
        if missing := set(kept) - set(trainer.teacher.strides):
            sys.exit(f"levels={strides}: the teacher has no stride {missing}, only {trainer.teacher.strides}")
        for level, stride in enumerate(trainer.teacher.strides):
            if stride not in kept:
                trainer.distiller.losses[level] = Off()

    model.add_callback("on_train_start", switch_off)


def train(run: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train one run and give the figures of its last epoch, and AP by epoch."""
    loss, *parts = run.split(":")
    settings = dict(part.split("=", 1) for part in parts)
    coco1k_kd.trainer.FIT_BATCHES = 0 if settings.pop("aligner", "fitted") == "random" else FIT_BATCHES
    normalise, levels = settings.pop("normalise", "channels"), settings.pop("levels", None)
    coco1k_kd.distiller.standardise = Tensor.float if normalise == "none" else STANDARDISE
    own = {name: settings.pop(name) for name in Distillation.__dataclass_fields__ if name in settings}
    own = {f"distillation_{k}": float(v) if k in NUMBERS else v for k, v in own.items()}
    if loss != "baseline":
        own |= {"teacher": args.teacher, "distillation_loss": loss}
    student, chosen = args.student, DEFAULTS
    if args.start != WEIGHTS:  # as in a study
        chosen = FRESH_TRAINING | {"nbs": args.batch}
        if args.start == FROZEN:
            chosen |= {"freeze": frozen_layers(student)}
        student = partial_start(student, args.start, args.seed, args.project / f"{args.start}_{args.seed}.pt")
    chosen = chosen | read_train_args(args.train) | read_train_args([f"{k}={v}" for k, v in settings.items()])
    model = YOLO(student)
    if levels:
        keep_levels(model, levels)
    model.train(
        data=args.data, epochs=args.epochs, imgsz=args.imgsz, batch=args.batch, seed=args.seed, device=args.device,
        project=args.project, name=run.replace(":", "_"), exist_ok=True, workers=0, plots=False, verbose=False,
        patience=0, **chosen, **own,
    )  # fmt: skip
    with model.trainer.csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    aps = [round(float(row["metrics/mAP50-95(B)"]), 4) for row in rows]
    keep = ("time", "train/kd_loss", "metrics/mAP50-95(B)", "metrics/mAP50(B)")
    last = {k: float(v) for k, v in rows[-1].items() if k in keep or k.startswith("kd/")}
    return {"run": run, "start": args.start, "seed": args.seed, "ap": aps, **last}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--student", default="yolo11n.pt")
    parser.add_argument("--start", choices=STARTS, default=WEIGHTS)
    parser.add_argument("--teacher", default="yolo11l.pt")
    parser.add_argument("--train", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--project", type=Path, default=Path("runs/recipe").resolve())
    args = parser.parse_args()
    for run in args.runs:
        print(json.dumps(train(run, args)), flush=True)


if __name__ == "__main__":
    main()
