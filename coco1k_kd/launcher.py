"""Runs of a study as child processes: quiet, watched, and gone when the study is gone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from coco1k_kd.errors import EXIT_BAD_INPUT, UserError
from coco1k_kd.files import write_json

SPEC, RESULT, FAILURE, LOG, CURVES = "spec.json", "result.json", "failure.json", "train.log", "results.csv"
TIED = "--tied"  # tells a run that its standard input is its study's life line
_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 10
_TAIL = 8


class RunFailed(Exception):
    """A run ended without a result. The message says which, why, and where its log is."""


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of a run that has ended well, else None."""
    path = folder / RESULT
    return json.loads(path.read_bytes()) if path.exists() else None


def launch(spec: dict[str, Any], label: str, epochs: int = 0) -> dict[str, Any]:
    """Run `spec` in a process of its own until it ends, with a bar of its epochs; return its result.

    The run's output goes to `train.log` in its folder. Interrupted, it ends the run before it lets go.

    Raises:
        UserError: the run found its input bad.
        RunFailed: it failed otherwise, or was killed.
    """
    folder = Path(spec["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SPEC, spec)
    (folder / FAILURE).unlink(missing_ok=True)
    with (folder / LOG).open("ab") as log:
        # Its standard input is our life line: closed by the system when we end, however we do.
        child = subprocess.Popen(
            [sys.executable, "-m", "coco1k_kd.training", str(folder / SPEC), TIED],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": _import_path(), "PYTHONUNBUFFERED": "1"},
        )
        try:
            _watch(child, folder, label, epochs)
        except BaseException:
            _end(child)
            raise
    result = finished(folder)
    if child.returncode == 0 and result is not None:
        return result
    raise _failure(folder, label, child.returncode)


def _watch(child: subprocess.Popen[bytes], folder: Path, label: str, epochs: int) -> None:
    first, _ = _progress(folder / CURVES)
    # also where there is no terminal: run_coco1k_kd.sh passes all that we print on, and keeps it
    with tqdm(total=epochs, initial=first, desc=label, unit="epoch", disable=not epochs, leave=False) as bar:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_POLL_SECONDS)
                return
            done, seconds = _progress(folder / CURVES)
            if bar.n == first < done < epochs:
                epoch = seconds / (done - first)
                bar.write(f"  an epoch takes {epoch:.0f} s: about {epoch * (epochs - done) / 60:.0f} min to go")
            if done != bar.n:
                bar.update(done - bar.n)
            elif sys.stderr.isatty():  # the clock ticks; in a file each tick would be a line
                bar.refresh()


def _progress(csv: Path) -> tuple[int, float]:
    """Epochs done, and the seconds since training began or went on."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        rows = csv.read_text().splitlines()[1:]
        return len(rows), float(rows[-1].split(",")[1])
    return 0, 0.0


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and its data loaders."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE_SECONDS)
            return


def _failure(folder: Path, label: str, code: int) -> Exception:
    log = folder / LOG
    lines = [line for line in log.read_text(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    with contextlib.suppress(OSError):
        failure = json.loads((folder / FAILURE).read_bytes())
        if code == EXIT_BAD_INPUT:
            return UserError(f"{label}: {failure['message']}")
        return RunFailed(f"{label} failed: {failure['message']}\n  log: {log}")
    if code < 0:
        name = signal.Signals(-code).name
        why = f"was killed ({name}); if nobody did it on purpose, memory ran out: take a smaller --batch or --workers 0"
    elif lines and os.strerror(errno.ENOSPC) in lines[-1]:
        return RunFailed(f"{label} failed: the disk is full: make room for {folder.parent}\n  log: {log}")
    else:
        why = f"failed (exit code {code}): {lines[-1].strip() if lines else 'it said nothing'}"
    tail = "\n".join(f"  | {line[:160]}" for line in lines[-_TAIL:])
    return RunFailed(f"{label} {why}\n{tail}\n  log: {log}")


def _import_path() -> str:
    """Where this package lies, for a child that may run from another folder."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
