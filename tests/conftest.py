"""Data that tests share: made once a session, on the spot, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import EPOCHS, PROGRAM, likely_models, run

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
    """A subset of 48 train and 24 val images, made by create_coco1k.py as its users run it. Read only, please.

    Its YAML does not say what it was drawn from: a study finds more images only where it is told.
    """
    folder = tmp_path_factory.mktemp("subset") / "coco1k"
    command = [sys.executable, str(PROJECT / "create_coco1k.py"), "--coco-root", str(coco_root)]
    command += ["--target-size", "48", "--val-size", "24", "--output-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    data = folder / "coco1k.yaml"
    data.write_text("".join(line for line in data.open() if not line.startswith("source:")))
    return folder


@pytest.fixture(scope="session")
def models(subset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """student.pt and teacher.pt with the subset's classes and random weights, whose AP is small but not 0."""
    folder = tmp_path_factory.mktemp("models")
    truth = json.loads((subset / "annotations" / "instances_val2017.json").read_bytes())
    names = [category["name"] for category in sorted(truth["categories"], key=lambda category: category["id"])]
    likely_models(folder, names)
    return folder


@pytest.fixture(scope="session")
def command(subset: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The study's command: the baseline and CWD, one seed."""
    project = tmp_path_factory.mktemp("study") / "experiments"
    flags = {
        "--data": subset / "coco1k.yaml",
        "--student": models / "student.pt",
        "--teacher": models / "teacher.pt",
        "--epochs": EPOCHS,
        "--batch": 8,
        "--imgsz": 64,
        "--device": "cpu",
        "--seeds": 0,
        "--judge": "val",
        "--project": project,
    }
    return [sys.executable, str(PROGRAM), *(str(part) for flag in flags.items() for part in flag)]


@pytest.fixture(scope="session")
def whole(command: list[str]) -> SimpleNamespace:
    """A study that nobody disturbed, one run after the other."""
    done = run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    project = Path(command[-1])
    path = next(project.glob("comparison_*.json"))
    return SimpleNamespace(out=done.stdout, project=project, path=path, content=json.loads(path.read_bytes()))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order: two equal runs give equal weights."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
