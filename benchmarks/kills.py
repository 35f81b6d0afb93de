#!/usr/bin/env python3
"""Does a study that is killed again and again end as one that nobody disturbed? docs/lab/kills.md.

    nice python benchmarks/kills.py --kills 20        # about 15 studies' time; a study takes a minute of CPU

A study of two arms and two seeds on generated images is killed (SIGKILL) at random moments, also while it writes a
snapshot and while it compares, and goes on with --resume. Every other time its runs are killed with it; else they must
notice by themselves. When a study has come to its end, its comparison must be that of the undisturbed one but for
times, memory and places, and the next one begins.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from studies import likely_models, runs_of  # noqa: E402

from coco1k_kd.demo import generate_coco  # noqa: E402

RANDOM, SNAPSHOT, COMPARISON = "at random", "in a snapshot", "in the comparison"
RUNS = 4
# What another machine load, or a second attempt, may change in comparison_*.json.
TIMES = {
    *(
        "train_seconds",
        "val_seconds",
        "cpu_seconds",
        "cost_seconds",
        "images_per_second",
        "peak_memory_bytes",
        "overhead",
    ),
    *("resumed_after_epochs", "hours_spent", "hours_next", "ms_per_image", "command"),
}


def without_times(value: Any, project: Path, stamp: str) -> Any:
    """A comparison without what may differ between two studies of the same settings; places are those of none."""
    if isinstance(value, dict):
        return {key: without_times(item, project, stamp) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [without_times(item, project, stamp) for item in value]
    return value.replace(str(project), "PROJECT").replace(stamp, "STAMP") if isinstance(value, str) else value


def comparison(project: Path) -> Any:
    """What the newest comparison of a project says, but for times."""
    path = max(project.glob("comparison_*.json"))
    return without_times(json.loads(path.read_bytes()), project, path.stem.removeprefix("comparison_"))


def where_they_differ(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Yield the places at which two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from where_they_differ(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from where_they_differ(*pair, f"{place}[{number}]")
    elif one != other:
        yield f"{place}: {str(one)[:80]} against {str(other)[:80]}"


@dataclass
class Killer:
    """Kills studies of one command, and lets them go on.

    Attributes:
        command: of the study, without --project and --resume.
        seconds: that an undisturbed study takes.
        runs: that it has.
        told: of each kill its kind, its second, and how far the study was.
    """

    command: list[str]
    seconds: float
    rng: random.Random
    runs: int = RUNS
    told: list[str] = field(default_factory=list)

    def study(self, project: Path, moments: list[str]) -> None:
        """Do a study to its end, killed at each of `moments` while it lasts; those that came are taken off the list."""
        while True:
            process = self._start(project)
            moment = moments[0] if moments else None
            came = bool(moment) and self._wait(process, project, moment)
            if not came:
                if process.wait():
                    raise SystemExit(f"the study ended with exit code {process.returncode}: see {project}.log")
                return
            began = time.monotonic() - self._began
            done = len(list(project.glob("*_2*/result.json")))
            everything = len(self.told) % 2 == 0
            self._kill(process, project, everything)
            whom = "study and runs" if everything else "study"
            self.told.append(f"{moment}, {whom}, after {began:.1f} s, {done} of {self.runs} runs done")
            print(self.told[-1], flush=True)
            moments.pop(0)

    def _start(self, project: Path) -> subprocess.Popen[bytes]:
        self._began = time.monotonic()
        with Path(f"{project}.log").open("ab") as log:
            command = [*self.command, "--project", str(project), "--resume"]
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def _wait(self, process: subprocess.Popen[bytes], project: Path, moment: str) -> bool:
        """Wait for the moment; False where the study ends before."""
        ends = self._began + self.rng.uniform(0.0, 0.3 * self.seconds)
        shortly = self.rng.uniform(0.0, 0.1 * self.seconds)
        condition: dict[str, Callable[[], object]] = {
            RANDOM: lambda: time.monotonic() > ends,
            SNAPSHOT: lambda: list(project.glob("*/weights/.resume.pt.*")),
            COMPARISON: lambda: len(list(project.glob("*_2*/result.json"))) == self.runs,
        }
        while process.poll() is None:
            if condition[moment]():
                if moment == COMPARISON:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(shortly)
                return process.poll() is None
            time.sleep(0.002)
        return False

    def _kill(self, process: subprocess.Popen[bytes], project: Path, everything: bool) -> None:
        runs = runs_of(project) if everything else []
        for group in {process.pid, *(os.getpgid(run) for run in runs)}:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        process.wait()
        end = time.monotonic() + 120
        while runs_of(project):
            if time.monotonic() > end:
                raise SystemExit(f"runs outlive their study: {runs_of(project)}")
            time.sleep(0.05)


def killed_like_undisturbed(command: list[str], folder: Path, moments: Iterable[str], seed: int = 0) -> list[str]:
    """Kill studies at `moments`; SystemExit where one does not end like the undisturbed one. Returns what was killed.

    Args:
        command: of a study of two arms and two seeds, without --project and --resume.
        folder: for the projects.
        moments: of the kills, in this order.
        seed: of the random moments.
    """
    began = time.monotonic()
    whole = folder / "undisturbed"
    subprocess.run([*command, "--project", str(whole)], check=True, capture_output=True)
    killer, left = Killer(command, time.monotonic() - began, random.Random(seed)), list(moments)
    print(f"undisturbed: {killer.seconds:.0f} s", flush=True)
    expected, number = comparison(whole), 0
    while left:
        number += 1
        project = folder / f"killed{number}"
        killer.study(project, left)
        if differences := list(where_they_differ(comparison(project), expected)):
            raise SystemExit("\n".join([f"study {number} differs from the undisturbed one:", *differences]))
        print(f"study {number}: the same as the undisturbed one", flush=True)
    return killer.told


def made(folder: Path) -> list[str]:
    """Generate images and models, and the command of a study of them."""
    generate_coco(folder / "coco", train=60, val=30)
    create = [sys.executable, str(ROOT / "create_coco1k.py"), "--coco-root", str(folder / "coco")]
    create += ["--target-size", "16", "--val-size", "8", "--output-dir", str(folder / "coco1k")]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    truth = json.loads((folder / "coco1k/annotations/instances_val2017.json").read_bytes())
    names = [category["name"] for category in sorted(truth["categories"], key=lambda category: category["id"])]
    likely_models(folder, names)
    flags = {"--data": folder / "coco1k/coco1k.yaml", "--student": folder / "student.pt"}
    flags |= {"--teacher": folder / "teacher.pt", "--epochs": 2, "--batch": 8, "--imgsz": 64, "--workers": 0}
    flags |= {"--device": "cpu", "--judge": "val"}
    study = [sys.executable, str(ROOT / "test_coco1k_kd.py"), *(str(part) for flag in flags.items() for part in flag)]
    return [*study, "--arms", "baseline", "cwd", "--seeds", "0", "1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    special = [SNAPSHOT, COMPARISON] * (args.kills // 6)
    moments = [*special, *[RANDOM] * (args.kills - len(special))]
    random.Random(args.seed).shuffle(moments)
    with tempfile.TemporaryDirectory() as folder:
        told = killed_like_undisturbed(made(Path(folder)), Path(folder), moments, args.seed)
        print(f"{len(told)} kills: every study ended like the undisturbed one")


if __name__ == "__main__":
    main()
