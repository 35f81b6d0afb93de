"""Our programs, begun as forks of a process that has imported PyTorch: apart as any process, and two seconds sooner."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["coco1k_kd.study.study", "coco1k_kd.runs.train", "coco1k_kd.report.write"])


def call(
    command: Sequence[object], cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 600
) -> CompletedProcess[str]:
    """Run `python SCRIPT ...` or `python -m MODULE ...` to its end, as `subprocess.run` does with captured output.

    For programs that are left alone: who signals one, looks for its children or sets what PyTorch and Ultralytics read
    when they are imported starts it by `subprocess`.
    """
    python, *words = map(str, command)
    assert python == sys.executable
    env = {"OMP_NUM_THREADS": "1", **(os.environ if env is None else env)}
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("stdout", "stderr")]
        program = _forks.Process(target=_begin, args=(words, cwd or Path.cwd(), env, said))
        program.start()
        program.join(timeout)
        if program.exitcode is None:
            program.kill()
            raise TimeoutExpired(words, timeout)
        return CompletedProcess([python, *words], program.exitcode, *(path.read_text() for path in said))


def _begin(words: list[str], cwd: Path, env: dict[str, str], said: list[Path]) -> None:
    import torch

    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
