"""What this package leans on in Ultralytics. A failure here names the structure that has changed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import ultralytics
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.modules import head as heads
from ultralytics.nn.tasks import DetectionModel

from coco1k_kd.distill import seams
from coco1k_kd.distill.trainer import DistillationTrainer

ARCHITECTURES = ("yolo11n", "yolov8n-p2", "yolov10n", "yolo26n", "yolo26n-seg", "yolo11n-pose", "yolo11n-obb")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_heads_input_its_widths_and_strides_are_those_of_the_neck(name: str) -> None:
    model = ultralytics.YOLO(f"{name}.yaml", verbose=False).model.train()
    head, given = seams.detect_head(model, "student"), []
    head.register_forward_pre_hook(lambda _, inputs: given.extend(inputs[0]))
    predictions = model(torch.rand(2, 3, 64, 64))
    features = seams.student_answer(predictions).features
    assert len(features) == len(given) and all(a is b for a, b in zip(features, given, strict=True)), 'preds["feats"]'
    assert [f.shape[1] for f in given] == seams.neck_channels(head), "head.cv2[level][0].conv.in_channels"
    assert [64 // f.shape[2] for f in given] == seams.neck_strides(head), "head.stride"


def test_the_heads_that_are_refused_exist() -> None:
    assert not [name for name in seams._UNFIT if not hasattr(heads, name)]


def test_every_task_has_a_trainer_that_is_a_detection_trainer() -> None:
    trainers = ultralytics.YOLO("yolo11n.yaml").task_map
    assert all(issubclass(trainers[task]["trainer"], DetectionTrainer) for task in seams.TASKS)


def test_a_models_loss_is_what_its_criterion_says() -> None:
    model = DetectionModel("yolo11n.yaml", verbose=False)
    model.criterion = lambda preds, batch: (preds, batch)
    assert model.loss({"img": None}, "predictions") == ("predictions", {"img": None}), "model.criterion"


def test_what_the_trainer_overrides_is_there_to_be_overridden() -> None:
    """A method that Ultralytics renames would never be called: the mix-in would train without its part."""
    ours = {name for name, value in vars(DistillationTrainer).items() if callable(value) and not name.startswith("_")}
    assert ours >= {"setup_model", "build_optimizer", "preprocess_batch", "optimizer_step", "save_metrics"}
    assert not [name for name in ours if not hasattr(DetectionTrainer, name)]


def test_the_optimizers_step_clips_the_models_gradient_alone_and_then_steps() -> None:
    """Our gradient is clipped before Ultralytics' step, and must not count in its norm."""
    model, other = torch.nn.Linear(4, 4), torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([*model.parameters(), other], lr=1.0)
    for parameter in (*model.parameters(), other):
        parameter.grad = torch.full_like(parameter, 100.0)
    seen: list[torch.Tensor] = []
    optimizer.register_step_pre_hook(lambda *_: seen.extend([model.weight.grad.clone(), other.grad.clone()]))
    trainer = SimpleNamespace(
        model=model, optimizer=optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False), ema=None,
        device=torch.device("cpu"),
    )  # fmt: skip
    DetectionTrainer.optimizer_step(trainer)
    clipped, untouched = seen
    assert float(clipped.norm()) < 10 and torch.equal(untouched, torch.full((4,), 100.0))
    assert all(parameter.grad is None for parameter in (*model.parameters(), other)), "zero_grad after the step"
