"""What a study says of a child that died, from what the child left behind."""

from __future__ import annotations

import errno
import os

import pytest

from coco1k_kd.launcher import LOG, _failure


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
