#!/usr/bin/env python3
"""Does distillation help? Train the same student with and without a teacher, under the same conditions, and compare.

    python test_coco1k_kd.py                                        # yolo11n, CWD from yolo11l, 100 epochs, one seed
    python test_coco1k_kd.py --loss mgd --seeds 0 1 2               # three seeds: a verdict about the method
    python test_coco1k_kd.py --arms baseline cwd mgd ultralytics baseline_same_time --controls
    python test_coco1k_kd.py --resume ...                           # the same command again, after any kind of end
    python test_coco1k_kd.py --report-only coco1k_kd_experiments/comparison_20260101_120000.json

Writes run folders, comparison_*.json, comparison_*.md and kd_comparison_*.png into --project.
Exit codes: 0 done, 1 a run or a control failed, 2 bad input or unequal arms, 130 interrupted.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from coco1k_kd import study
from coco1k_kd.errors import run_cli


def parser() -> argparse.ArgumentParser:
    """Every flag of the program."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = p.add_argument_group("what is compared")
    what.add_argument("--data", type=Path, default=Path("coco1k/coco1k.yaml"), metavar="YAML", help="the subset (default: %(default)s)")  # fmt: skip
    what.add_argument("--student", default="yolo11n.pt", metavar="PT|YAML", help="a checkpoint to train further, or a .yaml to train from scratch (default: %(default)s)")  # fmt: skip
    what.add_argument("--teacher", default="yolo11l.pt", metavar="PT", help="any Ultralytics detector with as many levels (default: %(default)s)")  # fmt: skip
    what.add_argument("--loss", default="cwd", metavar="cwd|mgd", help="distillation of the arm beside the baseline (default: %(default)s)")  # fmt: skip
    what.add_argument("--arms", nargs="+", metavar="ARM", help=f"of {', '.join(study.ARMS)} (default: baseline and --loss); ultralytics is stock distill_model=, baseline_same_time a baseline given the time that distillation took")  # fmt: skip
    what.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="one run of each arm per seed (default: 0). One seed can tell about that pair of models only; from three on the verdict is about the method")  # fmt: skip
    what.add_argument(
        "--distillation-weight", type=float, metavar="W", help="of cwd and mgd (default: each loss's own)"
    )
    what.add_argument("--controls", action="store_true", help="also distil with weight 0, which must equal the baseline, and from a teacher with random weights, the placebo")  # fmt: skip
    what.add_argument("--eval-full-val", type=Path, metavar="COCO_ROOT", help="also evaluate on all 5,000 images of val2017")  # fmt: skip
    how = p.add_argument_group("how it is trained: the same for all arms")
    how.add_argument("--epochs", type=int, default=100, metavar="N", help="(default: %(default)s)")
    how.add_argument("--batch", type=int, default=16, metavar="N", help="(default: %(default)s)")
    how.add_argument("--imgsz", type=int, default=640, metavar="PX", help="a multiple of 32 (default: %(default)s)")
    how.add_argument("--device", default="", help="as Ultralytics': cpu, 0, mps (default: the first GPU, else the CPU)")
    how.add_argument("--workers", type=int, default=8, metavar="N", help="data loaders, on a GPU (default: %(default)s)")  # fmt: skip
    where = p.add_argument_group("where it goes")
    where.add_argument("--project", type=Path, default=Path("coco1k_kd_experiments"), metavar="DIR", help="(default: %(default)s)")  # fmt: skip
    where.add_argument("--resume", action="store_true", help="go on with the newest study of the same settings in --project; without one, start it")  # fmt: skip
    where.add_argument("--report-only", type=Path, metavar="JSON", help="draw the picture and the tables of a comparison again, without training")  # fmt: skip
    return p


def main() -> int:
    """Parse, run, and let the study print."""
    args = parser().parse_args()
    if args.report_only:
        return study.report_only(args.report_only)
    settings = study.Settings(
        data=args.data,
        student=args.student,
        teacher=args.teacher,
        loss=args.loss,
        arms=args.arms,
        seeds=args.seeds,
        distillation_weight=args.distillation_weight,
        controls=args.controls,
        eval_full_val=args.eval_full_val,
        epochs=args.epochs,
        batch=args.batch,
        imgsz=args.imgsz,
        device=args.device,
        workers=args.workers,
        project=args.project,
    )
    return study.run(settings, args.resume, shlex.join(["python", *sys.argv]))


if __name__ == "__main__":
    run_cli(main)
