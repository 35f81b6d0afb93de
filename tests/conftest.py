"""Data that tests share: made once a session, on the spot, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coco1k_kd.demo import generate_coco

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def coco_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated COCO root: 160 train and 60 val images, 12 classes with gaps in their ids. Read only, please."""
    root = tmp_path_factory.mktemp("coco") / "root"
    generate_coco(root, train=160, val=60)
    return root


@pytest.fixture(scope="session")
def subset(coco_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A subset of 48 train and 24 val images, made by create_coco1k.py as its users run it. Read only, please."""
    folder = tmp_path_factory.mktemp("subset") / "coco1k"
    command = [sys.executable, str(PROJECT / "create_coco1k.py"), "--coco-root", str(coco_root)]
    command += ["--target-size", "48", "--val-size", "24", "--output-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
