"""Several runs at a time on one machine: the same study as one run after the other, and ended as cleanly."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

from programs import Program
from studies import alive, assert_same_study, environment, run, runs_of, wait_for


def test_two_at_a_time_are_the_same_study(whole: SimpleNamespace, command: list[str], tmp_path: Path) -> None:
    shutil.copytree(whole.project / "references", tmp_path / "references")
    done = run([*command[:-1], str(tmp_path)], "--parallel", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(next(tmp_path.glob("comparison_*.json")).read_bytes())
    assert_same_study(content, whole.content)
    assert content["at_once"] == 2 and whole.content["at_once"] == 1
    assert "Up to 2 runs were under way at once" in done.stdout
    assert "under way at once" not in whole.out


def test_all_runs_end_when_the_study_ends(command: list[str], tmp_path: Path) -> None:
    flags = ["--seeds", "0", "1", "--parallel", "3", "--epochs", "50"]
    doing = Program([*command[:-1], str(tmp_path), *flags], env=environment())
    children = wait_for(lambda: found if len(found := runs_of(tmp_path)) == 3 else None)
    doing.send_signal(signal.SIGINT)
    _, said = doing.communicate(timeout=300)
    assert doing.returncode == 130 and "Traceback" not in said and "interrupted" in said
    assert not any(map(alive, children))
    assert not list(tmp_path.glob("*/result.json")) and not list(tmp_path.glob("comparison_*"))


def test_a_run_that_is_killed_costs_its_arm_alone(command: list[str], tmp_path: Path) -> None:
    doing = Program([*command[:-1], str(tmp_path), "--arms", "cwd", "mgd"], env=environment())
    wait_for(lambda: list(tmp_path.glob("kd_cwd_*/args.yaml")))
    os.kill(runs_of(tmp_path)[0], signal.SIGKILL)
    _, said = doing.communicate(timeout=600)
    assert doing.returncode == 1 and "cwd (seed 0) was killed (SIGKILL)" in said and "Traceback" not in said
    content = json.loads(next(tmp_path.glob("comparison_*.json")).read_bytes())
    assert [entry["arm"] for entry in content["comparisons"]] == ["mgd"]
    assert [failure["arm"] for failure in content["failures"]] == ["cwd"]
