"""Label caches are read by Ultralytics only where they hold nothing that runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from layouts import absolute

from coco1k_kd.data.given import open_data
from coco1k_kd.data.scan import read
from coco1k_kd.errors import UserError


class Runs:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("bare", [False, True])
def test_a_cache_that_runs_code_is_refused_unread(bare: bool, tmp_path: Path) -> None:
    path, trace, cache = absolute(tmp_path), tmp_path / "ran", tmp_path / "data/labels/train.cache"
    read(path)
    content = np.load(cache, allow_pickle=True).item() | {"msgs": [Runs(trace)]}
    with cache.open("wb") as file:
        pickle.dump(content, file) if bare else np.save(file, content)
    with pytest.raises(UserError, match=r"train\.cache is not a label cache .*asks for posix.mkdir.*; delete it"):
        read(path)
    assert not trace.exists()
    cache.unlink()
    assert read(path).splits["train"].sizes.shape == (9, 2)


@pytest.mark.parametrize("content", [b"", b"torn", b"\x93NUMPY\x01\x00"])
def test_a_torn_cache_is_named(content: bytes, tmp_path: Path) -> None:
    path = absolute(tmp_path)
    (tmp_path / "data/labels/val.cache").write_bytes(content)
    with pytest.raises(UserError, match=r"val\.cache is not a label cache"):
        open_data(path, tmp_path / "project")


def test_what_ultralytics_writes_is_read_again(tmp_path: Path) -> None:
    path = absolute(tmp_path)
    first, second = read(path), read(path)
    assert (tmp_path / "data/labels/train.cache").exists()
    assert all(np.array_equal(a, b) for a, b in zip(first.splits["val"].boxes, second.splits["val"].boxes, strict=True))
