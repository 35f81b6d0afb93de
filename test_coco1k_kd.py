#!/usr/bin/env python3
"""Does distillation help? Train the same student with and without a teacher, under the same conditions, and compare.

    python test_coco1k_kd.py                                        # yolo11n, CWD from yolo11l, 100 epochs, 6 hours
    python test_coco1k_kd.py --loss mgd --seeds 0 1 2               # three seeds, no more and no less
    python test_coco1k_kd.py --arms baseline cwd mgd ultralytics baseline_same_time --controls
    python test_coco1k_kd.py --seeds 0 1 2 --parallel 3             # three runs at a time
    python test_coco1k_kd.py --seeds 0 1 2 --ray --gpus-per-run 0.25    # on a Ray cluster, four runs on a card
    python test_coco1k_kd.py --resume ...                           # the same command again, after any kind of end
    python test_coco1k_kd.py --config study.yaml                    # the flags from a file; every study writes its own
    python test_coco1k_kd.py --check --data my.yaml                 # is my own data ready? trains nothing
    python test_coco1k_kd.py --report-only coco1k_kd_experiments/comparison_20260101_120000.json

Writes run folders, comparison_*.json, comparison_*.md, kd_comparison_*.png and report_*.html into --project.
Exit codes: 0 done, 1 a run or a control failed, 2 bad input or unequal arms, 130 interrupted, 141 output closed.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

from coco1k_kd.errors import UserError, run_cli
from coco1k_kd.flags import DATA, HOW, JUDGED, WHAT, WHERE, Parser
from coco1k_kd.report.words import languages
from coco1k_kd.runs.slots import Slots
from coco1k_kd.study.config import read_config
from coco1k_kd.study.settings import Settings

MACHINE, INSTEAD = "where runs go", "what is done instead, or again"

_SHARE = {
    "gpus": "with --ray, also a part of a card: 0.25 puts four runs on one (default: those that --device names, 1 "
    "where there are any)",
    "cpus": "with --ray (default: by its share of the cards the run's share of its node's cores)",
    "memory": "with --ray, in GiB (default: 4)",
}  # of a run on a cluster


def parser() -> Parser:
    """Every flag of the program: the fields of `Settings`, then where runs go and what is done instead of runs."""
    p = Parser(__doc__)
    groups = {title: p.add_argument_group(title) for title in (DATA, WHAT, HOW, JUDGED, WHERE, MACHINE, INSTEAD)}

    def add(group: str, name: str, text: str, default: object = None, **options: object) -> None:
        shown = " ".join(map(str, default if isinstance(default, list) else [default] if default else []))
        text += f" (default: {shown})" * bool(shown)
        groups[group].add_argument(f"--{name.replace('_', '-')}", default=default, help=text, **options)

    for setting in fields(Settings):
        if options := dict(setting.metadata):
            default = setting.default_factory() if setting.default is MISSING else setting.default
            add(options.pop("group"), setting.name, options.pop("help"), default, **options)
    ray = (
        "run on the Ray cluster at ADDRESS, by default the one this machine belongs to: every run a task with its "
        "share of a node, started again elsewhere if the node dies. Needs requirements-ray.txt, and --project, data "
        "and weights on storage that all nodes see at the same path"
    )
    parallel = (
        "runs at a time on this machine: several small students fit on one card. Their times are then those of runs "
        "that share the machine (default: 1)"
    )
    resume = (
        "go on with the newest study of these settings in --project, or add arms, seeds or draws to it; where there is "
        "none, start it"
    )
    check = "only look at --data: print images, boxes and classes of each split, and what is wrong with it"
    report = "make the report of a comparison again, without training"
    config = (
        "a file of these flags, as epochs: 30 or arms: [baseline, cwd]; what is typed wins over it. Every study writes "
        "the one that repeats it: study.yaml in --project"
    )
    add(INSTEAD, "config", config, type=Path, metavar="YAML")
    add(MACHINE, "parallel", parallel, type=int, metavar="N")
    add(MACHINE, "ray", ray, nargs="?", const="", metavar="ADDRESS")
    for name, text in _SHARE.items():
        add(MACHINE, f"{name}-per-run", text, type=float, metavar="X")
    add(INSTEAD, "resume", resume, False, action="store_true")
    add(INSTEAD, "check", check, False, action="store_true")
    add(INSTEAD, "report-only", report, type=Path, metavar="JSON")
    languages_told = f"of the report: {' or '.join(languages())} (default: en, or the study's own)"
    add(WHERE, "language", languages_told, choices=languages())
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


def read_flags(typed: list[str]) -> dict[str, Any]:
    """All flags' values by name: what is typed, else what --config says, else the default."""
    p = parser()
    args = p.parse_args(typed)
    if args.config:
        said = read_config(args.config, p.flags())
        try:
            p.parse_args(said)
        except UserError as error:
            raise UserError(f"--config {args.config}: {error}") from None
        args = p.parse_args([*said, *typed])
    del args.config
    return vars(args)


def main() -> int:
    """Parse, run, and let the study print."""
    args = read_flags(sys.argv[1:])
    resume, report, language = args.pop("resume"), args.pop("report_only"), args.pop("language")
    if report:  # each imports its own, since --help and faults of flags need none of it, and a report no PyTorch
        from coco1k_kd.report.write import write_again

        return write_again(report, language)
    from coco1k_kd.study import study

    places = slots(args.pop("ray"), args.pop("parallel"), {name: args.pop(f"{name}_per_run") for name in _SHARE})
    if args.pop("check"):
        from coco1k_kd.data.given import check as check_data
        from coco1k_kd.study.unlabelled import check_unlabelled

        pool = args.get("unlabelled")
        of_pool = partial(check_unlabelled, pool, judge=args["judge"], coco_root=args["coco_root"]) if pool else None
        check_data(args["data"], of_pool, args["groups"])
        return 0
    args["seeds"] = read_seeds(args["seeds"])
    program = ["python", sys.argv[0]] if sys.argv[0].endswith(".py") else sys.argv[0].split()  # or coco1k-kd compare
    return study.run(Settings(**args), resume, shlex.join([*program, *sys.argv[1:]]), places, language or "en")


if __name__ == "__main__":
    run_cli(main)
