"""The board of runs under way."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from coco1k_kd.runs import board as boards
from coco1k_kd.runs.board import CURVES, Board
from coco1k_kd.runs.launch import LOCK


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
