"""benchmarks/gpu/all.sh as on a card, at toy size on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu" / "all.sh"


@pytest.mark.slow
def test_everything_that_needs_a_card_runs_at_toy_size_and_is_done_once(
    coco_root: Path, models: Path, tmp_path: Path
) -> None:
    toy = {"DEVICE": "cpu", "IMGSZ": "64", "BATCH": "8", "WORKERS": "0", "EPOCHS": "1", "ROUNDS": "1", "STEPS": "1"}
    toy |= {"TARGET_SIZE": "24", "VAL_SIZE": "12", "STARTS": "weights", "ARMS": "baseline cwd", "HOURS": "1e-6"}
    toy |= {"STUDENT": str(models / "student.pt"), "TEACHER": str(models / "teacher.pt"), "PYTHON": sys.executable}

    def run() -> str:
        done = subprocess.run(
            [str(SCRIPT), str(coco_root), str(tmp_path / "gpu")],
            env={**os.environ, **toy, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
        return done.stdout

    first = run()
    assert "wrote" in first
    steps = json.loads((tmp_path / "gpu" / "kd_step.json").read_text())
    parts = json.loads((tmp_path / "gpu" / "breakdown.json").read_text())
    assert steps and {row["arm"] for row in parts["rows"]} >= {"baseline", "cwd", "ultralytics"}
    (comparison,) = (tmp_path / "gpu" / "weights").glob("comparison_*.json")
    assert json.loads(comparison.read_text())["design"]["stopped"] == "hours", "no more than the first pair"
    assert "kd_step.json" not in run(), "what is measured is not measured again"
