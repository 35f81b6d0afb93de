"""Files that are whole or not there."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coco1k_kd.files import write_atomic


def test_threads_that_write_leave_the_umask_alone(tmp_path: Path, monkeypatch):
    seen: list[int] = []
    monkeypatch.setattr(os, "umask", lambda mask: seen.append(mask) or 0o22)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write_atomic(tmp_path / str(i), "content"), range(8)))
    assert not seen, "another thread would create its files for everyone to write"
    assert {path.read_text() for path in tmp_path.iterdir()} == {"content"}
