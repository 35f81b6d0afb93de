#!/usr/bin/env python3
"""Does distillation help? Train the same student with and without a teacher, under the same conditions, and compare.

    python test_coco1k_kd.py                                        # yolo11n, CWD from yolo11l, 100 epochs, one seed
    python test_coco1k_kd.py --loss mgd --seeds 0 1 2               # three seeds: a verdict about the method
    python test_coco1k_kd.py --arms baseline cwd mgd ultralytics baseline_same_time --controls
    python test_coco1k_kd.py --seeds 0 1 2 --parallel 3             # three runs at a time
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
from coco1k_kd.arms import ARMS
from coco1k_kd.errors import UserError, run_cli
from coco1k_kd.slots import Slots

HELP = {
    "data": "the subset's YAML, of create_coco1k.py",
    "student": "a checkpoint to train further, or a .yaml to train from scratch",
    "teacher": "any Ultralytics detector with as many levels",
    "loss": "cwd or mgd: how the arm beside the baseline is distilled",
    "arms": f"of {', '.join(ARMS)}; default: baseline and --loss. ultralytics is stock distill_model=, "
    "baseline_same_time a baseline that is given the time which distillation took",
    "seeds": "a run of each arm per seed. One seed tells about this pair of models only, more about the method",
    "distillation-weight": "of cwd and mgd; default: each loss's own",
    "controls": "also distil with weight 0, which must equal the baseline, and from a teacher of random weights",
    "eval-full-val": "also evaluate on all 5,000 images of val2017",
    "imgsz": "pixels, a multiple of 32",
    "device": "as Ultralytics': cpu, 0, mps; default: the first GPU, else the CPU",
    "workers": "data loaders; a CPU run has none",
    "parallel": "runs at a time, on this machine: several small students fit on one card. Their times are then "
    "those of runs that share the machine",
    "project": "folder of the runs and the comparison",
    "resume": "go on with the newest study of these settings in --project; where there is none, start it",
    "report-only": "draw the picture and the tables of a comparison again, without training",
}


def parser() -> argparse.ArgumentParser:
    """Every flag of the program."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(group: argparse._ArgumentGroup, name: str, default: object = None, **options: object) -> None:
        shown = "" if default is None else f" (default: {' '.join(map(str, default if default == [0] else [default]))})"
        group.add_argument(f"--{name}", default=default, help=HELP.get(name, "") + shown, **options)

    what = p.add_argument_group("what is compared")
    add(what, "data", Path("coco1k/coco1k.yaml"), type=Path, metavar="YAML")
    add(what, "student", "yolo11n.pt", metavar="MODEL")
    add(what, "teacher", "yolo11l.pt", metavar="MODEL")
    add(what, "loss", "cwd")
    add(what, "arms", nargs="+", metavar="ARM")
    add(what, "seeds", [0], nargs="+", type=int, metavar="N")
    add(what, "distillation-weight", type=float, metavar="W")
    what.add_argument("--controls", action="store_true", help=HELP["controls"])
    add(what, "eval-full-val", type=Path, metavar="COCO_ROOT")
    how = p.add_argument_group("how it is trained, the same for all arms")
    add(how, "epochs", 100, type=int, metavar="N")
    add(how, "batch", 16, type=int, metavar="N")
    add(how, "imgsz", 640, type=int, metavar="N")
    add(how, "device")
    add(how, "workers", 8, type=int, metavar="N")
    where = p.add_argument_group("where it goes")
    add(where, "parallel", 1, type=int, metavar="N")
    add(where, "project", Path("coco1k_kd_experiments"), type=Path, metavar="DIR")
    where.add_argument("--resume", action="store_true", help=HELP["resume"])
    add(where, "report-only", type=Path, metavar="JSON")
    return p


def main() -> int:
    """Parse, run, and let the study print."""
    args = vars(parser().parse_args())
    resume, report, parallel = (args.pop(name) for name in ("resume", "report_only", "parallel"))
    if report:
        return study.report_only(report)
    args["device"] = args["device"] or ""
    if parallel < 1:
        raise UserError(f"--parallel {parallel}: must be at least 1")
    return study.run(study.Settings(**args), resume, shlex.join(["python", *sys.argv]), Slots(parallel))


if __name__ == "__main__":
    run_cli(main)
