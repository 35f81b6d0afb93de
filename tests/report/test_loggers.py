"""A study's summary in TensorBoard and MLflow, both offline."""

from __future__ import annotations

import pytest
import ultralytics.utils
from test_report import comparison

from coco1k_kd.report import loggers
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


def test_mlflow_has_the_figures_the_sentence_and_the_files_once(study, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db" if _has_sql() else (tmp_path / "mlruns").as_uri())
    ultralytics.utils.SETTINGS["mlflow"] = True
    (line,) = loggers.log_study(*study, EN)
    assert line.startswith("logged to MLflow: ") and loggers.log_study(*study, EN) == []
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name(str(tmp_path)).experiment_id])
    assert run.info.run_name == f"study_{STAMP}" and run.info.status == "FINISHED"
    assert run.data.metrics["study/cwd_vs_baseline/d_ap"] == pytest.approx(0.6)
    assert run.data.tags["verdict.cwd_vs_baseline"] == EN.sentence(study[0].comparisons[0])
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {file.name for file in study[1]}


def _has_sql() -> bool:
    import importlib.util

    return importlib.util.find_spec("sqlalchemy") is not None


def test_a_logger_that_fails_costs_a_line(study, monkeypatch):
    def fail(*_):
        raise RuntimeError("no\nroute to host")

    monkeypatch.setattr(loggers, "_LOGGERS", {"tensorboard": fail})
    monkeypatch.setattr(loggers, "_is_on", lambda name: True)
    assert loggers.log_study(*study, EN) == ["not logged to tensorboard: no route to host"]
