"""The hash of the code that a run depends on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coco1k_kd.runs import code


@pytest.mark.parametrize(
    ("file", "more", "counts"),
    [
        ("distill/losses.py", "SCALE = 2\n", True),
        ("runs/snapshot.py", "SCALE = 2\n", True),
        ("runs/of_tomorrow.py", "SCALE = 2\n", True),
        ("runs/record.py", "# a comment\n", False),
        ("runs/board.py", "SCALE = 2\n", False),
        ("report/plots.py", "SCALE = 2\n", False),
    ],
)
def test_what_works_inside_a_run_counts(
    file: str, more: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code.code_hash.__wrapped__()
    shutil.copytree(code._PACKAGE, tmp_path / "coco1k_kd")
    monkeypatch.setattr(code, "_PACKAGE", tmp_path / "coco1k_kd")
    assert code.code_hash.__wrapped__() == before
    with (tmp_path / "coco1k_kd" / file).open("a") as changed:
        changed.write(more)
    assert (code.code_hash.__wrapped__() != before) == counts
