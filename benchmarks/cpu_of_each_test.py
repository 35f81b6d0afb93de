"""Processor time of each test, with the fixtures that it is the first to need, and of each file: a plugin of pytest.

    PYTHONPATH=benchmarks python -m pytest -p cpu_of_each_test tests/study/test_study.py

It does not depend on what else the machine does, as the time by the clock does, which stands beside it. All processes
that the tests start are counted, whoever waits for them. Those of a fork server are counted when it has waited for
them, which may be a test later.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SUBREAPER = 36  # Linux: processes whose parent has ended become ours, and their times with them
TICKS = os.sysconf("SC_CLK_TCK")

ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
found: list[tuple[float, float, str]] = []


def seconds() -> float:
    """Of this process and all that came from it."""
    parents, ticks = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "stat").read_text().rpartition(")")[2].split()
            parents[int(place.name)], ticks[int(place.name)] = int(words[1]), sum(map(int, words[11:15]))
    ours, more = set(), {os.getpid()}
    while more:
        ours |= more
        more = {pid for pid, parent in parents.items() if parent in ours} - ours
    return sum(ticks[pid] for pid in ours) / TICKS


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    used, began = seconds(), time.monotonic()
    result = yield
    found.append((seconds() - used, time.monotonic() - began, item.nodeid))
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("processor time, time by the clock")
    files: dict[str, tuple[float, float]] = {}
    for used, took, name in found:
        before = files.get(file := name.partition("::")[0], (0.0, 0.0))
        files[file] = before[0] + used, before[1] + took
    of_files = [(*times, file) for file, times in files.items()]
    for used, took, name in [*sorted(found, reverse=True), *sorted(of_files, reverse=True)]:
        terminalreporter.write_line(f"{used:8.1f} s {took:8.1f} s  {name}")
    terminalreporter.write_line(f"{sum(used for used, _, _ in found):8.1f} s")
