#!/usr/bin/env python3
"""Does what `gpu_plan.py` plans, within a budget of minutes; `benchmarks/gpu_study.sh run` starts it.

What is done stands: the same command goes on after any kind of end, and a larger --minutes does what found no time.
Everything is in WORK/results from the moment it is known: JSON of each step, pictures, logs, and summary.md.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu_plan import STARTS, Step, Work, measurements, parser, reserve, studies, work_of
from gpu_summary import markdown

from coco1k_kd.errors import UserError, run_cli
from coco1k_kd.files import write_atomic, write_json

TICK = 0.5
SAVE_EVERY = 10.0  # seconds
PATIENCE = 20.0  # of a step that is told to end


class Runner:
    """Does the steps, one after the other, except that a study's comparison runs beside what follows."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.running: dict[str, tuple[Step, subprocess.Popen[bytes], float]] = {}
        self._since = self._saved = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        used = self.work.state["used_seconds"] + time.monotonic() - self._since
        return 60 * self.work.options.minutes - used

    def save(self) -> None:
        """Write the state and the summary."""
        now = time.monotonic()
        self.work.state["used_seconds"] += now - self._since
        self._since = self._saved = now
        write_json(self.work.results / "state.json", self.work.state | {"command": sys.argv[1:]})
        write_atomic(self.work.results / "summary.md", markdown(self.work.results))

    def note(self, name: str, state: str, **more: object) -> None:
        """Say and remember what has become of a step."""
        self.work.state["steps"][name] = {"state": state, **more}
        about = "".join(f", {key} {value}" for key, value in more.items())
        print(f"{time.strftime('%H:%M:%S')} {name}: {state}{about}; {self.left / 60:.1f} min left", flush=True)
        self.save()

    def run(self) -> int:
        """Do what is left, as far as the budget goes. Returns 1 if a step failed."""
        first, last = measurements(self.work.options)
        try:
            for step in first:
                self.measure(step)
            for start in self.work.options.starts:
                self.study(start, reserve([step for step in last if not self.work.done(step.name)]))
            self.wait()  # what follows is timed: nothing may run beside it
            for step in last:
                self.measure(step)
        finally:
            self.end_all("interrupted")
            self.save()
        return int(any(entry["state"] == "failed" for entry in self.work.state["steps"].values()))

    def measure(self, step: Step) -> None:
        """Do a measurement, if it is not done and fits."""
        if self.work.done(step.name):
            return
        if self.left < step.seconds:
            why = f"it takes {step.seconds:.0f} s, {max(self.left, 0):.0f} s are left"
            return self.note(step.name, "skipped", why=why)
        self.begin(step)
        self.wait()

    def study(self, start: str, kept: float) -> None:
        """Do a start's study, if it is not done and fits, up to where only its comparison is left."""
        name, state = f"study_{start}", self.work.state
        if self.work.done(name):
            return
        step = next((step for step in studies(self.work, self.left - kept) if step.name == name), None)
        if step is None or self.left <= 0:
            why = f"{STARTS[start]} epochs, the least that can say something, do not fit"
            return self.note(name, "skipped", why=why)
        fresh = start not in state["epochs"]
        state["epochs"][start] = step.epochs  # a study goes on with the epochs and the slots that it began with
        state["together"] = int(step.command[step.command.index("--parallel") + 1])
        self.begin(step)
        began = time.monotonic()
        while step.name in self.running and not step.trained():
            self.tick()
        if fresh and step.trained():  # as fast as planned? The next study's epochs follow from that
            state["pace"] *= (time.monotonic() - began) / step.seconds

    def begin(self, step: Step) -> None:
        """Start a step; what it says goes to a log, the result of a measurement to a file beside it."""
        logs = self.work.results / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.note(step.name, "running", **step.about)
        result = (f"{step.name}.log", "ab") if step.project else (f"{step.name}.json", "wb")
        with (logs / f"{step.name}.log").open("ab") as log, (logs / result[0]).open(result[1]) as out:
            process = subprocess.Popen(step.command, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        self.running[step.name] = step, process, time.monotonic()

    def wait(self) -> None:
        """Until everything that was begun has ended."""
        while self.running:
            self.tick()

    def tick(self) -> None:
        """Take in what has ended, and end everything when the time is over."""
        time.sleep(TICK)
        for step, process, began in list(self.running.values()):
            if process.poll() is not None:
                del self.running[step.name]
                self.ended(step, process.returncode, time.monotonic() - began)
        if self.left <= 0:
            self.end_all("out of time")
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def ended(self, step: Step, code: int, seconds: float) -> None:
        """Take in the result of a step."""
        logs = self.work.results / "logs"
        if code:
            said = (logs / f"{step.name}.log").read_text(errors="replace").split("\n")
            line = next((line for line in reversed(said) if line.strip()), "nothing")
            return self.note(step.name, "failed", code=code, said=line[-300:])
        if step.project:
            for pattern in ("comparison_*.json", "comparison_*.md", "kd_comparison_*.png"):
                newest = max(step.project.glob(pattern))
                shutil.copy(newest, self.work.results / f"{step.name}{newest.suffix}")
            with tarfile.open(self.work.options.work / f"predictions_{step.project.name}.tar.gz", "w:gz") as archive:
                for path in sorted(step.project.glob("*/predictions_best.json")):  # every figure can be recomputed
                    archive.add(path, f"{path.parent.name}/{path.name}")
        else:
            (logs / f"{step.name}.json").replace(self.work.results / f"{step.name}.json")
        self.note(step.name, "done", seconds=round(seconds, 1), **step.about)

    def end_all(self, why: str) -> None:
        """End what is running: a study keeps its snapshots, and goes on another time."""
        for step, process, _ in self.running.values():
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.note(step.name, why, **step.about)
        self.running.clear()


def main() -> int:
    work = work_of(parser(__doc__).parse_args())
    if not work.options.data.exists():
        raise UserError(f"{work.options.data} does not exist: unpack all parts first, or give --data or COCO_ROOT")
    for number in (signal.SIGTERM, signal.SIGINT):  # `kill` is as Ctrl-C, also for what a shell began in its background
        signal.signal(number, signal.default_int_handler)
    work.options.work.mkdir(parents=True, exist_ok=True)
    with (work.options.work / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process is at work in {work.options.work}") from None
        code = Runner(work).run()
    print((work.results / "summary.md").read_text())
    return code


if __name__ == "__main__":
    run_cli(main)
