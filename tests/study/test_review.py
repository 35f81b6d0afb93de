"""The page and the list of labels that a teacher doubts, as a user asks for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from programs import call
from studies import environment

from coco1k_kd.errors import UserError
from coco1k_kd.study import review as program

PROJECT = Path(__file__).resolve().parents[2]


def test_a_page_and_a_list_are_written_and_nothing_is_changed(models: Path, subset: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in subset.rglob("*") if path.is_file() and path.suffix != ".cache"}
    command = [sys.executable, "-m", "coco1k_kd", "review", "--teacher", models / "teacher.pt", "--data"]
    command += [subset / "coco1k.yaml", "--output", tmp_path / "out", "--imgsz", "64", "--device", "cpu"]
    command += ["--language", "ko"]
    done = call(command, cwd=PROJECT, env=environment())
    assert done.returncode == 0, done.stderr
    assert "in 48 images of train, seen at 64 px" in done.stdout
    content = json.loads((tmp_path / "out" / "label_review.json").read_bytes())
    number = sum(len(image["doubts"]) for image in content["images"])
    page = (tmp_path / "out" / "label_review.html").read_text()
    assert f"{number} label" in done.stdout and '<html lang="ko">' in page and f"의심 {number}건" not in done.stdout
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "out" / "label_review.json").write_text("mine")
    again = call(command, cwd=PROJECT, env=environment())
    assert again.returncode == 2 and "label_review.json was not made by this command" in again.stderr


def test_a_misspelt_flag_is_one_line_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["review", "--teacher", "t.pt", "--data", "my.yaml", "--output", "out", "--clas-map", "a=b"]
    monkeypatch.setattr(sys, "argv", typed)
    with pytest.raises(UserError, match=r"unknown flag --clas-map \(did you mean --class-map\?\)"):
        program.main()
