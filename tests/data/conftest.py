"""A copy of the generated COCO root, and a subset of it, that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from subsets import make


@pytest.fixture
def copy(coco_root: Path, tmp_path: Path) -> Path:
    """A COCO root that a test may harm; its files share nothing with the session's."""
    return Path(shutil.copytree(coco_root, tmp_path / "coco"))


@pytest.fixture
def made(copy: Path, tmp_path: Path) -> Path:
    return make(copy, tmp_path / "made")
