"""`YOLO.train(unlabelled=...)`: the teacher labels, once, and the student learns from it."""

from __future__ import annotations

import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from coco1k_kd import YOLO, UserError
from coco1k_kd.data.given import open_data
from coco1k_kd.data.pool import read_pool
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.study import api

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def options(subset: Path, models: Path, tmp_path: Path) -> dict[str, Any]:
    settings = {"epochs": 1, "batch": 8, "imgsz": 64, "plots": False, "verbose": False, "project": tmp_path}
    return {**settings, "data": subset / "coco1k.yaml", "teacher": models / "teacher.pt", "teacher_imgsz": 64}


def test_a_student_learns_from_a_folder_that_is_labelled_once(
    options: dict[str, Any], unlabelled: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = YOLO(models / "student.pt")
    student.train(**options, unlabelled=unlabelled, distillation_loss="fill")
    assert student.trainer.settings.loss == "pool+fill"
    assert student.trainer.pool_images == 12 and student.trainer.pool_boxes > 0
    lesson = student.trainer.settings.lesson
    other = {**options, "teacher": models / "student.pt", "teacher_imgsz": None, "distillation_lesson": lesson}
    with pytest.raises(UserError, match="has the boxes of another teacher than"):
        YOLO(models / "student.pt").train(**other, distillation_loss="pool")
    with pytest.raises(UserError, match=r"unlabelled= and distillation_lesson=: .*leave out unlabelled= to learn from"):
        YOLO(models / "student.pt").train(**options, unlabelled=unlabelled, distillation_lesson=lesson)
    monkeypatch.setattr("ultralytics.YOLO.predict", lambda *_, **__: pytest.fail("labelled again"))
    again = YOLO(models / "student.pt")
    again.train(**options, unlabelled=unlabelled, distillation_loss="fill+response")
    assert again.trainer.settings.lesson == student.trainer.settings.lesson
    assert again.trainer.settings.loss == "pool+fill+response" and again.trainer.pool_images == 12
    assert Path(api._file(again)) == again.trainer.best, "as it is since its training, and not as it was loaded"
    assert Path(api._file(YOLO(models / "student.pt"))) == models / "student.pt"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation_loss": "pool"}, "add unlabelled=DIR"),
        ({"unlabelled": "none"}, "unlabelled= none: there is no such folder"),
        ({"unlabelled": "x", "resume": True}, "leave out unlabelled="),
        ({"resume": "last.pt"}, "teacher_imgsz= and resume="),
        ({"distillation_loss": "pool", "distillation_lesson": "x.json"}, "teacher_imgsz= and distillation_lesson="),
        ({"distillation_lesson": "x.json", "teacher_imgsz": None}, "lesson is for the losses pool and fill, .* cwd"),
        ({"distillation_loss": "cwd"}, "teacher_imgsz= is for a teacher that labels: add unlabelled=DIR"),
        ({"teacher_imgsz": None, "class_map": ["car=truck"]}, "class_map= is for a teacher that labels"),
        ({"unlabelled": "x", "data": None}, "add data="),
        ({"unlabelled": "x", "teacher": None}, "give the teacher that labels"),
        ({"unlabelled": "x", "teacher_imgsz": 65}, "teacher_imgsz 65"),
        ({"unlabelled": "x", "class_map": ["what=car"]}, "no class 'what'"),
    ],
)
def test_what_is_missing_is_said_in_a_line(
    options: dict[str, Any], models: Path, unlabelled: Path, changes: dict[str, Any], message: str
) -> None:
    if changes.get("unlabelled") == "x":
        changes = {**changes, "unlabelled": unlabelled}
    with pytest.raises(UserError, match=message) as caught:
        YOLO(models / "student.pt").train(**{**options, **changes})
    assert "\n" not in str(caught.value) and not list(options["project"].rglob("args.yaml"))


def test_a_pool_must_not_hold_images_that_judge(options: dict[str, Any], models: Path, subset: Path) -> None:
    with pytest.raises(UserError, match="also in val"):
        YOLO(models / "student.pt").train(**options, unlabelled=subset / "images" / "val2017")


def test_a_lesson_must_not_be_of_images_that_judge_now(
    options: dict[str, Any], models: Path, subset: Path, unlabelled: Path, tmp_path: Path
) -> None:
    """Somebody has labelled an image of the pool in the meantime, and put it into val in another encoding."""
    given = {key: value for key, value in options.items() if key != "teacher_imgsz"}
    source = api.Source([open_data(subset / "coco1k.yaml", tmp_path)], read_pool(unlabelled), False, tmp_path, 64)
    lesson = api.keep(api.teach_once(source, read_weights(str(options["teacher"]), "teacher")), tmp_path, "pool")
    data = tmp_path / "data"
    for kind in ("images", "labels"):
        shutil.copytree(subset / kind, data / kind)
    first = sorted(unlabelled.glob("*.jpg"))[0]
    with Image.open(first) as image:
        image.save(data / "images" / "val2017" / "labelled.png")
    (data / "labels" / "val2017" / "labelled.txt").write_text("0 0.5 0.5 0.5 0.5")
    content = yaml.safe_load((subset / "coco1k.yaml").read_text()) | {"path": str(data)}
    (data / "data.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"is of 1 image that val has as well .*labelled.png\): give the images"):
        YOLO(models / "student.pt").train(
            **{**given, "data": data / "data.yaml"}, distillation_loss="pool", distillation_lesson=lesson
        )


def test_help_shows_it() -> None:
    names = [*signature(YOLO.train).parameters]
    assert names[1:6] == ["trainer", "teacher", "unlabelled", "teacher_imgsz", "class_map"]
    assert "distillation_share" in names and api.YOLO is YOLO
