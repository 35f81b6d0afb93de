#!/usr/bin/env python3
"""Distil a large YOLO into a small one: plain Ultralytics but for the first import.

    python create_coco1k.py --coco-root /path/to/coco    # once: writes coco1k/
    python simple_kd_example.py                          # about 100 epochs on 1,500 images

Another data set, teacher or length: python simple_kd_example.py --data my.yaml --teacher yolo11x.pt --epochs 50
"""

import argparse

from coco1k_kd import YOLO  # plain Ultralytics would say: from ultralytics import YOLO
from coco1k_kd.errors import run_cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="coco1k/coco1k.yaml", help="Ultralytics data set YAML")
    parser.add_argument("--student", default="yolo11n.pt", help="weights to start from")
    parser.add_argument("--teacher", default="yolo11l.pt", help="weights to learn from; 'none' trains without")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=640)
    args = parser.parse_args()

    student = YOLO(args.student)
    teacher = YOLO(args.teacher) if args.teacher != "none" else None
    student.train(
        data=args.data,
        teacher=teacher.model if teacher else None,  # None is plain training
        distillation_loss="cwd",  # or "mgd"
        epochs=args.epochs,
        imgsz=args.imgsz,
        batch=16,
        workers=0,
        exist_ok=True,
    )


if __name__ == "__main__":
    run_cli(main)
