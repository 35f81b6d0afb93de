"""Our programs, begun as forks of a process that has imported PyTorch: apart as any process, and two seconds sooner.

python -S tests/programs.py WORDS...     is `python WORDS...` where the environment says that such a process listens
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from types import SimpleNamespace
from typing import IO

PROJECT = str(Path(__file__).resolve().parents[1])
ADDRESS = "COCO1K_KD_TESTS_FORKS"  # in the environment of a fork: where to ask for others


class Fork:
    """A process of `python SCRIPT ...`, `-m MODULE ...` or `-c CODE ...`, with what we need of `subprocess.Popen`."""

    def __init__(
        self, words: Sequence[object], files: Sequence[int], cwd: Path, env: Mapping[str, str], session: bool = False
    ) -> None:
        """`files` become its descriptors 0, 1 and 2; what follows is open in it, under any number."""
        self.returncode: int | None = None
        place = address(env)
        env = {"OMP_NUM_THREADS": "1", **env, ADDRESS: place}
        asked = {"words": [*map(str, words)], "cwd": str(cwd), "env": env, "session": session}
        self._keeper = socket.socket(socket.AF_UNIX)
        self._keeper.connect(f"\0{place}")
        socket.send_fds(self._keeper, [b"."], files)
        self._keeper.sendall(json.dumps(asked).encode() + b"\n")
        self._answers = self._keeper.makefile("rb")
        self.pid = int(self._answers.readline())

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._keeper], [], [], timeout)[0]:
                raise TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._keeper.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Program(Fork):
    """A program of ours whose output is kept."""

    def __init__(
        self, command: Sequence[object], cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        assert command[0] == sys.executable
        self._said: list[IO[str]] = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        with Path(os.devnull).open() as nothing:
            files = [file.fileno() for file in (nothing, *self._said)]
            super().__init__(command[1:], files, cwd or Path.cwd(), os.environ if env is None else env)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Its output and its errors, when it has ended."""
        self.wait(timeout)
        for file in self._said:
            file.seek(0)
        out, errors = (file.read() for file in self._said)
        return out, errors


def call(
    command: Sequence[object], cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 600
) -> CompletedProcess[str]:
    """Run `command` to its end, as `subprocess.run` does with captured output.

    For programs that need no other start than others: who sets what PyTorch and Ultralytics read when they are
    imported starts it by `subprocess`.
    """
    program = Program(command, cwd, env)
    try:
        return CompletedProcess([*map(str, command)], program.wait(timeout), *program.communicate())
    finally:
        program.kill()


def forking() -> SimpleNamespace:
    """The module `subprocess` for one that starts our programs: those are then forks, too."""
    return SimpleNamespace(**{**vars(subprocess), "Popen": _popen})


def _popen(
    command: Sequence[str],
    *,
    stdout: IO[bytes],
    stderr: int,
    start_new_session: bool,
    stdin: int | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> Fork | subprocess.Popen[bytes]:
    given = {"stdout": stdout, "stderr": stderr, "start_new_session": start_new_session, "stdin": stdin}
    if not address(env := os.environ if env is None else env):
        return subprocess.Popen(command, pass_fds=pass_fds, env=env, **given)
    assert stderr == subprocess.STDOUT and stdin in (None, subprocess.PIPE)
    read, write = os.pipe()
    files = [read, stdout.fileno(), stdout.fileno(), *pass_fds]
    fork = Fork(command[1:], files, Path.cwd(), env, start_new_session)
    os.close(read)
    fork.stdin = os.fdopen(write, "wb")  # closed with its last reference, or by the system with this process
    return fork


def address(env: Mapping[str, str]) -> str:
    """Where a process listens that forks those of this environment; "" for none.

    It is started when it is first needed: for every PYTHONPATH another, since Python looks there when it starts.
    """
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    kind = os.pathsep.join(sorted({*paths} - {PROJECT, ""}))
    if given := os.environ.get(ADDRESS):
        return given if given == _name(given.split()[0], kind) else ""
    return _start(kind)[1]


def _name(owner: str, kind: str) -> str:
    return f"{owner} coco1k_kd-tests {zlib.crc32(kind.encode())}"


@cache
def _start(kind: str) -> tuple[subprocess.Popen[bytes], str]:
    """The process, which ends with us, and its address."""
    with socket.socket(socket.AF_UNIX) as listener:
        name = _name(str(os.getpid()), kind)
        listener.bind(f"\0{name}")
        listener.listen(100)
        words = [sys.executable, str(Path(__file__).with_name("forks.py")), str(listener.fileno())]
        env = {**os.environ, "PYTHONPATH": kind, "OMP_NUM_THREADS": "1", "YOLO_AUTOINSTALL": "false"}
        return subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], env=env), name


if __name__ == "__main__":
    sys.exit(Fork(sys.argv[1:], [0, 1, 2], Path.cwd(), os.environ).wait())
