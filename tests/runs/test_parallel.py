"""Several runs at a time on one machine: the same study as one run after the other, and ended as cleanly."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import alive, assert_same_study, children_of, environment, run, wait_for

from coco1k_kd.runs import board as boards
from coco1k_kd.runs.board import CURVES, Board
from coco1k_kd.runs.launch import LOCK, RunFailed, Stopped, holder, launch
from coco1k_kd.runs.results import write_result
from coco1k_kd.runs.spec import EvaluateSpec, Evaluation


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
    doing = subprocess.Popen(
        [*command[:-1], str(tmp_path), *flags],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment(),
        text=True,
    )
    children = wait_for(lambda: found if len(found := children_of(doing.pid)) == 3 else None)
    doing.send_signal(signal.SIGINT)
    _, said = doing.communicate(timeout=300)
    assert doing.returncode == 130 and "Traceback" not in said and "interrupted" in said
    assert not any(map(alive, children))
    assert not list(tmp_path.glob("*/result.json")) and not list(tmp_path.glob("comparison_*"))


def test_a_run_that_is_killed_costs_its_arm_alone(command: list[str], tmp_path: Path) -> None:
    doing = subprocess.Popen(
        [*command[:-1], str(tmp_path), "--arms", "cwd", "mgd"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment(),
        text=True,
    )
    wait_for(lambda: list(tmp_path.glob("kd_cwd_*/args.yaml")))
    os.kill(children_of(doing.pid)[0], signal.SIGKILL)
    _, said = doing.communicate(timeout=600)
    assert doing.returncode == 1 and "cwd (seed 0) was killed (SIGKILL)" in said and "Traceback" not in said
    content = json.loads(next(tmp_path.glob("comparison_*.json")).read_bytes())
    assert [entry["arm"] for entry in content["comparisons"]] == ["mgd"]
    assert [failure["arm"] for failure in content["failures"]] == ["cwd"]


def test_no_two_processes_write_into_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EvaluateSpec(folder=str(tmp_path), annotations="", images="", weights={}, val_args={})
    (tmp_path / LOCK).write_text("77 on node-b")
    with (tmp_path / LOCK).open("a") as orphan:
        fcntl.flock(orphan, fcntl.LOCK_EX)
        monkeypatch.setattr("coco1k_kd.runs.launch._LOCK_SECONDS", 0.1)
        with pytest.raises(RunFailed, match="still written to by process 77 on node-b"):
            launch(spec, "cwd, seed 0")
        assert {path.name for path in tmp_path.iterdir()} == {LOCK}, "it wrote all the same"
        monkeypatch.setattr("coco1k_kd.runs.launch._LOCK_SECONDS", 60)
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped):
            launch(spec, "cwd, seed 0", stop)
        write_result(tmp_path, Evaluation(ultralytics={"orphan": {}}, seconds=1.0))
        threading.Timer(0.5, orphan.close).start()
        result = launch(spec, "cwd, seed 0")
        assert result.ultralytics == {"orphan": {}}
    assert holder(tmp_path) == ""


def test_the_table_shows_who_is_at_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "_EVERY_SECONDS", 0)
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / CURVES).write_text("epoch,time\n1,4.0\n2,8.0\n")  # resumed after two epochs
    (folders[2] / LOCK).write_text("5 on a-node-that-died")
    stream = io.StringIO()
    with Board(done=1, runs=5, epochs=12, stream=stream) as board:
        for folder in folders:
            board.add(f"cwd ({folder.name})", folder, 5)
        board.refresh()
        assert stream.getvalue() == "", "nothing has changed"
        (folders[0] / LOCK).write_text("12 on node-a")
        (folders[0] / CURVES).write_text("epoch,time\n1,4.0\n2,8.0\n3,6.0\n")
        board.refresh()
        first, head, row = stream.getvalue().splitlines()
        assert first.startswith("1 of 5 runs done, 3 wait, about ") and first.endswith(" to go")
        assert head.split() == ["run", "epoch", "s/epoch", "process"]
        assert row.split() == ["cwd", "(a)", "3/5", "6.0", "12", "on", "node-a"]
        board.remove("cwd (a)", "AP 1.0")
        board.refresh()
        assert stream.getvalue().count("\n") == 3


def test_on_a_terminal_the_table_stays_in_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True
    with Board(0, 1, 3, stream) as board:
        board.add("cwd", tmp_path, 3)
        board.refresh()
        board.refresh()
        assert stream.getvalue() == "0 of 1 runs done, 1 wait\n\x1b[1F\x1b[J0 of 1 runs done, 1 wait\n"
        board.remove("cwd", "AP 1.0")
    assert stream.getvalue().endswith("\x1b[1F\x1b[J") and capsys.readouterr().out == "1/1 cwd: AP 1.0\n"
