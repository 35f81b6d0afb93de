"""A distillation that teaches nothing ends with its reason."""

from __future__ import annotations

import pytest
import torch
from trainings import train
from ultralytics.models.yolo.detect import DetectionTrainer

from coco1k_kd import YOLO
from coco1k_kd.distill import alive
from coco1k_kd.distill.distiller import Distiller
from coco1k_kd.distill.trainer import DistillationError, DistillationTrainer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_stops_when_the_aligner_is_not_in_the_optimizer(subset, teacher_file, tmp_path, monkeypatch):
    monkeypatch.setattr(DistillationTrainer, "build_optimizer", DetectionTrainer.build_optimizer)
    with pytest.raises(DistillationError, match="not in the optimizer"):
        train(subset, tmp_path, teacher=teacher_file)


def test_stops_when_the_aligner_does_not_move(subset, teacher_file, tmp_path, monkeypatch):
    monkeypatch.setattr(alive, "PATIENCE", 2)
    monkeypatch.setattr(Distiller, "forward", detached(Distiller.forward))
    with pytest.raises(DistillationError, match="has not moved"):
        train(subset, tmp_path, teacher=teacher_file, epochs=2, warmup_epochs=0, optimizer="SGD", weight_decay=0, nbs=8)


def test_stops_when_an_aligner_stays_while_the_generators_move(subset, teacher_file, tmp_path, monkeypatch):
    monkeypatch.setattr(alive, "PATIENCE", 2)
    callback = {"on_train_start": lambda trainer: trainer.distiller.aligners[1].requires_grad_(False)}
    with pytest.raises(DistillationError, match="has not moved"):
        train(
            subset, tmp_path, callback, teacher=teacher_file, distillation_loss="mgd", epochs=2, warmup_epochs=0,
            optimizer="SGD", nbs=8,
        )  # fmt: skip


def detached(forward):
    """The distiller's forward through copies of its weights: a loss that moves the student but not the aligner."""

    def apply(self, student, teacher, measure):
        frozen = {k: v.detach() for k, v in self.named_parameters()}
        self_forward = Distiller.forward
        Distiller.forward = forward
        try:
            return torch.func.functional_call(self, frozen, (student, teacher, measure))
        finally:
            Distiller.forward = self_forward

    return apply


@pytest.mark.parametrize(("loss", "value"), [("cwd", float("nan")), ("cwd", 0.0), ("cwd+response", 0.0)])
def test_stops_when_the_loss_is_dead(loss, value, subset, teacher_file, tmp_path, monkeypatch):
    forward = Distiller.forward

    def dead(self, student, teacher, measure):
        terms, cosines = forward(self, student, teacher, measure)
        return [term._replace(value=term.value * value) if term.loss == "cwd" else term for term in terms], cosines

    monkeypatch.setattr(Distiller, "forward", dead)
    with pytest.raises(DistillationError, match="distillation loss is"):
        train(subset, tmp_path, teacher=teacher_file, distillation_loss=loss)


def test_stops_when_the_teacher_changes(subset, teacher_file, tmp_path):
    def nudge(trainer) -> None:
        next(trainer.teacher.network.parameters()).data += 1e-2

    with pytest.raises(DistillationError, match="must stay frozen"):
        train(subset, tmp_path, {"on_train_batch_end": nudge}, teacher=teacher_file)


@pytest.mark.parametrize(("weight", "advice"), [(1e5, "lower"), (1e-7, "raise")])
def test_stops_when_the_balance_is_off(weight, advice, subset, teacher_file, tmp_path):
    with pytest.raises(DistillationError, match=f"{advice} distillation_weight, now .*--arms cwd:weight=auto"):
        train(subset, tmp_path, teacher=teacher_file, distillation_weight=weight, warmup_epochs=0)


def test_a_teacher_that_has_learnt_nothing_is_called_that(subset, tmp_path):
    with pytest.raises(DistillationError, match=r"the teacher has no signal: .* give a trained checkpoint"):
        train(subset, tmp_path, teacher=YOLO("yolov8s.yaml"))
