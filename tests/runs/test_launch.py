"""What a study says of a child that died, from what the child left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from coco1k_kd.runs.launch import LOCK, LOG, RunFailed, Stopped, _failure, holder, launch
from coco1k_kd.runs.results import write_result
from coco1k_kd.runs.spec import EvaluateSpec, Evaluation, read_spec


@pytest.mark.parametrize(
    ("last_line", "code", "message"),
    [
        (f"OSError: [Errno 28] {os.strerror(errno.ENOSPC)}: 'last.pt'", 1, "the disk is full: make room"),
        ("KeyError: 'feats'", 1, "failed (exit code 1): KeyError: 'feats'"),
        ("epoch 3 of 5", -9, "was killed (SIGKILL); if nobody did it on purpose, memory ran out"),
    ],
)
def test_a_dead_child_is_explained(last_line, code, message, tmp_path):
    (tmp_path / LOG).write_text(f"Traceback\n{last_line}\n\n")
    said = str(_failure(tmp_path, "cwd, seed 1", code))
    assert said.startswith("cwd, seed 1 ") and message in said
    assert str(tmp_path / LOG) in said


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the quota is used up")]
)
def test_a_child_that_had_no_room_for_its_last_words_is_explained(number, says, tmp_path, monkeypatch):
    def broken(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / LOG).touch()
    assert "it said nothing" in str(_failure(tmp_path, "cwd, seed 1", 1))
    monkeypatch.setattr(tempfile, "TemporaryFile", broken)
    assert str(_failure(tmp_path, "cwd, seed 1", 1)).startswith(f"cwd, seed 1 failed: {says}: make room for ")


def test_a_run_that_diverges_is_named_with_its_log(whole: SimpleNamespace, tmp_path: Path) -> None:
    spec = read_spec(Path(whole.content["arms"]["cwd"]["runs"][0]["dir"]))
    spec = structs.replace(spec, folder=str(tmp_path), distillation_settings={"weight": 1e38})
    with pytest.raises(Exception, match="cwd, seed 0") as caught:
        launch(spec, "cwd, seed 0")
    assert "loss" in str(caught.value) and "epoch" in str(caught.value)
    assert not (tmp_path / "result.json").exists()


def test_a_run_that_crashes_shows_the_end_of_its_log(subset: Path, tmp_path: Path) -> None:
    truth, images = subset / "annotations" / "instances_val2017.json", subset / "images" / "val2017"
    given = {"folder": str(tmp_path), "annotations": str(truth), "images": str(images)}
    spec = EvaluateSpec(**given, weights={"given": "gone.pt"}, val_args={})
    with pytest.raises(RunFailed, match=r"(?s)the teacher failed.*gone\.pt.*train\.log"):
        launch(spec, "the teacher")


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
