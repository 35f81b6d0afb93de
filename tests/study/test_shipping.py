"""The best student of each arm as an exported file, and how large and fast student and teacher are."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import run
from ultralytics import YOLO

from coco1k_kd.runs.formats import FORMATS
from coco1k_kd.runs.spec import PREDICTIONS
from coco1k_kd.verdict.matching import coco_metrics

VAL = "annotations/instances_val2017.json"


@pytest.fixture(scope="module")
def shipped(whole: SimpleNamespace, command: list[str], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished study whose students are then exported: nothing is trained again."""
    project = tmp_path_factory.mktemp("shipped") / "experiments"
    shutil.copytree(whole.project, project)
    asked = [*command[:-1], str(project), "--resume"]
    done = run([*asked, "--export", "onnx"])
    assert done.returncode == 0, done.stdout + done.stderr
    path = max(project.glob("comparison_*.json"), key=lambda file: file.stat().st_mtime)  # others share the study
    return SimpleNamespace(project=project, asked=asked, path=path, content=json.loads(path.read_bytes()))


def test_each_arms_student_is_exported_and_judged_as_that_file(
    shipped: SimpleNamespace, whole: SimpleNamespace, subset: Path
) -> None:
    rows = shipped.content["exports"]
    assert [(row["arm"], row["seed"], row["format"]) for row in rows] == [("baseline", 0, "onnx"), ("cwd", 0, "onnx")]
    for row in rows:
        file, (trained,) = Path(row["file"]), shipped.content["arms"][row["arm"]]["runs"]
        assert file.suffix == ".onnx" and Path(trained["dir"]) in file.parents and not [*file.parent.glob("*.pt")]
        assert row["megabytes"] == pytest.approx(file.stat().st_size / 1e6) and row["ms_per_image"] > 0
        assert row["ap"] == coco_metrics(subset / VAL, file.parent / PREDICTIONS)["ap"] > 0
        assert row["d_ap"] == pytest.approx(row["ap"] - trained["ap_judge"])
    assert shipped.content["comparisons"] == whole.content["comparisons"], "the study is the same"
    text = shipped.path.with_suffix(".md").read_text()
    assert text.count("| onnx ") == 2


def test_an_export_is_made_once(shipped: SimpleNamespace) -> None:
    before = {path: path.stat().st_mtime_ns for path in shipped.project.rglob("*.onnx")}
    done = run([*shipped.asked, "--export", "onnx"])
    assert done.returncode == 0 and "exporting" not in done.stdout, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in shipped.project.rglob("*.onnx")} == before
    assert json.loads(shipped.path.read_bytes())["exports"] == shipped.content["exports"]


def test_student_and_teacher_are_measured_in_every_study(whole: SimpleNamespace, models: Path) -> None:
    found = whole.content["models"]
    for role in ("student", "teacher"):
        _, parameters, _, gflops = YOLO(models / f"{role}.pt").info(imgsz=64)
        assert found[role]["parameters"] == parameters and found[role]["gflops"] == pytest.approx(gflops, rel=1e-6)
        assert found[role]["ms_per_image"] > 0
    assert whole.content["exports"] == []


def test_a_format_whose_packages_are_missing_is_refused_before_any_training(command: list[str], tmp_path: Path) -> None:
    lacking = {
        name: [package for package in needs.packages if not find_spec(package)] for name, needs in FORMATS.items()
    }
    name = next((name for name, packages in lacking.items() if packages), None)
    if not name:
        pytest.skip("every format can be made here")
    done = run([*command[:-1], str(tmp_path / "none"), "--export", "onnx", name])
    assert (done.returncode, done.stdout) == (2, "") and not (tmp_path / "none").exists(), "nothing has begun"
    assert (
        done.stderr == f"error: --export {name}: install what it needs first: pip install {' '.join(lacking[name])}\n"
    )
