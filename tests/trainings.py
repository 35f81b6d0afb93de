"""Tiny trainings and networks of tests, trained for real on a few generated images."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
import ultralytics

from coco1k_kd import YOLO
from coco1k_kd.distill.criterion import TARGET, DistillationCriterion
from coco1k_kd.distill.distiller import FIT_BATCHES, Answer, Distiller
from coco1k_kd.distill.seams import neck_channels
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.teacher import Teacher

UNCHANGED_IMAGES = {
    "mosaic": 0.0,
    "fliplr": 0.0,
    "translate": 0.0,
    "scale": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.0,
}


TINY = {"batch": 8, "imgsz": 64, "workers": 0, "plots": False, "seed": 3, "verbose": False}


def train(subset: Path, folder: Path, callbacks: dict[str, Any] | None = None, student: str = "yolo11n.yaml", **kwargs):
    """Train a student from scratch; returns its YOLO, whose trainer has the run."""
    torch.manual_seed(0)
    model = YOLO(student)
    for event, callback in (callbacks or {}).items():
        model.add_callback(event, callback)
    options = {"data": subset / "coco1k.yaml", "project": folder, "name": "run", "epochs": 1, **TINY, **kwargs}
    model.train(**options)
    return model


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open() as file:
        return list(csv.DictReader(file))


def final_weights(store: dict):
    """Callback that keeps the trained weights themselves: checkpoints hold the average, rounded to float16."""

    def keep(trainer) -> None:
        store.update(
            {k: v.clone() for k, v in ultralytics.utils.torch_utils.unwrap_model(trainer.model).state_dict().items()}
        )

    return {"on_train_end": keep}


def compared(distiller: Distiller, student, teacher, measure: bool = False):
    """The summed loss of features alone, and the agreement."""
    terms, cosines = distiller(Answer(student, {}), Answer(teacher, {}), measure)
    return torch.stack([term.value for term in terms]).sum(), cosines


def levels(dtype: torch.dtype = torch.float32) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two levels of a student, in its layout, and of a teacher, in its own."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, c, s, s + 1) for c, s in ((8, 12), (16, 6), (12, 12), (20, 6))]
    maps = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [x.requires_grad_() for x in maps[:2]], [x.to(memory_format=torch.channels_last) for x in maps[2:]]


def tiny_architecture(width: int) -> dict[str, Any]:
    """Three levels, nine layers: compiled in seconds."""
    convolutions = [[-1, 1, "Conv", [c, 3, 2]] for c in (width, width, width, 2 * width, 3 * width)]
    return {"nc": 4, "backbone": convolutions, "head": [[[2, 3, 4], 1, "Detect", ["nc"]]]}


def tiny_detector(width: int) -> torch.nn.Module:
    model = ultralytics.nn.tasks.DetectionModel(tiny_architecture(width), verbose=False)
    model.args = ultralytics.utils.DEFAULT_CFG
    return model


def tiny_batch(teacher: Teacher) -> dict[str, Any]:
    """Four images with a box each, as the criterion gets them."""
    images = torch.rand(4, 3, 64, 64)
    return {
        "img": images, "batch_idx": torch.arange(4.0), "cls": torch.arange(4.0)[:, None],
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.6]] * 4), TARGET: teacher(images),
    }  # fmt: skip


def criterion_of(student, teacher, loss: str, branches=(), **settings) -> tuple[DistillationCriterion, dict]:
    head = student.model[-1]
    teacher = Teacher(teacher, torch.device("cpu"), torch.float32, False, branches)
    classes = [(i, i) for i in range(head.nc)]
    distiller = Distiller(neck_channels(head), teacher.channels, loss, settings={"classes": classes})
    distiller.fitted_batches = FIT_BATCHES
    criterion = DistillationCriterion(
        student.init_criterion(), head, teacher, distiller, Distillation("", loss=loss, **settings)
    )
    return criterion, tiny_batch(teacher)
