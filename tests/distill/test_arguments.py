"""What is typed to `YOLO.train`: no slip trains without the teacher, and a refusal leaves no folder."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import ultralytics
from trainings import TINY

import coco1k_kd
from coco1k_kd import YOLO, UserError
from coco1k_kd.distill.settings import Distillation

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher() -> torch.nn.Module:
    return ultralytics.YOLO("yolov8n.yaml").model


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("techer", "teacher"),
        ("teachr", "teacher"),
        ("temperature", "distillation_tau"),
        ("distillation_temperature", "distillation_tau"),
        ("distilation_loss", "distillation_loss"),
        ("distillation_wieght", "distillation_weight"),
        ("distill_weight", "distillation_weight"),
        ("kd_every", "distillation_every"),
        ("epoch", "epochs"),
        ("img_size", "imgsz"),
    ],
)
def test_a_misspelt_argument_is_refused_with_the_nearest_name(typed, meant, teacher, tmp_path):
    given = {"data": "coco8.yaml", "project": tmp_path, "teacher": teacher, typed: 2}
    with pytest.raises(UserError, match=f"^{typed}=? .*did you mean {meant}=") as caught:
        YOLO("yolo11n.yaml").train(**given)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_what_ultralytics_takes_is_taken_and_its_file_is_read_first(tmp_path):
    for content, message in (("epochz: 1", "epochz is not known .*did you mean epochs="), ("resume: true", "resume")):
        (tmp_path / "cfg.yaml").write_text(content)
        with pytest.raises(UserError, match=f"cfg=.*{message}"):
            YOLO("yolo11n.yaml").train(cfg=tmp_path / "cfg.yaml")
    with pytest.raises(UserError, match=r"cfg=.*missing.yaml cannot be read"):
        YOLO("yolo11n.yaml").train(cfg=str(tmp_path / "missing.yaml"))


class Cut(Exception):
    """Ctrl-C."""


def test_nothing_is_resumed_that_is_not_an_unfinished_run(subset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"data": subset / "coco1k.yaml", "project": tmp_path / "runs", "epochs": 2, **TINY}

    def saved(trainer) -> None:
        raise Cut

    model = YOLO("yolo11n.yaml")
    model.add_callback("on_model_save", saved)
    with pytest.raises(Cut):
        model.train(**options, teacher=None)
    last = model.trainer.last
    there = {path for path in tmp_path.rglob("*") if path.is_file()}

    def refused(message: str, model: YOLO, **arguments) -> None:
        with pytest.raises(UserError, match=message) as caught:
            model.train(**arguments)
        assert "\n" not in str(caught.value)
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == there

    refused(f"has not been trained, or is finished: .*{last}", model, resume=True)  # the object that was interrupted
    refused("was not distilled: go on without a teacher by teacher=None", YOLO(last), resume=True)
    refused("was not distilled", YOLO(last), resume=str(last), teacher="yolov8n.pt")
    refused("resume=.*cannot be read", YOLO(last), resume=str(tmp_path / "no.pt"))
    refused("resume=1: give True", YOLO(last), resume=1)
    refused("is finished", YOLO("yolo11n.yaml"), resume=True)
    ended = YOLO(last)
    ended.train(resume=True, teacher=None)
    assert ended.trainer.start_epoch == 1
    there = {path for path in tmp_path.rglob("*") if path.is_file()}
    for finished in (ended, YOLO(last)):
        refused("is finished", finished, resume=True)
    refused("is finished", YOLO(last), resume=str(last))


def test_a_refusal_after_ultralytics_has_made_the_run_folder_takes_it_away(subset, teacher, tmp_path):
    options = {"data": subset / "coco1k.yaml", "project": tmp_path, "epochs": 1, **TINY, "teacher": teacher}
    for freeze, name in ((23, "new"), (17, "late")):
        with pytest.raises(UserError, match="nothing to distil into"):
            YOLO("yolo11n.yaml").train(**options, freeze=freeze, name=name, distillation_levels=8)
    assert not list(tmp_path.iterdir())
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("kept")
    with pytest.raises(UserError, match="nothing to distil into"):
        YOLO("yolo11n.yaml").train(**options, freeze=23, name="mine", exist_ok=True)
    assert (mine / "notes.txt").exists()  # a folder that was there is left alone


def test_the_package_shows_what_there_is():
    code = "import coco1k_kd, sys; print(*dir(coco1k_kd)); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(coco1k_kd.__all__) <= set(done.stdout.split())
    shown = inspect.signature(YOLO.train)
    assert "object at" not in str(shown)
    assert shown.parameters["distillation_loss"].default == Distillation(None).loss
    assert shown.parameters["distillation_every"].default == 1 and shown.parameters["teacher"].default is None


@pytest.mark.parametrize("file", ["teacher.onnx", "teacher.engine", "teacher_openvino_model/", "teacher.torchscript"])
def test_an_exported_teacher_is_refused_with_what_to_give(file, tmp_path):
    (tmp_path / "made.onnx").touch()
    for given in (file, Path(file), ultralytics.YOLO(tmp_path / "made.onnx", task="detect")):
        with pytest.raises(UserError, match=r"exported model.*give the checkpoint"):
            YOLO("yolo11n.yaml").train(data="coco8.yaml", project=tmp_path, teacher=given)
    assert [path.name for path in tmp_path.iterdir()] == ["made.onnx"]
