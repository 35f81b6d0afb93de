#!/usr/bin/env python3
"""Distil a large YOLO into a small one: plain Ultralytics but for the first import.

Before: python create_coco1k.py --coco-root /path/to/coco"""

import argparse
from pathlib import Path

from coco1k_kd import YOLO  # plain Ultralytics would say: from ultralytics import YOLO
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError, run_cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="coco1k/coco1k.yaml")
    parser.add_argument("--student", default="yolo11n.pt")
    parser.add_argument("--teacher", default="yolo11l.pt")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=640)
    args = parser.parse_args()
    if not Path(args.data).is_file():
        raise UserError(f"{args.data} does not exist: make it with create_coco1k.py, or give --data")
    read_weights(args.student, "student"), read_weights(args.teacher, "teacher")  # or a clear line, too

    student, teacher = YOLO(args.student), YOLO(args.teacher)
    student.train(
        data=args.data,
        teacher=teacher.model,  # None is plain training
        distillation_loss="cwd",  # or "mgd"
        epochs=args.epochs,
        imgsz=args.imgsz,
        batch=16,
        workers=0,
        exist_ok=True,
    )


if __name__ == "__main__":
    run_cli(main)
