"""The criterion: the term that it adds, its weight, and the gradients that it measures."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from trainings import compared, levels, rows, tiny_batch, tiny_detector, train

from coco1k_kd.distill.criterion import TARGET, DistillationCriterion, _apart
from coco1k_kd.distill.distiller import FIT_BATCHES, Distiller, gradient_ratios
from coco1k_kd.distill.seams import neck_channels, student_answer
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.teacher import Teacher

pytestmark = pytest.mark.usefixtures("one_thread")


def test_auto_weight_reaches_its_gradient_ratio(subset, teacher_file, tmp_path):
    trainer = train(
        subset, tmp_path, teacher=teacher_file, distillation_weight="auto", distillation_target_ratio="0.25",
        distillation_schedule="constant", epochs=2, warmup_epochs=1, val=False,
    ).trainer  # fmt: skip
    first, second = rows(trainer.save_dir)
    assert float(first["kd/gradient_ratio"]) == pytest.approx(0.25, rel=0.5)  # single batches scatter
    assert float(second["kd/weight"]) == float(first["kd/weight"]) != 1  # calibrated in warm-up, then fixed
    assert len(trainer.criterion.calibration) == 2  # the first step and the last of six
    assert float(first["kd/weight"]) == pytest.approx(
        0.25 / (sum(ratio for (ratio,) in trainer.criterion.calibration) / 2), rel=1e-4
    )


def test_gradients_have_the_layout_of_the_students_own():
    """The teacher's channels_last would stay with them, and the student's sums round differently from a baseline's."""
    student, teacher = levels()
    leaves = [level.detach().requires_grad_() for level in student]
    value, _ = compared(Distiller([8, 16], [12, 20], "cwd"), [_apart(leaf) for leaf in leaves], teacher)
    assert all(g.is_contiguous() for g in torch.autograd.grad(value, leaves))


def test_gradient_ratio_is_measured_through_a_compiled_student():
    """Its task loss does not hang on the features that it returns: measured through the head alone, which is kept."""
    torch.manual_seed(0)
    student = tiny_detector(8)
    teacher = Teacher(tiny_detector(16), torch.device("cpu"), torch.float32, compile_mode=False)
    head, batch = student.model[-1], tiny_batch(teacher)
    images = batch["img"]
    distiller = Distiller(neck_channels(head), teacher.channels, "cwd")
    distiller.fitted_batches = FIT_BATCHES

    features = [level.detach().requires_grad_() for level in student_answer(student(images)).features]
    task = student.init_criterion()(deepcopy(head)(list(features)), batch)[0].sum()
    value = 4 * compared(distiller, features, batch[TARGET].features)[0]
    (expected,) = gradient_ratios([torch.autograd.grad(value, features)], torch.autograd.grad(task, features))

    for network in (student, torch.compile(student, backend="aot_eager")):
        predictions = network(images)
        statistics = deepcopy(dict(head.named_buffers()))
        criterion = DistillationCriterion(
            student.init_criterion(), head, teacher, distiller, Distillation("", weight=1)
        )
        criterion.last_step = 1
        criterion(predictions, batch)
        assert float(criterion.take_measurements()[0]) == pytest.approx(float(expected), rel=1e-3)
        torch.testing.assert_close(dict(head.named_buffers()), statistics, rtol=0, atol=0)


def test_the_term_is_weight_times_schedule_times_batch():
    torch.manual_seed(0)
    student, teacher = (
        tiny_detector(8),
        Teacher(tiny_detector(16), torch.device("cpu"), torch.float32, compile_mode=False),
    )
    batch = tiny_batch(teacher)
    distiller = Distiller(neck_channels(student.model[-1]), teacher.channels, "cwd")
    task = student.init_criterion()
    criterion = DistillationCriterion(task, student.model[-1], teacher, distiller, Distillation("", weight=3))
    predictions = student(batch["img"])
    for factor in (1.0, 0.25):
        criterion.factor = factor
        losses, items = criterion(predictions, batch)
        assert float(losses[-1].detach()) == pytest.approx(3 * factor * 4 * float(items["kd_loss"]), rel=1e-5)
    torch.testing.assert_close(losses[:-1], task(predictions, batch)[0])
