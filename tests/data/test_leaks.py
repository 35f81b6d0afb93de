"""No image is in two splits: told by content, without reading what cannot be equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from coco1k_kd.data.leaks import leaks


def test_leaks_read_no_file_whose_size_is_unique(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, sizes in (("a", (1, 2, 3)), ("b", (3, 4))):
        (tmp_path / folder).mkdir()
        for size in sizes:
            (tmp_path / folder / f"{size}.jpg").write_bytes(b"x" * size)
    one, two = ([*(tmp_path / folder).iterdir()] for folder in "ab")
    asked: list[Path] = []
    monkeypatch.setattr("coco1k_kd.data.leaks.sha256", lambda path: asked.append(path) or path.read_text())
    assert len(leaks(one, two)) == 1
    assert sorted(path.name for path in asked) == ["3.jpg", "3.jpg"]
