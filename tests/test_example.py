"""simple_kd_example.py runs as it stands, and differs from plain Ultralytics in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
import ultralytics
import yaml
from programs import call
from studies import with_signal

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLE = PROJECT / "simple_kd_example.py"


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder)}
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_it_runs_with_its_defaults(subset, tmp_path):
    for name, architecture in (("yolo11n.pt", "yolo11n.yaml"), ("yolo11l.pt", "yolov8n.yaml")):
        torch.manual_seed(0)
        with_signal(ultralytics.YOLO(architecture, verbose=False)).save(tmp_path / name)
    (tmp_path / "coco1k").symlink_to(subset)
    done = run(tmp_path, "--epochs", 1, "--imgsz", 64)
    assert done.returncode == 0, done.stderr[-2000:]
    # Ultralytics puts its runs where its settings say
    folder = re.search(r"Results saved to (?:\x1b\[1m)?([^\x1b\n]+)", done.stdout).group(1)
    table = (Path(folder.strip()) / "results.csv").read_text().splitlines()
    assert float(dict(zip(*(line.split(",") for line in table[:2]), strict=True))["train/kd_loss"]) > 0


def test_every_flag_reaches_the_training(subset, tmp_path):
    for name, architecture in (("s.pt", "yolo11n.yaml"), ("t.pt", "yolov8n.yaml")):
        torch.manual_seed(0)
        with_signal(ultralytics.YOLO(architecture, verbose=False)).save(tmp_path / name)
    flags = {
        "data": subset / "coco1k.yaml", "student": "s.pt", "teacher": "t.pt", "loss": "mgd", "epochs": 1, "batch": 12,
        "imgsz": 64, "device": "cpu", "project": tmp_path / "mine",
    }  # fmt: skip
    words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    done = call([sys.executable, EXAMPLE, *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = (tmp_path / "mine").iterdir()
    assert re.fullmatch(r"kd_mgd_\d{8}_\d{6}", folder.name), "of its own: a second run must not write over the first"
    written = yaml.safe_load((folder / "args.yaml").read_text())
    assert {k: str(written[k]) for k in ("data", "epochs", "batch", "imgsz", "device", "project")} == {
        k: str(flags[k]) for k in ("data", "epochs", "batch", "imgsz", "device", "project")
    }
    assert written["distillation_loss"] == "mgd" and written["teacher"] == str(tmp_path / "t.pt")


def test_faults_are_one_line(tmp_path):
    data = tmp_path / "data.yaml"
    data.write_text("path: .\n")
    for arguments, message in (
        (["--data", "nothing.yaml"], "make it with create_coco1k.py"),
        (["--data", data, "--student", "nothing.pt"], "cannot load the student"),
        (["--data", data, "--student", "yolo11n.yaml", "--teacher", "nothing.pt"], "cannot load the teacher"),
        (["--data", data, "--student", "yolo11n-cls.yaml"], "the student is a classifier"),
        (["--data", data, "--student", "yolo11n.yaml", "--loss", "no_such_loss"], "no_such_loss"),
    ):
        done = call([sys.executable, EXAMPLE, *arguments], cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "runs").exists()


def test_it_is_short_and_one_import_away_from_ultralytics():
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 40
    lines = [line for line in text.splitlines() if "import YOLO" in line]
    assert lines == ["from coco1k_kd import YOLO  # plain Ultralytics would say: from ultralytics import YOLO"]
