"""What a study is given is checked before anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from ultralytics import YOLO
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.trainer import BaseTrainer

from coco1k_kd.data.accept import accept
from coco1k_kd.data.dataset import read_data
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.runs.devices import check_device
from coco1k_kd.runs.predict import predict
from coco1k_kd.study.hyperparameters import resolve_optimizer
from coco1k_kd.study.settings import Settings

VAL = "annotations/instances_val2017.json"


@pytest.fixture
def copy(subset: Path, tmp_path: Path) -> Path:
    """A subset to break; its YAML says no path, so that it is the folder of the YAML."""
    folder = tmp_path / "images" / "coco1k"  # Ultralytics looks for labels beside the last folder called images
    shutil.copytree(subset, folder, symlinks=True)
    lines = (folder / "coco1k.yaml").read_text().splitlines(keepends=True)
    (folder / "coco1k.yaml").write_text("".join(line for line in lines if not line.startswith("path")))
    return folder


def test_a_good_subset_is_read(copy: Path) -> None:
    data = read_data(copy / "coco1k.yaml")
    assert (data.train.size, data.val.size) == (48, 24)
    assert data.record()["manifest_sha256"] == sha256(copy / "manifest.json")
    assert len(data.classes) == data.record()["classes"] == 12


def _drop_image(folder: Path) -> None:
    next((folder / "images" / "val2017").glob("*.jpg")).unlink()


def _drop_labels(folder: Path) -> None:
    shutil.rmtree(folder / "labels" / "train2017")


def _add_image(folder: Path) -> None:
    (folder / "images" / "val2017" / "stranger.jpg").write_bytes(b"")


def _drop_annotations(folder: Path) -> None:
    (folder / "annotations" / "instances_val2017.json").unlink()


def _tear_annotations(folder: Path) -> None:
    path = folder / "annotations" / "instances_train2017.json"
    path.write_bytes(path.read_bytes()[:100])


def _rename_class(folder: Path) -> None:
    path = folder / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_bytes())
    content["categories"][0]["name"] = "unicorn"
    path.write_text(json.dumps(content))


def _break_yaml(folder: Path) -> None:
    (folder / "coco1k.yaml").write_text("train: [")


def _no_yaml(folder: Path) -> None:
    (folder / "coco1k.yaml").unlink()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (_drop_image, "1 of 24 images"),
        (_drop_labels, "there is no label file"),
        (_add_image, "stranger.jpg"),
        (_drop_annotations, "cannot read"),
        (_tear_annotations, "not a whole COCO instances file"),
        (_rename_class, "unicorn"),
        (_break_yaml, "not a data YAML"),
        (_no_yaml, "create_coco1k.py"),
    ],
)
def test_a_broken_subset_is_refused(copy: Path, fault: Any, named: str) -> None:
    fault(copy)
    with pytest.raises(UserError, match=named) as caught:
        accept(read_data(copy / "coco1k.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"loss": "kld"}, "unknown loss .kld"),
        ({"project": Path("it's")}, "--project it's: Ultralytics drops ' from paths of checkpoints"),
        ({"student": "it's/a.pt"}, "--student it's/a.pt: Ultralytics drops '"),
        ({"arms": ["baseline", "dkd"]}, "unknown arm dkd"),
        ({"arms": ["cwd", "cwd"]}, "twice"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [-1]}, "--seeds -1"),
        ({"seeds": [2**32]}, "--seeds 4294967296"),
        ({"epochs": 0}, "--epochs 0"),
        ({"batch": 0}, "--batch 0"),
        ({"imgsz": 100}, "multiple of 32"),
        ({"imgsz": 0}, "multiple of 32"),
        ({"workers": -1}, "--workers -1"),
        ({"distillation_weight": float("nan")}, "--distillation-weight nan"),
        ({"arms": ["baseline", "baseline_same_time"]}, "add an arm that distils"),
        ({"device": "0,0"}, "--device 0,0: several GPUs are given by their numbers, each once: 0,1"),
        ({"device": "0,x"}, "--device 0,x: several GPUs"),
        ({"device": "cpu,0"}, "--device cpu,0: several GPUs"),
        ({"device": "0,"}, "--device 0,: several GPUs"),
        ({"device": "0,1,2"}, "--batch 16: 3 devices cannot have equal shares of it"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Settings(data=Path("coco1k.yaml"), **change).checked()


def test_the_baseline_is_always_there_and_capitals_do_not_matter() -> None:
    for given, wanted in (
        ({"loss": "MGD"}, ["baseline", "mgd"]),
        ({"arms": ["CWD", "ultralytics"]}, ["baseline", "cwd", "ultralytics"]),
    ):
        assert [arm.name for arm in Settings(data=Path("x"), **given).checked().arms] == wanted


@pytest.mark.parametrize(("images", "epochs"), [(1500, 100), (1500, 417), (1500, 416), (48, 2), (118287, 100)])
def test_the_pinned_optimizer_is_what_auto_would_choose(images: int, epochs: int) -> None:
    batch, classes = 16, 80
    args = SimpleNamespace(optimizer="auto", lr0=0.01, warmup_bias_lr=0.1)
    trainer = SimpleNamespace(args=args, data={"nc": classes})
    model = nn.Module()
    model.model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    iterations = -(-images // 64) * epochs  # as in BaseTrainer._build_train_pipeline
    built = BaseTrainer.build_optimizer(trainer, model, "auto", 0.01, 0.937, 0.0005, iterations)
    pinned = resolve_optimizer(images, batch, epochs, classes)
    group = built.param_groups[-1]
    assert pinned["optimizer"] == args.optimizer == type(built).__name__
    assert pinned["lr0"] == args.lr0 and pinned["warmup_bias_lr"] == args.warmup_bias_lr
    assert pinned["momentum"] == group.get("momentum", group.get("betas", [None])[0])


@pytest.mark.parametrize(
    ("name", "role", "named"),
    [
        ("nothing.pt", "student", "cannot load the student"),
        ("yolo11n-cls.yaml", "student", "a classifier"),
        ("yolo11n-seg.yaml", "student", "task segment"),
        ("yolo11l.yaml", "teacher", "has learnt nothing"),
        ("model.onnx", "teacher", "an exported model"),
    ],
)
def test_weights_that_cannot_serve_are_refused(
    name: str, role: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=named):
        read_weights(name, role)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    check_device("cpu")
    with pytest.raises(UserError, match="--device 99"):
        check_device("99")
    with pytest.raises(UserError, match="--device 98,99: there are "):
        check_device("98,99")
    with pytest.raises(UserError, match="--device tpu"):
        check_device("tpu")


@pytest.mark.parametrize(
    ("part", "value"),
    [("categories", "a"), ("categories", {"id": 1}), ("images", {"id": 1}), ("annotations", {}), ("annotations", None)],
)
def test_malformed_entries_are_no_traceback(copy: Path, part: str, value: Any) -> None:
    path = copy / VAL
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, part: [*content[part], value]}))
    with pytest.raises(UserError, match=r"instances_val2017.json: \w+\[\d+\] is not in COCO's format"):
        read_data(copy / "coco1k.yaml")


@pytest.mark.parametrize("file", ["images/train2017", "labels/val2017"])
def test_what_ultralytics_would_leave_out_is_said_before_training(copy: Path, file: str) -> None:
    path = min((copy / file).iterdir())
    path.unlink()  # a hard link
    path.write_text("0 9 9 9 9\n")
    with pytest.raises(UserError, match=rf"{path.stem}.*(cannot be decoded|leave it out.*out of bounds)"):
        accept(read_data(copy / "coco1k.yaml"))


def test_an_image_that_is_not_evaluated_is_no_silent_zero(copy: Path, models: Path, tmp_path: Path) -> None:
    path = min((copy / "images/val2017").iterdir())
    path.unlink()
    path.write_text("")
    settings = {"data": str(copy / "coco1k.yaml"), "imgsz": 32, "batch": 8, "device": "cpu", "workers": 0}
    with pytest.raises(UserError, match="23 of the 24 images"):
        predict(
            YOLO(str(models / "student.pt")),
            copy / VAL,
            (copy / "images/val2017").resolve(),
            tmp_path / "predictions.json",
            **settings,
        )
    assert not (tmp_path / "predictions.json").exists()


def test_label_caches_are_those_that_training_looks_for(copy: Path) -> None:
    assert accept(read_data(copy / "coco1k.yaml")) == []
    caches = {path: path.stat().st_mtime_ns for path in copy.rglob("*.cache")}
    assert {path.name for path in caches} == {"train2017.cache", "val2017.cache"}
    data = check_det_dataset(str(copy / "coco1k.yaml"))
    for split in ("train", "val"):
        assert len(YOLODataset(img_path=data[split], data=data).labels) == {"train": 48, "val": 24}[split]
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.cache")} == caches
