"""benchmarks/gpu_study.sh as on a lent card, at toy size on the CPU: packed, carried, run, killed, resumed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
from studies import with_signal
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import gpu_plan
import gpu_summary

BENCHMARKS = Path(gpu_plan.__file__).parent
TOY = "--device cpu --imgsz 64 --batch 8 --workers 1 --student student.pt --teacher teacher.pt --arms baseline cwd"
STUDY = f"{TOY} --seeds 0 --starts weights --epochs 2 --together 2 --seconds 1 --measure together".split()


@pytest.fixture(scope="module")
def parts(coco_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated subset and two small models, packed into two parts."""
    folder = tmp_path_factory.mktemp("packed")
    names = [
        kind["name"]
        for kind in json.loads((coco_root / "annotations/instances_val2017.json").read_bytes())["categories"]
    ]
    torch.manual_seed(0)
    for name, architecture in (("student", "yolo11n.yaml"), ("teacher", "yolov8n.yaml")):
        model = YOLO(architecture)
        model.model = DetectionModel(model.model.yaml, nc=len(names), verbose=False)
        model.model.names = dict(enumerate(names))
        (with_signal(model) if name == "teacher" else model).save(folder / f"{name}.pt")
    toy = {"STUDENT": "student.pt", "TEACHER": "teacher.pt", "TARGET_SIZE": "24", "VAL_SIZE": "12", "PACKAGES": ""}
    done = shell(folder, "pack", coco_root, "parts", PART_BYTES="7000000", **toy)
    assert done.returncode == 0, done.stderr
    return folder / "parts"


def shell(folder: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder, as its users do."""
    own = {"PYTHON": sys.executable, "WORK": "work", "OMP_NUM_THREADS": "1", "SLICE": "", "OUT": ""}
    return subprocess.run(
        [str(BENCHMARKS / "gpu_study.sh"), *map(str, words)],
        cwd=folder,
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_from_parts_to_the_tables_through_a_kill(parts: Path, tmp_path: Path) -> None:
    first, second = sorted(parts.iterdir())
    assert shell(tmp_path, "unpack", second).stdout == "part 2 is here; still to come: 1\n"
    early = shell(tmp_path, "run")
    assert early.returncode == 2 and early.stderr == "error: parts are missing: 1; unpack them first\n"
    last = shell(tmp_path, "unpack", first)
    assert last.returncode == 0, last.stderr
    assert "every file is what the manifest says" in last.stdout
    assert shell(tmp_path, "unpack", second).stdout.startswith("all parts stand")

    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    begun = shell(tmp_path, "run", *STUDY, OUT=str(out), SLICE="0.05")  # the call ends, the work does not
    assert begun.returncode == 0 and "at work: call again" in begun.stdout, begun.stderr
    assert (out / "results.tar.gz").exists()
    worker = int((work / "worker.pid").read_text())
    end = time.monotonic() + 300
    while not list(work.glob("studies/weights/*/train.log")):
        assert time.monotonic() < end and Path(f"/proc/{worker}").exists(), (work / "run.log").read_text()
        time.sleep(0.05)
    os.killpg(worker, signal.SIGKILL)

    state = json.loads((work / "results/state.json").read_bytes())
    assert state["steps"]["together_2"]["state"] == "done" and state["steps"]["study_weights"]["state"] == "running"
    done = shell(tmp_path, "run", OUT=str(out), SLICE="9")  # with the flags it was begun with
    assert done.returncode == 0 and "all is done" in done.stdout, done.stdout + done.stderr
    assert "together" not in done.stdout.split("# On a card")[0]  # what was done stood
    assert "going on with the study of" in (work / "results/logs/study_weights.log").read_text()
    assert len(list(work.glob("studies/weights/study_*.json"))) == 1

    comparison = json.loads((work / "results/study_weights.json").read_bytes())
    assert comparison["audit"]["passed"] and set(comparison["arms"]) == {"baseline", "cwd"}
    summary = (out / "summary.md").read_text()
    assert "| study_weights | done |" in summary and "## Several runs at once" in summary and "### Accuracy" in summary
    assert len(list(out.iterdir())) <= 8
    with tarfile.open(out / "results.tar.gz") as archive:
        names = archive.getnames()
    assert {f"results/{name}" for name in ("study_weights.json", "study_weights.png", "together_2.json")} <= set(names)
    with tarfile.open(out / "predictions_weights.tar.gz") as archive:
        assert len(archive.getnames()) == 2
    assert sum(name.endswith("results.csv") for name in names) == 2


def test_a_part_that_was_damaged_is_refused(parts: Path, tmp_path: Path) -> None:
    part = tmp_path / "1"
    part.mkdir()
    (part / "SHA256SUMS").write_bytes((parts / "1" / "SHA256SUMS").read_bytes())
    data = bytearray((parts / "1" / "data").read_bytes())
    data[1000] ^= 1
    (part / "data").write_bytes(data)
    done = shell(tmp_path, "unpack", part)
    assert done.returncode == 2 and done.stderr == f"error: {part} is not as it was packed (SHA-256): carry it again\n"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("words", [["unpack", "nowhere"], ["pack", "coco", "parts"], ["unpack"], ["dance"], []])
def test_bad_usage_is_one_line(words: list[str], tmp_path: Path) -> None:
    done = shell(tmp_path, *words)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_time_every_step_is_skipped_and_says_so(coco_root: Path, tmp_path: Path) -> None:
    done = shell(tmp_path, "run", MINUTES="0.001", COCO_ROOT=str(coco_root), TARGET_SIZE="24", VAL_SIZE="12")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "work/input/coco1k/images/train2017").iterdir())) == 24
    steps = json.loads((tmp_path / "work/results/state.json").read_bytes())["steps"]
    assert {"kd_step", "breakdown", "together_6", "study_weights", "study_scratch", "against_stock"} <= set(steps)
    assert all(step["state"] == "skipped" and step["why"] for step in steps.values())
    assert "| kd_step | skipped |" in (tmp_path / "work/results/summary.md").read_text()


def test_a_plan_fits_the_budget(tmp_path: Path) -> None:
    for minutes, starts in ((25, "weights backbone"), (120, "weights backbone scratch")):
        done = shell(tmp_path, "plan", "--starts", *starts.split(), MINUTES=str(minutes))
        plan = json.loads(done.stdout)
        steps = {step["step"]: step for step in plan["steps"]}
        needed = plan["seconds"] - steps["ablation_compile"]["seconds"]  # that one has what is left over
        assert 0.6 * 60 * minutes < needed <= 60 * minutes
        assert steps["study_weights"]["epochs"] >= 5 and "--parallel" in steps["study_weights"]["command"]
    assert steps["study_scratch"]["epochs"] >= gpu_plan.STARTS["scratch"]
    assert "--student yolo11n.yaml" in steps["study_scratch"]["command"]
    assert "--start backbone" in steps["study_backbone"]["command"]
    assert list(tmp_path.iterdir()) == []


def test_epochs_follow_from_what_was_measured(tmp_path: Path) -> None:
    options = gpu_plan.parser().parse_args(["--work", str(tmp_path), "--together", "2", "4", "--seeds", "0", "1"])
    results = tmp_path / "results"
    results.mkdir()
    for n, seconds in ((2, 4.0), (4, 12.0)):  # four at once are slower than two after two
        rows = [{"arm": arm, "epoch_seconds": seconds} for arm in options.arms]
        (results / f"together_{n}.json").write_text(json.dumps({"rows": rows}))
    state = {"used_seconds": 0, "epochs": {}, "together": None, "pace": 1.0}
    state["steps"] = {f"together_{n}": {"state": "done"} for n in (2, 4)}
    (results / "state.json").write_text(json.dumps(state))
    work = gpu_plan.work_of(options)
    assert gpu_plan.best_together(work) == 2
    weights, backbone = gpu_plan.studies(work, 1000)
    assert weights.epochs == backbone.epochs and weights.runs == 8
    share = gpu_plan.MARGIN * (1000 - gpu_plan.CLOSING_SECONDS) / 2
    assert weights.seconds == 4 * (gpu_plan.STARTUP_SECONDS + 4.0 * weights.epochs) <= share < weights.seconds + 4 * 4
    work.state["pace"] = 2.0  # the first took twice as long as planned
    slower, _ = gpu_plan.studies(work, 2 * 1000)
    assert slower.epochs == weights.epochs and slower.seconds == 2 * weights.seconds
    work.state["epochs"]["weights"] = 7  # begun: it keeps its epochs, whatever the time
    assert [step.epochs for step in gpu_plan.studies(work, 100)] == [7]


def test_a_baseline_of_equal_time_is_planned_after_the_others_and_measured_by_none(tmp_path: Path) -> None:
    done = shell(tmp_path, "plan", "--arms", "baseline", "cwd", gpu_plan.SAME_TIME, "--starts", "neck")
    steps = {step["step"]: shlex.split(step["command"]) for step in json.loads(done.stdout)["steps"]}
    assert {name for name, words in steps.items() if gpu_plan.SAME_TIME in words} == {"study_neck"}
    options = gpu_plan.parser().parse_args(["--work", str(tmp_path), "--arms", "baseline", "cwd", gpu_plan.SAME_TIME])
    each = gpu_plan.epoch_seconds(gpu_plan.Work(options), 6)
    assert each[gpu_plan.SAME_TIME] == each["cwd"]
    run = gpu_plan.STARTUP_SECONDS + 10 * each["cwd"]
    assert gpu_plan.study_seconds(10, each, 3, 6) == 2 * run  # all others at once, then these


def test_makespan_is_that_of_runs_that_take_the_next_free_slot() -> None:
    assert gpu_plan.makespan([3, 1, 1, 1, 2], 2) == 5
    assert gpu_plan.makespan([2, 2, 2], 1) == 6
    assert gpu_plan.makespan([2, 5, 1], 3) == 5


def test_breakdown_finds_every_part_of_ours_and_of_stock(subset: Path, parts: Path) -> None:
    models = parts.parent
    command = [sys.executable, BENCHMARKS / "breakdown.py", "--data", subset / "coco1k.yaml"]
    command += ["--student", models / "student.pt", "--teacher", models / "teacher.pt"]
    command += [*TOY.split()[:8], "--steps", 8, "--arms", "cwd", "ultralytics"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["rows"]:
        parts_ = row["parts"]
        for part in ("loader", "to device", "teacher", "student", "loss", "distillation", "backward", "optimizer"):
            assert parts_[part] > 0, (row["arm"], part)
        assert parts_["backward"] > parts_["to device"]
        assert row["steps_per_epoch"] == 6 and row["validation_seconds"] > 0
        assert row["epoch_seconds"] == pytest.approx(
            6 * row["step_seconds"] + row["validation_seconds"] + row["checkpoint_seconds"], rel=0.01
        )
        assert row["images_per_second"] == pytest.approx(8 / row["step_seconds"], rel=0.01)


def test_a_summary_of_nothing_and_of_a_torn_file(tmp_path: Path) -> None:
    (tmp_path / "breakdown.json").write_text('{"rows": [')
    assert gpu_summary.markdown(tmp_path).startswith("# On a card")


def test_every_table_of_the_summary_is_there_with_its_figures(tmp_path: Path) -> None:
    row = {
        "arm": "cwd", "step_seconds": 0.05, "images_per_second": 320.0, "parts": {"loader": 0.001, "teacher": 0.006},
        "steps_per_epoch": 94, "validation_seconds": 2.5, "checkpoint_seconds": 0.2, "epoch_seconds": 7.4,
        "loader_images_per_second": 900.0, "peak_memory_bytes": 3 * 2**30, "device_seconds": 0.02, "kernels": 1800.0,
    }  # fmt: skip
    about = {"device": "NVIDIA H100", "cores": 16, "versions": {"torch": "2.11.0"}, "images_per_second": 1500.0}
    settings = {"batch": 16, "imgsz": 416, "workers": 8, "together": 12, "epochs": 2}
    crowded = {key: value for key, value in row.items() if key != "kernels"} | {"loader_images_per_second": None}
    content = {
        "breakdown": about | {"settings": settings, "rows": [row]},
        "together_12": about | {"settings": settings, "rows": [crowded, crowded]},
        "ablation_cache_ram": about | {"settings": settings, "rows": [row | {"images_per_second": 400.0}]},
        "kd_step": {"seconds": {"stock": 0.1, "cwd": 0.06}, "peak_memory_bytes": {"stock": 2**32, "cwd": 2**31}},
        "against_stock": {
            "stock_seconds": {"baseline": 30.0, "distilled": 50.0, "both": 80.0},
            "ours_seconds": {"whole": 100.0, "baseline_train_seconds": 20.0, "cwd_train_seconds": 25.0},
            "ours/stock": 1.25,
            "settings": settings,
        },
        "state": {"used_seconds": 90, "command": ["--minutes", "25"], "steps": {"kd_step": {"state": "done"}}},
    }
    for name, value in content.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    text = gpu_summary.markdown(tmp_path)
    assert "NVIDIA H100, 16 CPU cores, torch 2.11.0. 1.5 minutes of `benchmarks/gpu_study.sh run --minutes 25`" in text
    assert "| cwd | 320 | 50.0 | 1.0 | 6.0 | 20.0 | 1800 | 2.5 | 0.2 | 7.4 | 3.0 |" in text
    assert "| 12 | 8 | 1500 | 7.4 to 7.4 | 6.0 |" in text
    assert "| as above | cwd | 320 |" in text and "| cache ram | cwd | 400 |" in text
    assert "| cwd | 60.0 | 0.60 | 2.0 |" in text
    assert "1.25 of stock's" in text
