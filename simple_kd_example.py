#!/usr/bin/env python3
"""Distil a large YOLO into a small one: plain Ultralytics but for the first import.

Before: python create_coco1k.py --coco-root /path/to/coco"""

import argparse
from pathlib import Path
from time import strftime

from coco1k_kd import YOLO  # plain Ultralytics would say: from ultralytics import YOLO
from coco1k_kd.distill.weights import load_model
from coco1k_kd.errors import UserError, run_cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="coco1k/coco1k.yaml", help="a data set's YAML, as Ultralytics has it")
    parser.add_argument("--student", default="yolo11n.pt", help="or a .yaml; also -seg, -pose and -obb")
    parser.add_argument("--teacher", default="yolo11l.pt", help="a checkpoint")
    parser.add_argument("--loss", default="cwd", help="how to distil")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the training images")
    parser.add_argument("--batch", type=int, default=16, help="images in a step")
    parser.add_argument("--imgsz", type=int, default=640, help="pixels")
    parser.add_argument("--device", help="as Ultralytics': cpu, 0, 0,1, mps")
    parser.add_argument("--project", type=Path, help="where the run's folder goes")
    args = parser.parse_args()
    if not Path(args.data).is_file():
        raise UserError(f"{args.data} does not exist: make it with create_coco1k.py, or give --data")
    load_model(args.student, "student")  # or a clear line; train() looks at the teacher

    YOLO(args.student).train(
        data=args.data, teacher=args.teacher, distillation_loss=args.loss, epochs=args.epochs, batch=args.batch,
        imgsz=args.imgsz, device=args.device, project=args.project, workers=0, exist_ok=True,
        name=f"kd_{args.loss}_{strftime('%Y%m%d_%H%M%S')}",  # of its own, so that no earlier run is written over
    )  # fmt: skip


if __name__ == "__main__":
    run_cli(main)
