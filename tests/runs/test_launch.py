"""What a study says of a child that died, from what the child left behind."""

from __future__ import annotations

import errno
import os
import sys
import tempfile

import pytest

from coco1k_kd.errors import DistillationError, UserError
from coco1k_kd.runs import train
from coco1k_kd.runs.launch import LOG, RunFailed, _failure
from coco1k_kd.runs.spec import SPEC, EvaluateSpec, write


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


@pytest.mark.parametrize(
    ("error", "code", "kind"), [(DistillationError("it stays"), 1, RunFailed), (UserError("no file"), 2, UserError)]
)
def test_a_run_that_does_not_distil_has_failed_and_bad_input_is_bad_input(error, code, kind, tmp_path, monkeypatch):
    def end(_: object) -> None:
        raise error

    spec = EvaluateSpec(folder=str(tmp_path), annotations="", images="", weights={}, val_args={})
    write(tmp_path / SPEC, spec)
    (tmp_path / LOG).write_text("epoch 1 of 5\n")
    monkeypatch.setattr(train, "evaluate", end)
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / "spec.json")])
    assert train.main() == code
    said = _failure(tmp_path, "cwd, seed 1", code)
    assert type(said) is kind and str(error) in str(said)
