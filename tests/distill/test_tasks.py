"""Segmentation, pose and oriented boxes learn from a teacher, through Ultralytics' own trainers and validators."""

from __future__ import annotations

import csv
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import ultralytics
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils import YAML
from ultralytics.utils.torch_utils import unwrap_model

from coco1k_kd import YOLO
from coco1k_kd.distill.trainer import STATE, DistillationTrainer

SIZE = 64
TRAINERS = {"segment": SegmentationTrainer, "pose": PoseTrainer, "obb": OBBTrainer}
SUFFIX = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb"}
OWN_LOSS = {"segment": "seg_loss", "pose": "pose_loss", "obb": "angle_loss"}
pytestmark = pytest.mark.usefixtures("one_thread")
tasks = pytest.mark.parametrize("task", list(TRAINERS))


def label(task: str, corners: np.ndarray) -> str:
    """The corners (4, 2) of a turned rectangle, in 0..1, as each task writes them."""
    low, high = corners.min(0), corners.max(0)
    box = [*((low + high) / 2), *(high - low)]
    numbers = {
        "detect": box,
        "segment": corners.flatten(),
        "obb": corners.flatten(),
        "pose": [*box, *np.hstack([corners, np.full((4, 1), 2)]).flatten()],
    }[task]
    return " ".join(f"{number:.4f}" for number in numbers)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same sixteen images of two turned rectangles each, labelled for every task."""
    yamls = {}
    for task in SUFFIX:
        numbers = np.random.default_rng(0)
        root = tmp_path_factory.mktemp(task)
        for split, count in (("train", 12), ("val", 4)):
            for kind in ("images", "labels"):
                (root / kind / split).mkdir(parents=True)
            for i in range(count):
                image, lines = numbers.integers(0, 60, (SIZE, SIZE, 3)).astype(np.uint8), []
                for category in (0, 1):
                    center = tuple(numbers.uniform(20, 44, 2))
                    rectangle = (center, tuple(numbers.uniform(14, 26, 2)), numbers.uniform(0, 90))
                    corners = cv2.boxPoints(rectangle)
                    cv2.fillPoly(image, [corners.astype(int)], [(40, 40, 230), (230, 40, 40)][category])
                    lines.append(f"{category} {label(task, corners.clip(0, SIZE - 1) / SIZE)}")
                cv2.imwrite(str(root / "images" / split / f"{i}.png"), image)
                (root / "labels" / split / f"{i}.txt").write_text("\n".join(lines))
        content = {"path": str(root), "train": "images/train", "val": "images/val", "names": {0: "a", 1: "b"}}
        YAML.save(root / "data.yaml", content | ({"kpt_shape": [4, 3]} if task == "pose" else {}))
        yamls[task] = root / "data.yaml"
    return yamls


def architecture(task: str, width: int) -> dict[str, Any]:
    """A few layers under the task's own head: three levels, trained in seconds."""
    convolutions = [[-1, 1, "Conv", [c, 3, 2]] for c in (width, width, width, 2 * width, 3 * width)]
    head = {"detect": ["Detect", ["nc"]], "segment": ["Segment", ["nc", 8, 16]], "pose": ["Pose", ["nc", [4, 3]]]}
    end = [[2, 3, 4], 1, *head.get(task, ["OBB", ["nc", 1]])]
    return {"nc": 2, "kpt_shape": [4, 3], "backbone": convolutions, "head": [end]}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """student.yaml of each task, and a wider teacher.pt whose features differ from place to place."""
    folder = tmp_path_factory.mktemp("models")
    for task in SUFFIX:
        YAML.save(folder / f"student-{task}.yaml", architecture(task, 8))
        YAML.save(folder / f"teacher-{task}.yaml", architecture(task, 16))
        torch.manual_seed(1)
        teacher = ultralytics.YOLO(folder / f"teacher-{task}.yaml")
        for norm in (m for m in teacher.model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_var.fill_(0.1)  # or a fresh network's activations fade to nothing
        teacher.save(folder / f"teacher-{task}.pt")
    return folder


def train(data: Path, student: Path | str, folder: Path, callbacks: dict[str, Any] | None = None, **kwargs) -> YOLO:
    torch.manual_seed(0)
    model = YOLO(student)
    for event, callback in (callbacks or {}).items():
        model.add_callback(event, callback)
    settings = {"batch": 4, "imgsz": SIZE, "workers": 0, "plots": False, "seed": 3, "optimizer": "SGD", "nbs": 4}
    model.train(data=data, project=folder, name="run", **{"epochs": 2, "warmup_epochs": 0.5, **settings, **kwargs})
    return model


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "time"} for row in csv.DictReader(file)]


def trained(store: dict[str, torch.Tensor]):
    """Callback that keeps the trained weights themselves: checkpoints hold the average, rounded to float16."""

    def keep(trainer) -> None:
        store.update({k: v.clone() for k, v in unwrap_model(trainer.model).state_dict().items()})

    return {"on_train_end": keep}


@pytest.mark.parametrize(
    ("task", "taught_by"),
    [("segment", "segment"), ("pose", "pose"), ("obb", "obb"), ("pose", "detect"), ("detect", "segment")],
)
def test_a_student_of_each_task_learns_from_a_teacher_of_the_same_or_another(
    task: str, taught_by: str, data: dict[str, Path], models: Path, tmp_path: Path
) -> None:
    student, teacher = models / f"student-{task}.yaml", models / f"teacher-{taught_by}.pt"
    start, end = {}, {}

    def saved(trainer) -> None:
        start["optimizer"] = torch.load(trainer.last, weights_only=False)["optimizer"]
        start["globals"] = torch.serialization.get_unsafe_globals_in_checkpoint(trainer.last)

    callbacks = {"on_model_save": saved, **trained(end)}
    model = train(data[task], student, tmp_path, callbacks, teacher=teacher, distillation_loss="mgd")
    trainer = model.trainer
    assert isinstance(trainer, DistillationTrainer) and isinstance(trainer, TRAINERS.get(task, object))
    table = rows(trainer.save_dir)
    for row in table:
        assert float(row["train/kd_loss"]) > 0 and 1e-4 < float(row["kd/gradient_ratio"]) < 10
        assert -1 <= float(row["kd/cosine_stride8"]) <= 1
        assert task == "detect" or float(row[f"train/{OWN_LOSS[task]}"]) > 0
    assert not [name for name in table[0] if name.startswith("val/kd")]
    assert YAML.load(trainer.save_dir / "args.yaml")["task"] == task

    plain = ultralytics.YOLO(student).model
    torch.manual_seed(0)
    before = ultralytics.YOLO(student).model.state_dict()
    own = [name for name in before if ".cv4." in name or ".proto." in name]
    assert bool(own) == (task != "detect"), "the head's own branches"
    assert all(not torch.equal(before[n], end[n]) for n in own if n.endswith("conv.weight"))  # and they are trained
    assert STATE in start["optimizer"] and not [n for n in start["globals"] if n.startswith("coco1k_kd")]
    for file in (trainer.best, trainer.last):
        ckpt = torch.load(file, weights_only=False)
        assert type(ckpt["model"]) is type(plain) and set(ckpt["model"].state_dict()) == set(plain.state_dict())
        assert ckpt["optimizer"] is None and "teacher" not in ckpt["train_args"]
    stock = ultralytics.YOLO(trainer.best)
    assert stock.task == task
    stock.val(data=data[task], imgsz=SIZE, plots=False, workers=0, project=tmp_path, name="val")
    stock.predict(np.zeros((SIZE, SIZE, 3), np.uint8), imgsz=SIZE, verbose=False)


@tasks
def test_weight_0_is_the_baseline_of_each_task(task: str, data: dict[str, Path], models: Path, tmp_path: Path) -> None:
    student, plain, control = models / f"student-{task}.yaml", {}, {}
    base = train(data[task], student, tmp_path / "a", trained(plain)).trainer
    other = train(
        data[task], student, tmp_path / "b", trained(control), teacher=models / f"teacher-{task}.pt",
        distillation_weight=0,
    ).trainer  # fmt: skip
    assert type(base) is TRAINERS[task] and isinstance(other, TRAINERS[task])
    assert plain.keys() == control.keys() and all(torch.equal(plain[k], control[k]) for k in plain)
    for one, same in zip(rows(base.save_dir), rows(other.save_dir), strict=True):
        assert [one[k] for k in one] == [same[k] for k in one]


@tasks
def test_a_run_of_each_task_goes_on_where_it_stopped(
    task: str, data: dict[str, Path], models: Path, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(trainer) -> None:
        if trainer.epoch == 2:
            raise Stopped

    teacher = models / f"teacher-{task}.pt"
    with pytest.raises(Stopped):
        train(
            data[task], models / f"student-{task}.yaml", tmp_path, {"on_train_epoch_start": stop}, epochs=3,
            teacher=teacher,
        )  # fmt: skip
    last = tmp_path / "run/weights/last.pt"
    saved = torch.load(last, weights_only=False)["optimizer"][STATE]["distiller"]
    seen: dict[str, Any] = {}
    model = YOLO(last)
    model.add_callback("on_train_start", lambda trainer: seen.update(deepcopy(trainer.distiller.state_dict())))
    model.add_callback("on_train_start", lambda trainer: seen.update(epoch=trainer.start_epoch))
    model.train(resume=True)
    assert isinstance(model.trainer, TRAINERS[task]) and seen["epoch"] == 2
    for name in ("aligners.0.weight", "aligners.2.bias"):
        assert torch.equal(seen[name], saved[name])
    assert [row["epoch"] for row in rows(last.parents[1])] == ["1", "2", "3"]
    assert all(float(row["train/kd_loss"]) > 0 for row in rows(last.parents[1]))
