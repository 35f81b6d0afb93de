"""A study's summary in TensorBoard, MLflow and Weights & Biases, all offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ultralytics.utils
from comparisons import comparison
from studies import PROGRAM

from coco1k_kd.report import loggers
from coco1k_kd.report.comparison import read_comparison
from coco1k_kd.report.words import Words
from coco1k_kd.report.write import write_report

STAMP, EN = "20260101_000000", Words()


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A finished study and its files; no logger is on."""
    monkeypatch.setattr(ultralytics.utils, "SETTINGS", {"tensorboard": False, "mlflow": False, "wandb": False})
    content = comparison(arms=("baseline", "cwd", "mgd:weight=4"), seeds=3)
    return content, write_report(content, tmp_path, STAMP)


def test_nothing_is_logged_where_nothing_is_on(study, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert loggers.log_study(*study, EN) == [] and sorted(tmp_path.rglob("*")) == before


def test_tensorboard_has_the_figures_the_sentence_and_the_picture_once(study, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ultralytics.utils.SETTINGS["tensorboard"] = True
    assert loggers.log_study(*study, EN) == [f"logged to TensorBoard: tensorboard --logdir {tmp_path}"]
    assert loggers.log_study(*study, EN) == [], "once"
    (events,) = (tmp_path / f"study_{STAMP}").iterdir()
    log = EventAccumulator(str(events)).Reload()
    names = {
        f"study/{arm}_vs_baseline/{key}" for arm in ("cwd", "mgd_weight_4") for key in ("d_ap", "d_ap_low", "d_ap_high")
    }
    assert set(log.Tags()["scalars"]) == names
    low, high = study[0].comparisons[0].d_ap.ci95
    for key, value in (("d_ap", 0.6), ("d_ap_low", 100 * low), ("d_ap_high", 100 * high)):
        assert log.Scalars(f"study/cwd_vs_baseline/{key}")[0].value == pytest.approx(value, abs=1e-6)
    assert log.Images("study/picture")[0].width == 1200
    (text,) = log.Tensors("study/cwd_vs_baseline/text_summary")
    assert text.tensor_proto.string_val[0].decode() == EN.sentence(study[0].comparisons[0])


def test_a_logger_that_fails_costs_a_line(study, monkeypatch):
    def fail(*_):
        raise RuntimeError("no\nroute to host")

    monkeypatch.setattr(loggers, "_LOGGERS", {"tensorboard": fail})
    monkeypatch.setattr(loggers, "_is_on", lambda name: True)
    assert loggers.log_study(*study, EN) == ["not logged to tensorboard: no route to host"]


LOGGERS = ("mlflow-skinny", "wandb")
SETTINGS = "from ultralytics import settings; settings.update({'tensorboard': True, 'mlflow': True, 'wandb': True})"
READ_MLFLOW = """
import json, mlflow
client = mlflow.MlflowClient()
runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
told = []
for run in runs:
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    told.append([run.info.run_name, run.info.status, run.data.metrics, run.data.tags, files])
print(json.dumps(told))
"""


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest) -> Path:
    """MLflow and W&B in a folder of their own: in the environment, Ultralytics would log the trainings of all tests."""
    folder = request.config.cache.mkdir("loggers")
    if not (folder / "whole").exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", str(folder), *LOGGERS]
        if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
            pytest.skip(f"MLflow and W&B cannot be installed: {done.stderr[-500:]}")
        (folder / "whole").touch()
    return folder


def test_one_study_is_in_all_three_as_ultralytics_and_we_log_it(installed, subset, models, tmp_path):
    """Real trainings with TensorBoard, MLflow and W&B on, offline: their curves with kd_loss, and the verdict."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}  # else it logs nothing
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(installed), "YOLO_CONFIG_DIR": str(tmp_path)}
    env |= {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri()}
    env |= {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_EXPERIMENT_NAME": "study"}

    def python(*words: object) -> str:
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    python("-c", SETTINGS)
    flags = ["--data", subset / "coco1k.yaml", "--epochs", 1, "--batch", 8, "--imgsz", 64, "--device", "cpu"]
    flags += ["--student", models / "student.pt", "--teacher", models / "teacher.pt", "--seeds", 0, "--judge", "val"]
    said = python(PROGRAM, *flags, "--project", tmp_path / "project")
    for name in ("TensorBoard: ", "MLflow: ", "Weights & Biases: "):
        assert f"logged to {name}" in said, said[-2000:]
    assert "not logged" not in said
    (path,) = (tmp_path / "project").glob("comparison_*.json")
    stamp, entry = path.stem.removeprefix("comparison_"), read_comparison(path).comparisons[0]
    d_ap, key = pytest.approx(100 * entry.d_ap.mean, abs=1e-6), "study/cwd_vs_baseline/d_ap"

    events = EventAccumulator(str(tmp_path / "project" / f"study_{stamp}")).Reload()
    assert events.Scalars(key)[0].value == d_ap
    (run,) = (tmp_path / "project").glob("kd_cwd_*")
    assert EventAccumulator(str(run)).Reload().Scalars("train/kd_loss")[0].value > 0

    runs = {name: rest for name, *rest in json.loads(python("-c", READ_MLFLOW))}
    assert len(runs) == 3 and all(status == "FINISHED" for status, *_ in runs.values())
    _, metrics, tags, files = runs[f"study_{stamp}"]
    assert {path.name, f"report_{stamp}.html", f"kd_comparison_{stamp}.png"} <= set(files)
    assert metrics[key] == d_ap and tags["verdict.cwd_vs_baseline"] == EN.sentence(entry)
    assert sum(metrics.get("train/kd_loss", 0) > 0 for _, metrics, *_ in runs.values()) == 1

    kept = [file for file in tmp_path.rglob("offline-run-*/run-*.wandb") if not file.is_symlink()]
    written = [file.read_bytes() for file in kept]
    assert len(kept) == 3, "two trainings and the study"
    assert sum(key.encode() in content for content in written) == 1
    assert sum(b"train/kd_loss" in content for content in written) == 1
