"""Processes of one group: they end together, and with the process that started them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from studies import PROGRAM, alive, wait_for

from coco1k_kd.runs.ranks import run_ranks


def rank(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", f"import os, sys, time; first = os.environ['RANK'] == '0'; {code}"]


def test_ranks_of_one_group_end_together(tmp_path: Path) -> None:
    note = f"open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w')"
    group = "' '.join(os.environ[key] for key in ('WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'))"
    assert run_ranks(2, rank(f"{note}.write({group})")) == 0
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() != ""
    stays = f"{note}.write(str(os.getpid())); time.sleep(600 * first)"
    assert run_ranks(2, rank(f"{stays}; sys.exit(3)")) == 3
    assert not alive(int((tmp_path / "0").read_text() or 0)), "the other rank goes on"
    assert run_ranks(2, rank(f"{stays}; os.kill(os.getpid(), 9)")) == -9


def test_a_ranks_input_closes_when_the_run_is_gone(tmp_path: Path) -> None:
    code = f"open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w'); os.read(0, 1)"
    starter = f"from coco1k_kd.runs.ranks import run_ranks; run_ranks(2, {rank(code)!r})"
    with subprocess.Popen(
        [sys.executable, "-c", starter], env={**os.environ, "PYTHONPATH": str(PROGRAM.parent)}
    ) as started:
        ranks = wait_for(lambda: found if len(found := list(tmp_path.iterdir())) == 2 else None)
        started.kill()
    wait_for(lambda: not any(alive(int(path.name)) for path in ranks), 30)
