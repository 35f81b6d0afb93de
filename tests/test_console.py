"""The installed package, as people use it in a project of their own: the command, and the API's snippet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import ultralytics
from studies import with_signal

PROJECT = Path(__file__).resolve().parents[1]
SNIPPET = """
from coco1k_kd import YOLO
YOLO("student.pt").train(data={data!r}, teacher="teacher.pt", distillation_loss="cwd", epochs=1, imgsz=64, batch=8,
    workers=0, device="cpu", plots=False, project={project!r}, name="kd")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has put the package, without its dependencies, which the tests' own environment has."""
    pytest.importorskip("setuptools", minversion="70.1")  # which builds wheels by itself
    built, place = tmp_path_factory.mktemp("source") / "project", tmp_path_factory.mktemp("installed")
    files = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split()
    for name in files:  # a copy, since building writes beside the sources
        if name.startswith(("coco1k_kd/", "create", "test_", "pyproject", "requirements", "README.md")):
            (built / name).parent.mkdir(parents=True, exist_ok=True)
            (built / name).write_bytes((PROJECT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(place),
    ]
    done = subprocess.run([*command, str(built)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return place


def run(installed: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_snippet_runs_in_somebodys_own_project(installed: Path, subset: Path, tmp_path: Path) -> None:
    for name, architecture in (("student.pt", "yolo11n.yaml"), ("teacher.pt", "yolov8n.yaml")):
        torch.manual_seed(0)
        with_signal(ultralytics.YOLO(architecture, verbose=False)).save(tmp_path / name)
    where = "import coco1k_kd; print('from', coco1k_kd.__file__)"
    done = run(
        installed, tmp_path, "-c", where + SNIPPET.format(data=str(subset / "coco1k.yaml"), project=str(tmp_path))
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"from {installed}" in done.stdout
    header, row = (tmp_path / "kd" / "results.csv").read_text().splitlines()
    assert float(dict(zip(header.split(","), row.split(","), strict=True))["train/kd_loss"]) > 0


def test_the_command_draws_verifies_and_compares(
    installed: Path, coco_root: Path, models: Path, tmp_path: Path
) -> None:
    program = installed / "bin" / "coco1k-kd"
    drawn = run(
        installed, tmp_path, program, "create", "--coco-root", coco_root, "--target-size", 16, "--val-size", 8
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    assert run(installed, tmp_path, program, "verify", "coco1k").returncode == 0
    flags = ["--student", models / "student.pt", "--teacher", models / "teacher.pt", "--seeds", 0]
    compared = run(
        installed, tmp_path, program, "compare", *flags, "--epochs", 1, "--batch", 8, "--imgsz", 64, "--device", "cpu"
    )
    assert compared.returncode == 0, compared.stdout[-1000:] + compared.stderr[-2000:]
    comparison = next((tmp_path / "coco1k_kd_experiments").glob("comparison_*.json")).read_text()
    assert '"coco1k-kd compare --student' in comparison


def test_the_command_has_the_scripts_own_flags_and_faults(installed: Path, tmp_path: Path) -> None:
    for name, script in (("create", "create_coco1k.py"), ("compare", "test_coco1k_kd.py")):
        own = run(installed, tmp_path, "-m", "coco1k_kd", name, "--help").stdout
        theirs = run(installed, tmp_path, PROJECT / script, "--help").stdout
        options = [line.split()[0] for line in theirs.splitlines() if line.startswith("  --")]
        assert options and options == [line.split()[0] for line in own.splitlines() if line.startswith("  --")]
        assert script not in own and "coco1k-kd create" in own, (
            "commands are those of whom the package is installed for"
        )
        assert own.startswith(f"usage: coco1k-kd {name}")
    for words, message in (
        (["verify", "nowhere"], "nowhere"),
        (["compare", "--data", "nothing.yaml"], "nothing.yaml"),
        (["train"], "'train' is not a command"),
        ([], "no command is given"),
    ):
        done = run(installed, tmp_path, "-m", "coco1k_kd", *words)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert run(installed, tmp_path, "-m", "coco1k_kd", "--help").returncode == 0
