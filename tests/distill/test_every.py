"""A teacher that teaches every k-th batch: the others are plain ones, and all that is measured still holds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import TINY, tiny_batch, tiny_detector

from coco1k_kd import YOLO, UserError
from coco1k_kd.distill.criterion import TARGET, DistillationCriterion
from coco1k_kd.distill.distiller import Distiller
from coco1k_kd.distill.seams import neck_channels
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.teacher import Teacher
from coco1k_kd.runs.train import random_teacher
from coco1k_kd.study.arms import read_arm

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher_file(subset, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    random_teacher("yolov8n.yaml", sorted((subset / "images" / "train2017").iterdir())[:8], 64, 1, file)
    return file


class Cut(Exception):
    """The training ends here, as by a kill."""


@pytest.fixture
def taught(monkeypatch) -> list[tuple[int, int]]:
    """(epoch, batch) of each batch whose loss has a distillation term; the teacher has seen no others."""
    batches: list[tuple[int, int]] = []
    passes: list[int] = []
    teach, look = DistillationCriterion.__call__, Teacher.__call__

    def watched_teach(self, preds, batch):
        before, answer = self.step, teach(self, preds, batch)
        if self.step > before:
            batches.append(batch["place"])
            assert passes.pop() and not passes
        return answer

    def watched_look(self, images):
        if len(images) > 1:  # a single one is asked for by the check of the teacher's signal
            passes.append(len(images))
        return look(self, images)

    monkeypatch.setattr(DistillationCriterion, "__call__", watched_teach)
    monkeypatch.setattr(Teacher, "__call__", watched_look)
    return batches


def train(model: YOLO, cut_after: int | None = None, **options: Any) -> Any:
    """Train; cut after an epoch's checkpoint. Returns the trainer."""

    def start(trainer) -> None:
        step, index = trainer.preprocess_batch, {}

        def numbered(batch):
            index[trainer.epoch] = index.get(trainer.epoch, -1) + 1
            return {**step(batch), "place": (trainer.epoch, index[trainer.epoch])}

        trainer.preprocess_batch = numbered

    def saved(trainer) -> None:
        if trainer.epoch == cut_after:
            raise Cut

    model.add_callback("on_train_start", start)
    model.add_callback("on_model_save", saved)
    model.train(**options)
    return model.trainer


def test_every_fourth_batch_of_the_run_is_taught_and_a_resumed_run_goes_on_counting(
    taught, subset, teacher_file, tmp_path
):
    options = {
        "data": subset / "coco1k.yaml", "project": tmp_path, "epochs": 3, "teacher": str(teacher_file), **TINY,
        "distillation_loss": "cwd+response", "distillation_every": 4, "distillation_weight": "auto",
    }  # fmt: skip
    torch.manual_seed(0)
    whole = train(YOLO("yolo11n.yaml"), name="whole", **options)
    expected = [(0, 0), (0, 4), (1, 2), (2, 0), (2, 4)]  # six batches an epoch
    assert taught == expected
    assert whole.distiller.fitted_batches == len(expected) and whole.moved
    with (whole.save_dir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["train/kd_loss"]) > 0 and float(row["kd/gradient_ratio"]) > 0 for row in rows)
    for row in rows:  # means over taught batches alone, so that the parts add up to the sum
        parts = float(row["train/kd_cwd"]) + float(row["train/kd_response"])
        assert parts == pytest.approx(float(row["train/kd_loss"]), rel=1e-3)
    taught.clear()
    with pytest.raises(Cut):
        train(YOLO("yolo11n.yaml"), cut_after=0, name="cut", **options)
    model = YOLO(tmp_path / "cut/weights/last.pt")
    with pytest.raises(UserError, match="distillation_every differs from the checkpoint's 4"):
        model.train(resume=True, distillation_every=2)
    resumed = train(model, resume=True)
    assert taught == expected  # the second epoch begins with two plain batches
    assert resumed.settings.every == 4


def test_the_log_shows_the_mean_of_taught_batches_and_short_epochs_have_one(
    taught, subset, teacher_file, tmp_path, monkeypatch
):
    shown, items = [], DistillationCriterion._items

    def watched(self, terms, values):
        shown.append(float(sum(value.detach() for value in values.values())))
        return items(self, terms, values)

    monkeypatch.setattr(DistillationCriterion, "_items", watched)
    options = {
        "data": subset / "coco1k.yaml", "project": tmp_path, "epochs": 1, "teacher": str(teacher_file), **TINY,
        "distillation_loss": "response", "distillation_weight": 0.02,
    }  # fmt: skip
    trainer = train(YOLO("yolo11n.yaml"), name="means", distillation_every="2", **options)
    assert taught == [(0, 0), (0, 2), (0, 4)]
    with (trainer.save_dir / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["train/kd_loss"]) == pytest.approx(sum(shown) / 3, rel=1e-4)
    assert float(row["train/kd_cls"]) + float(row["train/kd_box"]) == pytest.approx(sum(shown) / 3, rel=1e-3)
    taught.clear()
    train(YOLO("yolo11n.yaml"), name="short", distillation_every=100, **{**options, "epochs": 2})
    assert taught == [(0, 0), (1, 0)]


def test_a_batch_that_is_not_taught_has_the_tasks_loss_and_gradient_to_the_bit():
    torch.manual_seed(0)
    student = tiny_detector(8)
    teacher = Teacher(tiny_detector(16), torch.device("cpu"), torch.float32, compile_mode=False)
    head, batch = student.model[-1], tiny_batch(teacher)
    distiller = Distiller(neck_channels(head), teacher.channels, "cwd")
    task = student.init_criterion()
    criterion = DistillationCriterion(task, head, teacher, distiller, Distillation("", loss="cwd", every=2))
    plain = {key: value for key, value in batch.items() if key != TARGET}
    gradients = {}
    for name, loss, given in (("task", task, plain), ("plain", criterion, plain), ("taught", criterion, batch)):
        student.zero_grad()
        losses, items = loss(student(batch["img"]), given)
        losses.sum().backward()
        gradients[name] = {n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None}
        assert ("kd_loss" in items) == (name != "task")
        assert any(p.grad is not None for p in distiller.parameters()) == (name == "taught")
    torch.testing.assert_close(gradients["plain"], gradients["task"], rtol=0, atol=0)
    assert any(not torch.equal(gradients["taught"][n], g) for n, g in gradients["task"].items())


@pytest.mark.parametrize("every", [0, -1, 1.5, "x", "1.5", "nan", "inf", (2, 3)])
def test_what_is_no_number_of_batches_is_refused_in_one_line(every):
    with pytest.raises(
        UserError, match=r"distillation_every=.* must be a whole number of batches, 1 or more"
    ) as caught:
        Distillation(None, every=every)
    assert "\n" not in str(caught.value)


def test_an_arm_says_how_often_it_is_taught_and_costs_so_much_less():
    assert read_arm("cwd+response:every=4").distillation().every == 4
    assert read_arm("cwd").distillation().every == Distillation(None).every == 1
    whole, fourth = (read_arm(arm).cost for arm in ("cwd+response", "cwd+response:every=4:tau=2"))
    assert fourth - 1 == pytest.approx((whole - 1) / 4)
    with pytest.raises(UserError, match="every='0' must be a whole number"):
        read_arm("cwd:every=0").distillation()
