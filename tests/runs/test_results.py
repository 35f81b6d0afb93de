"""A result counts only while it and its predictions are what their run wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coco1k_kd.errors import UserError
from coco1k_kd.runs.results import finished, write_result
from coco1k_kd.runs.spec import RESULT, Evaluation, Result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "predictions_best.json").write_text("[1, 2, 3, 4]")
    work = {"pair": (0.1, 2), "none": None}
    write_result(tmp_path, Result(seconds=2, ultralytics={"map50": 1}, ultralytics_last={}, work=work))
    return tmp_path


def test_a_result_is_read_however_it_is_laid_out(folder: Path) -> None:
    result = finished(folder)
    assert result.seconds == 2 and result.work == {"pair": [0.1, 2], "none": None}
    content = json.loads((folder / RESULT).read_bytes())
    assert list(content["predictions_sha256"]) == ["predictions_best.json"]
    (folder / RESULT).write_text(json.dumps(dict(reversed(content.items()))))
    assert finished(folder) == result
    (folder / RESULT).unlink()
    assert finished(folder) is None


@pytest.mark.parametrize("kept", ["[1, 2, 3]", "[1, 2, 3, 5]", None])
def test_predictions_that_were_altered_are_refused(folder: Path, kept: str | None) -> None:
    assert finished(folder)
    file = folder / "predictions_best.json"
    file.write_text(kept) if kept else file.unlink()
    with pytest.raises(UserError, match=rf"^{file} (has been changed|is gone) since its run wrote it: put it back, or"):
        finished(folder)


@pytest.mark.parametrize(
    ("name", "value"), [("seconds", 3.0), ("work", {"pair": [0.2, 2]}), ("files_sha256", "f"), ("sha256", "0" * 64)]
)
def test_a_result_that_was_altered_is_refused(folder: Path, name: str, value: object) -> None:
    content = json.loads((folder / RESULT).read_bytes())
    (folder / RESULT).write_text(json.dumps(content | {name: value}))
    with pytest.raises(UserError, match=f"{folder / RESULT} has been changed"):
        finished(folder)


def test_a_result_without_hashes_is_not_of_this_version(tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(json.dumps({"ultralytics": {}, "seconds": 1.0}))
    with pytest.raises(UserError, match="not written by this version"):
        finished(tmp_path, Evaluation)
