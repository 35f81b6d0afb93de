"""Runs of a study as child processes: quiet, watched, and gone when the study is gone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import structs

from coco1k_kd.errors import UserError
from coco1k_kd.files import lock
from coco1k_kd.runs.results import finished, finished_as
from coco1k_kd.runs.spec import SPEC, Outcome, Spec, result_type, write

FAILURE, LOG, LOCK = "failure.json", "train.log", "run.lock"
TIED = "--tied"  # tells a run that its standard input is its study's life line
_INSTALLS_NOTHING = {"YOLO_AUTOINSTALL": "false"}  # Ultralytics would change what the next run finds
_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 10
_LOCK_SECONDS = 120  # the lock of a node that lost its power stays for up to 90 on NFS
_TAIL = 8
_ROOM = 1 << 16  # bytes that a run needs at least, for what it says


class RunFailed(Exception):
    """A run ended without a result. The message says which, why, and where its log is."""


class RunKilled(RunFailed):
    """A run was ended by a signal: where it was does not matter, and it goes on from its snapshot."""


class Stopped(Exception):
    """The study ends, and with it a run that is under way."""


def holder(folder: Path) -> str:
    """Host and process that run in `folder`, or did when they were killed; "" for none."""
    with contextlib.suppress(OSError):
        return (folder / LOCK).read_text()
    return ""


def launch(spec: Spec, label: str, stop: threading.Event | None = None) -> Outcome:
    """Run `spec` in a process of its own until it ends, however long that takes; return its result.

    The run's output goes to `train.log` in its folder. Interrupted or told to `stop`, it ends the run before it lets
    go; a run that another process is still at is waited for, for two minutes.

    Raises:
        UserError: the run found its input bad.
        RunKilled: it was killed.
        RunFailed: it failed otherwise.
        Stopped: as it was told.
    """
    folder, stop = Path(spec.folder), stop or threading.Event()
    kind = result_type(spec)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, stop) as held, (folder / LOG).open("ab") as log:
        if result := finished_as(spec, kind):  # by whom we waited for
            return result
        write(folder / SPEC, structs.replace(spec, launched=time.monotonic()))
        (folder / FAILURE).unlink(missing_ok=True)
        # Its standard input is our life line: closed by the system when we end, however we do.
        child = subprocess.Popen(
            [sys.executable, "-m", "coco1k_kd.runs.train", str(folder / SPEC), TIED],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[held],
            env={**os.environ, "PYTHONPATH": _import_path(), "PYTHONUNBUFFERED": "1", **_INSTALLS_NOTHING},
        )
        try:
            _wait(child, stop)
        except BaseException:
            _end(child)
            raise
        result = finished(folder, kind)
    if child.returncode == 0 and result is not None:
        return result
    raise _failure(folder, label, child.returncode)


@contextlib.contextmanager
def _locked(folder: Path, stop: threading.Event) -> Iterator[int]:
    """Hold the run folder for us and for what we start: the lock goes with the last of these processes.

    Two writers in one folder would tear it: an orphan whose study was killed, a node that was given up too early.
    """
    with (folder / LOCK).open("a+") as file:
        end = time.monotonic() + _LOCK_SECONDS
        while not lock(file):
            if time.monotonic() > end:
                raise RunFailed(f"{folder} is still written to by process {holder(folder)}: end that first")
            if stop.wait(_POLL_SECONDS):
                raise Stopped
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield file.fileno()
        finally:
            file.truncate(0)


def _wait(child: subprocess.Popen[bytes], stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_POLL_SECONDS)
            return
    raise Stopped


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
        if failure["kind"] == "input":
            return UserError(f"{label}: {failure['message']}")
        return RunFailed(f"{label} failed: {failure['message']}\n  log: {log}")
    if code < 0:
        name = signal.Signals(-code).name
        why = f"was killed ({name}); if nobody did it on purpose, memory ran out: take a smaller --batch or --workers 0"
        return RunKilled(_told(label, why, lines, log))
    if full := _full(folder, lines[-1] if lines else ""):
        return RunFailed(f"{label} failed: {full}: make room for {folder.parent}\n  log: {log}")
    why = f"failed (exit code {code}): {lines[-1].strip() if lines else 'it said nothing'}"
    return RunFailed(_told(label, why, lines, log))


def _full(folder: Path, said: str) -> str:
    """Why a run had no room in its folder, by its last words, or where it had no room for them; "" if it had."""
    reasons = {os.strerror(errno.ENOSPC): "the disk is full", os.strerror(errno.EDQUOT): "the quota is used up"}
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        said = f"{said} {error.strerror}"
    return next((why for reason, why in reasons.items() if reason in said), "")


def _told(label: str, why: str, lines: list[str], log: Path) -> str:
    return "\n".join([f"{label} {why}", *(f"  | {line[:160]}" for line in lines[-_TAIL:]), f"  log: {log}"])


def _import_path() -> str:
    """Where this package lies, for a child that may run from another folder."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
