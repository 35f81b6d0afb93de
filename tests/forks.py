"""A process that has imported PyTorch and forks what it is asked for: see programs.py, which starts it and asks.

It listens at a socket that it inherits, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

FILES = 8  # descriptors that come with a request, at most: the three of every process, and of a run its lock
# Ours, and what each training imports on its way; not polars, which begins threads when it is imported.
READY = (
    *("coco1k_kd.report.write", "coco1k_kd.runs.train", "coco1k_kd.study.study"),
    *("torch._inductor.config", "torchvision", "ultralytics.utils.callbacks.raytune"),
)
KNOW_THEIR_RANK = ("ultralytics", "coco1k_kd", "sitecustomize")


def serve(listener: socket.socket) -> None:
    """Start the processes that are asked for, until nobody is left to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal
    listener.set_inheritable(False)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            keep(connection)
            os._exit(0)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    with contextlib.suppress(ChildProcessError):
        while os.wait():  # their processor time is part of ours
            pass


def keep(connection: socket.socket) -> None:
    """Start the process that is asked for; tell its number and, when it has ended, how."""
    _, files, _, _ = socket.recv_fds(connection, 1, FILES)
    with connection.makefile("rb") as lines:
        asked = json.loads(lines.readline())
    process = multiprocessing.get_context("fork").Process(target=begin, args=(files,), kwargs=asked)
    process.start()
    for file in files:
        os.close(file)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"%d\n" % process.pid)
    process.join()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"%d\n" % process.exitcode)


def begin(files: list[int], words: list[str], cwd: str, env: dict[str, str], session: bool) -> None:
    """Be `python WORDS`."""
    import programs
    import torch

    from coco1k_kd.runs import launch, ranks

    if session:
        os.setsid()
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
        os.close(file)
    for number, name in ((1, "stdout"), (2, "stderr")):  # those of now may be of another kind of file
        setattr(sys, name, os.fdopen(number, "w", buffering=1, closefd=False))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if "RANK" in env:  # which Ultralytics reads when it is imported
        for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in KNOW_THEIR_RANK]:
            vars(module).update({key: int(env[key]) for key in ("RANK", "LOCAL_RANK") if key in vars(module)})
    torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    launch.subprocess = programs.forking()
    ranks.subprocess = SimpleNamespace(PIPE=subprocess.PIPE, Popen=Rank)
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, cwd)
        warnings.filterwarnings("ignore", module="runpy")  # it says that we have imported it before
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, cwd)
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")


class Rank:
    """A rank of the run that we are, with what `run_ranks` needs of `subprocess.Popen`.

    It is forked here and not by the server, and so has our session and our open files, as the rank of a user has.
    """

    ends: ClassVar[list[int]] = []  # of what ranks have for their standard input: closed where this process ends

    def __init__(self, command: Sequence[str], *, stdin: int, close_fds: bool, env: Mapping[str, str]) -> None:
        assert stdin == subprocess.PIPE and not close_fds
        read, end = os.pipe()
        self.ends.append(end)
        files = [read, os.dup(1), os.dup(2)]
        self._process = multiprocessing.get_context("fork").Process(target=be_rank, args=(files, command[1:], env))
        self._process.start()
        for file in files:
            os.close(file)
        self.kill, self.wait = self._process.kill, self._process.join

    def poll(self) -> int | None:
        return self._process.exitcode


def be_rank(files: list[int], words: list[str], env: dict[str, str]) -> None:
    """Be `python WORDS` as a rank of a run."""
    import sitecustomize  # that of cpu_ranks/

    for end in Rank.ends:
        os.close(end)
    try:
        begin(files, words, str(Path.cwd()), env, session=False)
    finally:
        sitecustomize.refuse_an_open_group()  # multiprocessing does nothing of what is to be done at exit


if __name__ == "__main__":
    sys.path[0:0] = [str(Path(__file__).resolve().parents[1])]
    for name in READY:
        importlib.import_module(name)
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "a fork would wait in vain for threads that it does not have"
    gc.freeze()  # what is here stays, in memory that all share
    serve(socket.socket(fileno=int(sys.argv[1])))
