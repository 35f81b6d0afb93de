"""Data that tests share: made once a run of pytest, on the spot, without a network."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import EPOCHS, PROGRAM, likely_models, run

from coco1k_kd.data.accept import accept
from coco1k_kd.data.dataset import read_data
from coco1k_kd.demo import generate_coco

PROJECT = Path(__file__).resolve().parents[1]
Once = Callable[[str, Callable[[Path], object]], Path]
# Files that train for minutes begin first: at the end one of them would leave the other worker idle.
LONG = (
    *("test_cluster", "test_ddp", "test_study", "test_lessons", "test_fitting", "test_slots", "test_kills"),
    *("test_trainer", "test_response", "test_tasks", "test_own_data", "test_shipping", "test_pipeline"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Fills a folder, and says where it is: the first of pytest's workers that needs it fills it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def shared(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return shared


@pytest.fixture(scope="session")
def coco_root(once: Once) -> Path:
    """A generated COCO root: 160 train and 60 val images, 12 classes with gaps in their ids. Read only, please."""
    return once("coco", lambda folder: generate_coco(folder / "root", train=160, val=60)) / "root"


@pytest.fixture(scope="session")
def subset(coco_root: Path, once: Once) -> Path:
    """A subset of 48 train and 24 val images, made by create_coco1k.py as its users run it. Read only, please.

    Its YAML does not say what it was drawn from: a study finds more images only where it is told.
    """

    def create(folder: Path) -> None:
        command = [sys.executable, str(PROJECT / "create_coco1k.py"), "--coco-root", str(coco_root)]
        command += ["--target-size", "48", "--val-size", "24", "--output-dir", str(folder / "coco1k")]
        done = run(command)
        assert done.returncode == 0, done.stdout + done.stderr
        data = folder / "coco1k" / "coco1k.yaml"
        data.write_text("".join(line for line in data.open() if not line.startswith("source:")))
        accept(read_data(data))  # writes Ultralytics' caches of labels, which no two workers must write at once

    return once("subset", create) / "coco1k"


@pytest.fixture(scope="session")
def models(subset: Path, once: Once) -> Path:
    """student.pt and teacher.pt with the subset's classes and random weights, whose AP is small but not 0."""
    truth = json.loads((subset / "annotations" / "instances_val2017.json").read_bytes())
    names = [category["name"] for category in sorted(truth["categories"], key=lambda category: category["id"])]
    return once("models", lambda folder: likely_models(folder, names))


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
def whole(command: list[str], once: Once) -> SimpleNamespace:
    """A study that nobody disturbed, one run after the other. Read only, please: copy its project."""

    def study(folder: Path) -> None:
        done = run([*command[:-1], str(folder / "experiments")])
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "said.txt").write_text(done.stdout)

    folder = once("study", study)
    project, out = folder / "experiments", (folder / "said.txt").read_text()
    (path,) = project.glob("comparison_*.json")
    return SimpleNamespace(out=out, project=project, path=path, content=json.loads(path.read_bytes()))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order: two equal runs give equal weights."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def subset_to_spoil(subset: Path, tmp_path: Path) -> Path:
    """Its YAML says no path, so that it is the folder of the YAML."""
    folder = tmp_path / "images" / "coco1k"  # Ultralytics looks for labels beside the last folder called images
    shutil.copytree(subset, folder, symlinks=True)
    lines = (folder / "coco1k.yaml").read_text().splitlines(keepends=True)
    (folder / "coco1k.yaml").write_text("".join(line for line in lines if not line.startswith("path")))
    return folder
