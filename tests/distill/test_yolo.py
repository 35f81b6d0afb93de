"""YOLO as its users call it: what is not distillation is plain Ultralytics, what is unfit is refused in one line."""

from __future__ import annotations

import pytest
import torch
import ultralytics
from trainings import rows, train
from ultralytics.models.yolo.detect import DetectionTrainer

from coco1k_kd import YOLO, UserError
from coco1k_kd.distill.weights import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def test_teacher_none_is_plain_training(subset, tmp_path):
    model = train(subset, tmp_path, teacher=None, distillation_loss="cwd")
    assert type(model.trainer) is DetectionTrainer
    assert "train/kd_loss" not in rows(model.trainer.save_dir)[0]


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("missing.pt", "cannot load the teacher"),
        ("yolo11l.yaml", "has learnt nothing"),
        ("model.onnx", "is an exported model"),
        ("", "teacher='' is empty"),
        (torch.nn.Linear(2, 2), "without a Detect head"),
        (3, "is given as int"),
    ],
)
def test_unfit_teachers_are_refused_in_one_line(teacher, message, subset, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        train(subset, tmp_path, teacher=teacher)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("yolo11n-cls.yaml", "a classifier"),
        ("yolo26n-sem.yaml", "semantic segmentation"),
        ("yolo26n-depth.yaml", "a depth estimator"),
        ("rtdetr-l.yaml", "an RT-DETR"),
        ("yolov8s-world.yaml", "a YOLO-World"),
        ("yoloe-11s-seg.yaml", "a YOLOE"),
    ],
)
def test_models_without_levels_are_refused_in_the_api_as_in_the_comparison(name, kind, tmp_path):
    def given(name: str) -> ultralytics.engine.model.Model:
        return (ultralytics.RTDETR if "rtdetr" in name else ultralytics.YOLO)(name)

    with pytest.raises(UserError, match=f"the student is .*{kind}.*: distillation takes") as script:
        read_weights(name, "student")
    with pytest.raises(UserError) as api:
        YOLO(given(name)).train(teacher=YOLO("yolo11n.yaml"), data="coco8.yaml", project=tmp_path)
    assert str(api.value) == str(script.value) and "\n" not in str(api.value)
    with pytest.raises(UserError, match=f"the teacher is .*{kind}"):
        YOLO("yolo11n.yaml").train(teacher=given(name), data="coco8.yaml", project=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_given_in_the_wrong_place_is_answered_in_one_line(teacher_file, tmp_path):
    (tmp_path / "cfg.yaml").write_text(f"teacher: {teacher_file}\nepochs: 1\n")
    model = YOLO("yolo11n.yaml")
    for wrong, message in (
        (lambda: model.train(distillation_loss="mgd"), "distillation_loss= is given without a teacher"),
        (lambda: model.train(teacher=teacher_file, loss="mgd"), "loss= is not known here: distillation_loss= is"),
        (lambda: model.train(Teacher=teacher_file), "Teacher= is not known here: give the teacher as teacher="),
        (
            lambda: model.train(distill_loss="mgd"),
            "distill_loss= is not known here: .* with distillation_ before it each of loss",
        ),
        (lambda: model.train(teacher=teacher_file, trainer="my"), "trainer=my does not train the task detect"),
        (lambda: model.train(cfg=tmp_path / "cfg.yaml"), "cfg.yaml holds teacher"),
        (lambda: model.tune(teacher=teacher_file), "tune cannot take teacher="),
        (
            lambda: YOLO(ultralytics.YOLO("yoloe-11s.yaml")).tune(distillation_tau=2),
            "tune cannot take distillation_tau=",
        ),
    ):
        with pytest.raises(UserError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)
