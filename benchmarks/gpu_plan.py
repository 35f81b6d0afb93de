#!/usr/bin/env python3
"""What `benchmarks/gpu_study.sh` does on a machine with a GPU, in order of value, and for how long. Prints JSON.

    python benchmarks/gpu_plan.py --minutes 25 --starts neck weights

In order: the time of a step, where it goes, how many runs share the card best; then a study for each start of the
student, with as many epochs as fit; then what each setting brings, and the whole against stock Ultralytics. Seconds are
guesses until the first steps are done in --work; then the epochs follow from what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.study.arms import SAME_TIME

PROJECT = Path(__file__).resolve().parents[1]
# of the student; with fewer epochs a study would say nothing
STARTS = {"weights": 5, "neck": 10, "frozen": 10, "backbone": 10, "scratch": 30}
EPOCH_SECONDS = {"baseline": 12.0, "cwd": 15.0, "mgd": 17.0, "ultralytics": 19.0}  # with 6 at once: a guess
STARTUP_SECONDS = 30.0  # of a run: imports, data, and its last evaluations
CLOSING_SECONDS = 90.0  # of a study: references, comparison; it runs beside the next study's trainings
MARGIN = 0.9  # of the time that is left, planned with
MOST_EPOCHS = 300
MEASUREMENTS = ("kd", "breakdown", "together", "ablation", "against")


@dataclass(frozen=True)
class Step:
    """A program to run. Its JSON on standard output is the result; a study writes its own files."""

    name: str
    command: list[str]
    seconds: float  # expected
    project: Path | None = None  # of a study
    epochs: int = 0
    runs: int = 0

    @property
    def about(self) -> dict[str, int]:
        """What to say of a study beside its name."""
        return {"epochs": self.epochs, "runs": self.runs} if self.project else {}

    def trained(self) -> bool:
        """Whether all runs of a study have ended, so that what is left is the comparison."""
        return self.project is not None and len(list(self.project.glob("*/result.json"))) >= self.runs


class Work:
    """The work folder: what is asked for, and what is done and known so far, in `results/`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.results = options.work / "results"
        self.state: dict[str, Any] = {"used_seconds": 0.0, "steps": {}, "epochs": {}, "together": None, "pace": 1.0}
        with contextlib.suppress(FileNotFoundError):
            self.state = json.loads((self.results / "state.json").read_bytes())

    def done(self, name: str) -> bool:
        """Whether a step has ended well."""
        return self.state["steps"].get(name, {}).get("state") == "done"

    def read(self, name: str) -> dict[str, Any] | None:
        """The JSON of a step that is done."""
        return json.loads((self.results / f"{name}.json").read_bytes()) if self.done(name) else None


def program(options: argparse.Namespace, name: str, *flags: object, data: bool = True) -> list[str]:
    """The command of one of the project's programs, with the settings that all share; `flags` overrule them."""
    shared = {"student": options.student, "teacher": options.teacher, "imgsz": options.imgsz, "batch": options.batch}
    shared |= {"device": options.device} | ({"data": options.data} if data else {})
    words = [sys.executable, PROJECT / name, *(word for key, value in shared.items() for word in (f"--{key}", value))]
    return [str(word) for word in (*words, *flags)]  # argparse takes the last of a flag given twice


def measurements(options: argparse.Namespace) -> tuple[list[Step], list[Step]]:
    """The measurements before the studies and those after them; seconds as expected on one H100."""
    arms = [arm for arm in options.arms if arm != SAME_TIME]  # that one is a study's alone
    steps, workers = ("--steps", options.steps), ("--workers", options.workers)
    cache = ("--cache", options.cache) if options.cache else ()

    def breakdown(name: str, seconds: float, *flags: object) -> Step:
        return Step(name, program(options, "benchmarks/breakdown.py", *flags), seconds)

    variants = ("--variants", "plain", "stock", "cwd", "mgd", "floor")
    kd_step = program(options, "benchmarks/kd_step.py", "--rounds", options.steps, *variants, data=False)
    first = [
        Step("kd_step", kd_step, 90),
        breakdown("breakdown", 25 * len(arms), "--arms", *arms, *steps, *workers),
        *(
            breakdown(f"together_{n}", 30 + options.seconds, "--arms", *arms, "--together", n,
                      "--workers", share_of_cores(n), "--seconds", options.seconds, *cache)
            for n in options.together
        ),
    ]  # fmt: skip
    one = ("--arms", next((arm for arm in arms if arm != "baseline"), "baseline"), *steps, *workers)
    against = ("--epochs", 2, *workers)
    last = [
        breakdown("ablation_cache_ram", 25, *one, "--cache", "ram"),
        breakdown("ablation_workers_2", 25, *one, "--workers", 2),
        breakdown("ablation_batch_x4", 30, *one, "--batch", 4 * options.batch),
        Step("against_stock", program(options, "benchmarks/against_stock.py", *against), 180),
        breakdown("ablation_compile", 120, *one, "--compile"),
    ]
    return tuple([step for step in part if step.name.split("_")[0] in options.measure] for part in (first, last))


def study(options: argparse.Namespace, start: str, epochs: int, together: int, seconds: float) -> Step:
    """The study of one start of the student."""
    project = options.work / "studies" / start
    flags: list[object] = ["--arms", *options.arms, "--seeds", *options.seeds, "--epochs", epochs]
    flags += ["--parallel", together, "--workers", share_of_cores(together) if together > 1 else options.workers]
    flags += ["--project", project, "--resume"]
    if train := [*options.train, *([f"cache={options.cache}"] if options.cache else [])]:
        flags += ["--train", *train]
    if start == "scratch":
        flags += ["--student", f"{Path(options.student).stem}.yaml"]
    elif start != "weights":
        flags += ["--start", start]
    command = program(options, "test_coco1k_kd.py", *flags)
    return Step(f"study_{start}", command, seconds, project, epochs, len(options.arms) * len(options.seeds))


def share_of_cores(together: int) -> int:
    """Loader processes for each of several runs at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, round(cores / together))


def makespan(durations: list[float], slots: int) -> float:
    """When the last of several runs ends, if each starts as soon as one of `slots` is free."""
    ends = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def study_seconds(epochs: int, epoch_seconds: dict[str, float], seeds: int, slots: int) -> float:
    """How long the trainings of a study take, given the seconds of an epoch by arm; SAME_TIME waits for the others."""
    last = [s for arm, s in epoch_seconds.items() if arm == SAME_TIME]
    first = [s for arm, s in epoch_seconds.items() if arm != SAME_TIME]
    stages = [[STARTUP_SECONDS + epochs * s for _ in range(seeds) for s in stage] for stage in (first, last)]
    return sum(makespan(stage, slots) for stage in stages)


def choose_epochs(
    starts: list[str], seconds: float, epoch_seconds: dict[str, float], seeds: int, slots: int
) -> dict[str, int]:
    """Epochs of each start's study so that all fit into `seconds`, equal shares for all.

    A start whose share would not do for the least epochs that can say something is left out, the last named first.
    """
    while starts:
        share, epochs = MARGIN * (seconds - CLOSING_SECONDS) / len(starts), 0
        while epochs < MOST_EPOCHS and study_seconds(epochs + 1, epoch_seconds, seeds, slots) <= share:
            epochs += 1
        short = [start for start in starts if epochs < STARTS[start]]
        if not short:
            return dict.fromkeys(starts, epochs)
        starts = [start for start in starts if start != short[-1]]
    return {}


def epoch_seconds(work: Work, together: int) -> dict[str, float]:
    """Seconds of an epoch by arm with `together` runs at once, as measured; guessed where nothing was."""
    content = work.read(f"together_{together}") or (work.read("breakdown") if together == 1 else None)
    measured: dict[str, list[float]] = {}
    for row in content["rows"] if content else []:
        measured.setdefault(row["arm"], []).append(row["epoch_seconds"])
    guess = max(1.0, together / 6)
    seconds = {
        arm: sum(measured[arm]) / len(measured[arm]) if arm in measured else guess * EPOCH_SECONDS[arm]
        for arm in work.options.arms
        if arm != SAME_TIME
    }
    if SAME_TIME in work.options.arms:  # more epochs, of the same length together
        seconds[SAME_TIME] = seconds.get("cwd", max(seconds.values(), default=0.0))
    return seconds


def best_together(work: Work) -> int:
    """How many runs at once end a study soonest, of those that were measured; unmeasured, the first that is named."""
    named = work.options.together or [1]
    tried = [n for n in named if work.done(f"together_{n}")]
    seeds = len(work.options.seeds)
    return min(tried, key=lambda n: study_seconds(20, epoch_seconds(work, n), seeds, n), default=named[0])


def studies(work: Work, seconds: float) -> list[Step]:
    """The studies that fit into `seconds`; those begun have the epochs they began with."""
    options, begun, pace = work.options, work.state["epochs"], work.state["pace"]
    together = work.state["together"] or best_together(work)
    each, seeds = epoch_seconds(work, together), len(options.seeds)
    new = [start for start in options.starts if start not in begun]
    if options.epochs:
        chosen = dict.fromkeys(new, options.epochs)
    else:
        unfinished = [begun[start] for start in options.starts if start in begun and not work.done(f"study_{start}")]
        kept = sum(study_seconds(epochs, each, seeds, together) for epochs in unfinished)
        chosen = choose_epochs(new, seconds / pace - kept, each, seeds, together)
    return [
        study(options, start, epochs, together, pace * study_seconds(epochs, each, seeds, together))
        for start in options.starts
        if (epochs := begun.get(start) or chosen.get(start))
    ]


def reserve(last: list[Step]) -> float:
    """What is kept from the studies for the measurements after them: compilation has only what is left over."""
    return sum(step.seconds for step in last if step.name != "ablation_compile")


def plan(work: Work) -> dict[str, Any]:
    """What would run, in order, and for how long."""
    first, last = measurements(work.options)
    left = 60 * work.options.minutes - work.state["used_seconds"]
    before = sum(step.seconds for step in first if not work.done(step.name))
    steps = [s for s in (*first, *studies(work, left - before - reserve(last)), *last) if not work.done(s.name)]
    total = sum(step.seconds for step in steps) + (CLOSING_SECONDS if any(step.project for step in steps) else 0)
    rows = [{"step": s.name, "seconds": round(s.seconds), **s.about, "command": shlex.join(s.command)} for s in steps]
    return {"minutes": work.options.minutes, "seconds": round(total), "steps": rows}


def parser(description: str | None = __doc__) -> argparse.ArgumentParser:
    """Every flag of `gpu_study.sh run` and `plan`."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, minutes = p.add_argument, float(os.environ.get("MINUTES", 25))
    add("--minutes", type=float, default=minutes, help="the budget, of work done (default: $MINUTES, else 25)")
    add("--work", type=Path, default=Path("gpu_study"), help="folder of all that is written (default: gpu_study)")
    add("--data", type=Path, help="of create_coco1k.py (default: WORK/input/coco1k/coco1k.yaml)")
    add("--student", default="yolo11n.pt", help="looked for in WORK/input/weights too (default: %(default)s)")
    add("--teacher", default="yolov8m.pt", help="likewise (default: %(default)s)")
    add("--imgsz", type=int, default=416)
    add("--batch", type=int, default=16)
    add("--workers", type=int, default=8, help="loader processes of a run that is alone (default: %(default)s)")
    add("--device", default="0")
    add("--arms", nargs="+", choices=[*EPOCH_SECONDS, SAME_TIME], default=list(EPOCH_SECONDS))
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--starts", nargs="*", choices=list(STARTS), default=["neck", "weights", "scratch"],
        help="of the student, a study each, in this order (default: neck weights scratch)")  # fmt: skip
    add("--train", nargs="+", default=[], metavar="KEY=VALUE", help="for the studies, as test_coco1k_kd.py takes them")
    add("--epochs", type=int, help="of each study (default: as many as fit)")
    add("--together", nargs="*", type=int, default=[6, 12], metavar="N", help="runs at once, to try (default: 6 12)")
    add("--cache", choices=("ram", "disk"), help="of decoded images, for the studies: Ultralytics' cache=")
    add("--steps", type=int, default=30, help="measured steps of each kind (default: %(default)s)")
    add("--seconds", type=float, default=15, help="measured of runs at once (default: %(default)s)")
    add("--measure", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="these alone (default: all)")
    return p


def work_of(options: argparse.Namespace) -> Work:
    """The work folder with the paths of what was unpacked into it."""
    options.work = options.work.absolute()
    options.data = (options.data or options.work / "input" / "coco1k" / "coco1k.yaml").absolute()
    for role in ("student", "teacher"):
        if (packed := options.work / "input" / "weights" / getattr(options, role)).exists():
            setattr(options, role, str(packed))
    return Work(options)


if __name__ == "__main__":
    print(json.dumps(plan(work_of(parser().parse_args())), indent=2))
