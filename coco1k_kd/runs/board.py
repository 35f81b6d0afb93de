"""One table of the runs that are under way, however many and wherever they run: it reads their folders."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from coco1k_kd.runs.launch import holder

CURVES = "results.csv"
_EVERY_SECONDS = 60  # between two tables in a file; a terminal has one that changes


class Board:
    """The table, on `stream`: redrawn in place on a terminal, written now and then elsewhere. A context manager.

    Args:
        done: runs that are finished already.
        epochs: of all the runs that are left, as far as is known.
        stream: where to; standard error by default.
        note: a line to stand above the table; none where it is empty.
    """

    def __init__(
        self, done: int, runs: int, epochs: int, stream: TextIO | None = None, note: Callable[[], str] = str
    ) -> None:
        self.note = note
        self.done, self.runs, self.epochs = done, runs, epochs
        self.stream = stream or sys.stderr
        self._started = self._written = time.monotonic()
        self._rows: dict[str, _Row] = {}
        self._trained = 0  # epochs of runs that have ended since
        self._lines = 0  # of the table on the terminal

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def add(self, label: str, folder: Path, epochs: int) -> None:
        """A run waits for its place from now on."""
        self._rows[label] = _Row(folder, epochs)

    def remove(self, label: str, line: str) -> None:
        """A run has ended, and what is to be said of it."""
        row = self._rows.pop(label)
        self.done, self._trained = self.done + 1, self._trained + row.epochs - row.first
        self.say(f"{self.done}/{self.runs} {label}: {line}")

    def say(self, line: str) -> None:
        """A line above the table, that stays."""
        self.wipe()
        print(line, flush=True)

    def wipe(self) -> None:
        """Take the table off the terminal, before others write there."""
        if self._lines:
            self.stream.write(f"\x1b[{self._lines}F\x1b[J")
            self.stream.flush()
            self._lines = 0

    def refresh(self) -> None:
        """Look what the runs have done, and show it where something has changed."""
        changed = [row.again() for row in self._rows.values()]
        terminal = self.stream.isatty()
        if terminal or (any(changed) and time.monotonic() - self._written >= _EVERY_SECONDS):
            self.wipe()
            text = self._text()
            self._lines = terminal * text.count("\n")
            self.stream.write(text)
            self.stream.flush()
            self._written = time.monotonic()

    def _text(self) -> str:
        shown = {label: row for label, row in self._rows.items() if row.where}
        width = max([len("run"), *map(len, shown)])
        lines = [line] if (line := self.note()) else []
        lines += [f"{self.done} of {self.runs} runs done, {self.runs - self.done - len(shown)} wait{self._rest()}"]
        lines += [f"  {'run':{width}}  {'epoch':>9}  {'s/epoch':>8}  process"] * bool(shown)
        for label, row in shown.items():
            speed = f"{row.seconds:.1f}" if row.seconds else ""
            lines.append(f"  {label:{width}}  {f'{row.epoch}/{row.epochs}':>9}  {speed:>8}  {row.where}")
        return "\n".join(lines) + "\n"

    def _rest(self) -> str:
        trained = self._trained + sum(row.epoch - row.first for row in self._rows.values())
        left = self.epochs - trained
        if not trained or left <= 0:
            return ""
        minutes = left * (time.monotonic() - self._started) / trained / 60
        return f", about {minutes / 60:.1f} h to go" if minutes >= 90 else f", about {minutes:.0f} min to go"


class _Row:
    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder, self.epochs = folder, epochs
        self.first, _ = progress(folder)
        self.epoch, self.seconds, self.where = self.first, 0.0, ""
        self._before = holder(folder)  # of a run that was killed: not of ours

    def again(self) -> bool:
        """Read the folder again; has an epoch ended, or the run begun?"""
        before = (self.epoch, self.where)
        found = holder(self.folder)
        self.where = "" if found == self._before else found
        if self.where:
            self.epoch, seconds = progress(self.folder)
            self.seconds = seconds / (self.epoch - self.first) if self.epoch > self.first else 0.0
        return before != (self.epoch, self.where)


def progress(folder: Path) -> tuple[int, float]:
    """Epochs that a run has done, and the seconds since its training began or went on."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        rows = (folder / CURVES).read_text().splitlines()[1:]
        return len(rows), float(rows[-1].split(",")[1])
    return 0, 0.0
