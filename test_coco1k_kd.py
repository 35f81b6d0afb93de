#!/usr/bin/env python3
"""Does distillation help? Train the same student with and without a teacher, under the same conditions, and compare.

    python test_coco1k_kd.py                                        # yolo11n, CWD from yolo11l, 100 epochs, 6 hours
    python test_coco1k_kd.py --loss mgd --seeds 0 1 2               # three seeds, no more and no less
    python test_coco1k_kd.py --arms baseline cwd mgd ultralytics baseline_same_time --controls
    python test_coco1k_kd.py --seeds 0 1 2 --parallel 3             # three runs at a time
    python test_coco1k_kd.py --seeds 0 1 2 --ray --gpus-per-run 0.25    # on a Ray cluster, four runs on a card
    python test_coco1k_kd.py --resume ...                           # the same command again, after any kind of end
    python test_coco1k_kd.py --check --data my.yaml                 # is my own data ready? trains nothing
    python test_coco1k_kd.py --report-only coco1k_kd_experiments/comparison_20260101_120000.json

Writes run folders, comparison_*.json, comparison_*.md, kd_comparison_*.png and report_*.html into --project.
Exit codes: 0 done, 1 a run or a control failed, 2 bad input or unequal arms, 130 interrupted, 141 output closed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from coco1k_kd.data import own
from coco1k_kd.distill import registry
from coco1k_kd.errors import UserError, run_cli
from coco1k_kd.report.words import LANGUAGES
from coco1k_kd.runs.initial import STARTS
from coco1k_kd.runs.slots import Slots
from coco1k_kd.study import study
from coco1k_kd.study.arms import arm_names
from coco1k_kd.verdict.looks import LOOKS

HELP = {
    "data": "a data YAML: of create_coco1k.py, or your own in Ultralytics' format",
    "student": "a checkpoint to train further, or a .yaml to train from scratch",
    "start": "weights: the student as it is given. neck: with a fresh head, as for new classes. frozen: the same with "
    "the backbone left alone, the best of few epochs. backbone: with a fresh neck, too. What is fresh is trained with "
    "AdamW, learning rate 0.001, a step per batch",
    "freeze-bn": "with --start weights, keep the statistics of all batch norms as the student has them, in all arms; "
    "their weights move",
    "train": "settings for Ultralytics' train, the same for all arms, as lr0=0.005 freeze=10",
    "teacher": "any Ultralytics detector with as many levels",
    "loss": f"of {', '.join(registry.names())}, or a sum: how the arm beside the baseline is distilled",
    "arms": f"of {', '.join(arm_names())}; default: baseline and --loss. ultralytics is stock distill_model=, "
    "baseline_same_time a baseline that is given the time which distillation took. cwd and mgd may carry settings, "
    "as cwd:tau=2 or mgd:mask_ratio=0.4:weight=4",
    "seeds": "auto: more seeds until the verdict is known, in planned looks (default; with --draws: 0). Or a fixed "
    "list, with a run of each arm per seed: one seed compares this pair of models only",
    "looks": "with --seeds auto, after how many seeds the result is judged",
    "hours": "the study begins nothing that would not end within so many hours; the first pair of runs is always "
    "finished (default: 6 with --seeds auto, else inf)",
    "judge": "the images that the verdict is taken on. auto: a data YAML's test split, or all of the val images that "
    "the subset was drawn from and does not hold, where they are at hand. val: the subset's val images. full: as auto, "
    "and an error where they are missing. DIR: the val2017 of a COCO root",
    "draws": "subsets that differ in their train images, drawn anew from --coco-root: says whether the verdict holds "
    "beyond one choice of images",
    "coco-root": "what the subset was drawn from, for --draws and --judge: the folder of COCO, or the data YAML",
    "loss-file": "a Python file that registers a loss of your own, for --loss and --arms (docs/adding-a-loss.md)",
    "distillation-weight": "of the loss, of a sum one for all parts or one for each, as 1,3; default: each loss's own, "
    "with a fresh head three times that",
    "controls": "also distil with weight 0, which must equal the baseline, and from a teacher of random weights",
    "imgsz": "pixels, a multiple of 32",
    "device": "as Ultralytics': cpu, 0, mps; default: the first GPU, else the CPU. 0,1 trains every run on two GPUs, "
    "which share the batch",
    "workers": "data loaders; a CPU run has none",
    "parallel": "runs at a time on this machine, 1 by default: several small students fit on one card. Their times are "
    "then those of runs that share the machine",
    "ray": "run on the Ray cluster at ADDRESS, by default the one this machine belongs to: every run a task with its "
    "share of a node, started again elsewhere if the node dies. Needs requirements-ray.txt, and --project, data and "
    "weights on storage that all nodes see at the same path",
    "gpus-per-run": "with --ray, also a part of a card: 0.25 puts four runs on one (default: those that --device "
    "names, 1 where there are any)",
    "cpus-per-run": "with --ray (default: by its share of the cards the run's share of its node's cores)",
    "memory-per-run": "with --ray, in GiB (default: 4)",
    "project": "folder of the runs and the comparison",
    "resume": "go on with the newest study of these settings in --project, or add arms, seeds or draws to it; where "
    "there is none, start it",
    "check": "only look at --data: print images, boxes and classes of each split, and what is wrong with it",
    "report-only": "make the report of a comparison again, without training",
    "language": "of the report: en or ko",
}
_SHARE = ("gpus", "cpus", "memory")  # of a run on a cluster


def parser() -> argparse.ArgumentParser:
    """Every flag of the program."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(group: argparse._ArgumentGroup, name: str, default: object = None, **options: object) -> None:
        shown = (
            ""
            if default in (None, [])
            else f" (default: {' '.join(map(str, default if isinstance(default, list) else [default]))})"
        )
        group.add_argument(f"--{name}", default=default, help=HELP.get(name, "") + shown, **options)

    what = p.add_argument_group("what is compared")
    add(what, "data", Path("coco1k/coco1k.yaml"), type=Path, metavar="YAML")
    add(what, "student", "yolo11n.pt", metavar="MODEL")
    add(what, "teacher", "yolo11l.pt", metavar="MODEL")
    add(what, "loss", "cwd")
    add(what, "arms", nargs="+", metavar="ARM")
    what.add_argument("--seeds", nargs="+", metavar="N", help=HELP["seeds"])
    add(what, "looks", list(LOOKS), nargs="+", type=int, metavar="N")
    add(what, "hours", type=float, metavar="H")
    add(what, "judge", "auto", metavar="auto|val|full|DIR")
    add(what, "draws", 1, type=int, metavar="N")
    add(what, "coco-root", type=Path, metavar="DIR")
    add(what, "loss-file", type=Path, metavar="FILE")
    add(what, "distillation-weight", metavar="W")
    what.add_argument("--controls", action="store_true", help=HELP["controls"])
    how = p.add_argument_group("how it is trained, the same for all arms")
    add(how, "start", "weights", choices=STARTS)
    how.add_argument("--freeze-bn", action="store_true", help=HELP["freeze-bn"])
    add(how, "train", [], nargs="+", metavar="KEY=VALUE")
    add(how, "epochs", 100, type=int, metavar="N")
    add(how, "batch", 16, type=int, metavar="N")
    add(how, "imgsz", 640, type=int, metavar="N")
    add(how, "device")
    add(how, "workers", 8, type=int, metavar="N")
    where = p.add_argument_group("where it goes")
    add(where, "parallel", type=int, metavar="N")
    add(where, "project", Path("coco1k_kd_experiments"), type=Path, metavar="DIR")
    where.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help=HELP["ray"])
    for name in _SHARE:
        add(where, f"{name}-per-run", type=float, metavar="X")
    where.add_argument("--resume", action="store_true", help=HELP["resume"])
    where.add_argument("--check", action="store_true", help=HELP["check"])
    add(where, "report-only", type=Path, metavar="JSON")
    add(where, "language", "en", choices=sorted(LANGUAGES))
    return p


def slots(ray: str | None, parallel: int | None, share: dict[str, float | None]) -> Slots:
    """Where runs go, and how many at a time."""
    given = {name: value for name, value in share.items() if value is not None}
    if ray is None:
        if given:
            raise UserError(f"--{next(iter(given))}-per-run is said of a run on a cluster: give --ray, too")
        if parallel is not None and parallel < 1:
            raise UserError(f"--parallel {parallel}: must be at least 1")
        return Slots(parallel or 1)
    if parallel is not None:
        raise UserError("--parallel is for one machine: with --ray, --gpus-per-run and --cpus-per-run say how many fit")
    from coco1k_kd.runs.cluster import Cluster

    return Cluster(ray, **given)


def read_seeds(words: list[str] | None) -> list[int] | str | None:
    """`auto`, or a list of numbers."""
    if not words or words == ["auto"]:
        return words[0] if words else None
    try:
        return [int(word) for word in words]
    except ValueError:
        raise UserError(f"--seeds {' '.join(words)}: give auto, or numbers as 0 1 2") from None


def main() -> int:
    """Parse, run, and let the study print."""
    args = vars(parser().parse_args())
    resume, report, language = args.pop("resume"), args.pop("report_only"), args.pop("language")
    places = slots(args.pop("ray"), args.pop("parallel"), {name: args.pop(f"{name}_per_run") for name in _SHARE})
    if report:
        return study.report_only(report, language)
    if args.pop("check"):
        own.check(args["data"])
        return 0
    args["device"] = args["device"] or ""
    args["seeds"] = read_seeds(args["seeds"])
    program = ["python", sys.argv[0]] if sys.argv[0].endswith(".py") else sys.argv[0].split()  # or coco1k-kd compare
    return study.run(study.Settings(**args), resume, shlex.join([*program, *sys.argv[1:]]), places, language)


if __name__ == "__main__":
    run_cli(main)
