"""Processor time of test files, each by itself: all processes that it starts are counted, whoever waits for them.

    python benchmarks/times_of_tests.py                      all files
    python benchmarks/times_of_tests.py tests/study/test_study.py -k=killed

It does not depend on what else the machine does; what files share (trainings, data) is made for each of them anew.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUBREAPER = 36  # Linux: processes whose parent has ended become ours, and their times with them


def seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run pytest with each file; flags are handed on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="test files (default: all)")
    args, flags = parser.parse_known_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    for file in args.files or sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py")):
        before = seconds()
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *flags, file]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        lines = done.stdout.strip().splitlines()
        print(f"{file:45}{seconds() - before:8.1f} s  {lines[-1] if lines else done.stderr[-200:]}", flush=True)


if __name__ == "__main__":
    main()
