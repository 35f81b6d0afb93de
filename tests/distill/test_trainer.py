"""Distillation on Ultralytics' seams, trained for real on a few generated images. Each known trap has a test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ultralytics
from programs import call
from studies import with_signal
from trainings import UNCHANGED_IMAGES, final_weights, rows, tiny_architecture, tiny_detector, train
from ultralytics.utils import YAML
from ultralytics.utils.torch_utils import profile_ops

import coco1k_kd.distill.trainer as distillation
from coco1k_kd import YOLO, UserError
from coco1k_kd.distill.criterion import DistillationCriterion
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.teacher import Teacher, weights_sha256
from coco1k_kd.distill.trainer import DistillationTrainer
from coco1k_kd.runs.train import random_teacher

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def distilled(one_thread, subset, teacher_file, tmp_path_factory):
    """One distilled run that several tests look at."""
    seen: dict[str, Any] = {"globals": set(), "checkpoints": []}

    def saved(trainer) -> None:
        for file in (trainer.last, trainer.best):
            seen["globals"] |= set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
        ckpt = torch.load(trainer.last, weights_only=False)
        seen["checkpoints"].append((set(ckpt["ema"].state_dict()), set(ckpt["optimizer"])))

    teacher = ultralytics.YOLO(teacher_file).model
    teacher.train()
    before = weights_sha256(teacher)
    model = train(
        subset,
        tmp_path_factory.mktemp("distilled"),
        {"on_model_save": saved},
        epochs=2,
        teacher=teacher,
        distillation_loss="CWD",
    )
    assert weights_sha256(teacher) == before and teacher.training  # the user's own module is as it was
    assert all(p.requires_grad for n, p in teacher.named_parameters() if "dfl" not in n)
    return model.trainer, seen


def test_results_csv_and_args_yaml_tell_the_distillation(distilled, teacher_file):
    trainer, _ = distilled
    table = rows(trainer.save_dir)
    for row in table:
        assert float(row["train/kd_loss"]) > 0
        assert 1e-4 < float(row["kd/gradient_ratio"]) < 10
        assert all(-1 <= float(row[f"kd/cosine_stride{s}"]) <= 1 for s in (8, 16, 32))
    assert float(table[-1]["kd/weight"]) == pytest.approx(0.1 * float(table[0]["kd/weight"]))
    assert not [name for name in table[0] if name.startswith("val/kd")]
    args = YAML.load(trainer.save_dir / "args.yaml")
    assert args["teacher"] == str(teacher_file)
    assert args["teacher_sha256"] == weights_sha256(ultralytics.YOLO(teacher_file).model)
    assert args["distillation_loss"] == "cwd"


def test_checkpoints_hold_a_plain_student(distilled, tmp_path):
    trainer, seen = distilled
    plain = set(ultralytics.YOLO("yolo11n.yaml", verbose=False).model.state_dict())
    assert not [name for name in seen["globals"] if name.startswith("coco1k_kd")]
    for keys, optimizer in seen["checkpoints"]:
        assert keys == plain
        assert distillation.STATE in optimizer  # what resuming needs
    for file in (trainer.best, trainer.last):
        ckpt = torch.load(file, weights_only=False)
        assert set(ckpt["model"].state_dict()) == plain
        assert ckpt["optimizer"] is None and ckpt["ema"] is None
        assert "teacher" not in str(ckpt["train_args"].keys())
    assert sorted(f.name for f in trainer.wdir.iterdir()) == ["best.pt", "last.pt"]
    code = f"import sys, ultralytics as u; u.YOLO({str(trainer.best)!r}).info(); assert 'coco1k_kd' not in sys.modules"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_exports_like_a_plain_student(distilled, plain):
    onnx = pytest.importorskip("onnx")
    (trainer, _), (base, _) = distilled, plain

    def graph(file: Path) -> list:
        exported = ultralytics.YOLO(file).export(format="onnx", imgsz=64, simplify=False, verbose=False)
        graph = onnx.load(exported).graph
        # An Identity stands for a weight that happens to equal another one, so it hangs on values, not on structure.
        nodes = [(n.op_type, len(n.input), len(n.output)) for n in graph.node if n.op_type != "Identity"]
        return [*nodes, *(str(value.type) for value in (*graph.input, *graph.output))]

    assert graph(trainer.best) == graph(base.best)


def test_distiller_is_trained_and_clipped_apart(distilled):
    trainer, _ = distilled
    group = trainer.optimizer.param_groups[-1]
    assert [id(p) for p in group["params"]] == [id(p) for p in trainer.distiller.parameters()]
    assert trainer.moved
    model = {id(p) for p in trainer.model.parameters()}
    assert not model & {id(p) for p in group["params"]}
    assert not model & {id(p) for p in trainer.teacher.network.parameters()}
    assert not any(p.requires_grad for p in trainer.teacher.network.parameters())
    assert not trainer.teacher.network.training


@pytest.fixture(scope="module")
def plain(one_thread, subset, tmp_path_factory):
    """The baseline of several tests, and its weights after two epochs."""
    weights: dict[str, torch.Tensor] = {}
    return train(subset, tmp_path_factory.mktemp("plain"), final_weights(weights), epochs=2).trainer, weights


@pytest.mark.parametrize("loss", ["cwd", "mgd"])
def test_weight_0_is_the_baseline(loss, plain, subset, teacher_file, tmp_path):
    (base, weights), distilled = plain, {}
    control = train(
        subset, tmp_path, final_weights(distilled), epochs=2, teacher=teacher_file, distillation_loss=loss,
        distillation_weight=0,
    ).trainer  # fmt: skip
    assert weights.keys() == distilled.keys()
    assert all(torch.equal(weights[k], distilled[k]) for k in weights)
    for a, b in zip(rows(base.save_dir), rows(control.save_dir), strict=True):
        same = [k for k in a if k not in ("time",)]
        assert [a[k] for k in same] == [b[k] for k in same]


def test_a_teacher_beside_the_student_teaches_the_same(subset, teacher_file, tmp_path, monkeypatch):
    weights = {True: {}, False: {}}
    for beside, store in weights.items():
        monkeypatch.setattr(DistillationTrainer, "_leaves_cores_idle", lambda _, answer=beside: answer)
        trainer = train(subset, tmp_path / str(beside), final_weights(store), teacher=teacher_file).trainer
        assert bool(trainer.beside) == beside
    assert all(torch.equal(weights[True][k], weights[False][k]) for k in weights[True])


def test_a_distilled_run_is_killed_and_goes_on(subset, teacher_file, tmp_path, monkeypatch, caplog, capsys):
    options = {
        "epochs": 4, "batch": 16, "teacher": str(teacher_file), "distillation_loss": "mgd",
        "distillation_weight": 0.5, "distillation_levels": "16,32", **UNCHANGED_IMAGES,
    }  # fmt: skip
    whole = train(subset, tmp_path / "whole", **options).trainer
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "import trainings as t\n"
        "def die(trainer):\n    if trainer.epoch == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"t.train(Path(sys.argv[1]), Path(sys.argv[2]), {{'on_train_batch_end': die}}, **{options!r})"
    )
    command = [sys.executable, "-c", code, str(subset), str(tmp_path / "cut")]
    killed = call(command, cwd=tmp_path)
    assert killed.returncode == -9, killed.stderr[-2000:]
    weights = tmp_path / "cut/run/weights"
    saved = torch.load(weights / "last.pt", weights_only=False)["optimizer"][distillation.STATE]["distiller"]

    torn = (weights / "last.pt").read_bytes()
    (weights / "last.pt").write_bytes(torn[: len(torn) // 2])
    again = YOLO(weights / "last.pt")  # falls back to the epoch before
    assert again.ckpt["epoch"] == 0
    assert "is torn" in capsys.readouterr().out + caplog.text
    (weights / "last.pt").write_bytes(torn)

    with pytest.raises(UserError, match="distillation_loss differs"):
        YOLO(weights / "last.pt").train(resume=True, distillation_loss="cwd")
    with pytest.raises(UserError, match=re.escape("distillation_levels differs from the checkpoint's (16, 32)")):
        YOLO(weights / "last.pt").train(resume=True, distillation_levels=(8, 16))
    with pytest.raises(UserError, match="other weights"):
        YOLO(weights / "last.pt").train(resume=True, teacher=YOLO("yolov8s.yaml"), distillation_levels=[32, 16])

    seen, loads, load = {}, [], distillation.load_model
    monkeypatch.setattr(distillation, "load_model", lambda given, role: loads.append(given) or load(given, role))
    model = YOLO(weights / "last.pt")

    def started(trainer) -> None:
        seen.update(deepcopy(trainer.distiller.state_dict()), epoch=trainer.start_epoch)

    model.add_callback("on_train_start", started)
    model.train(resume=True)
    assert loads == [str(teacher_file)]  # once
    assert seen.pop("epoch") == 2
    assert seen["_extra_state"]["fitted_batches"] == 6  # two epochs of three: the fit goes on where it was
    assert model.trainer.distiller.fitted_batches == 10
    torch.testing.assert_close(dict(seen), dict(saved), rtol=0, atol=0)
    end, expected = rows(weights.parent)[-1], rows(whole.save_dir)[-1]
    assert end["epoch"] == "4"
    assert end["kd/weight"] == expected["kd/weight"]  # the schedule goes on, over the whole run
    # Ultralytics goes on from its average, in another order of the images: the same curve, not the same digits.
    assert float(end["train/kd_loss"]) == pytest.approx(float(expected["train/kd_loss"]), rel=0.1)
    with pytest.raises(UserError, match="or is finished"):
        YOLO(weights / "last.pt").train(resume=str(weights / "last.pt"), teacher=teacher_file)


@pytest.mark.parametrize(
    ("student", "teacher", "levels", "strides"),
    [
        ("yolo11n", "yolov8n-p2", None, [8, 16, 32]),
        ("yolov8n-p2", "yolo11n", None, [8, 16, 32]),
        ("yolo11n", "yolov8n-p6", "8,32", [8, 32]),
        ("yolov8n-p6", "yolov8n-p2", (16, 32), [16, 32]),
    ],
)
def test_models_of_different_levels_share_those_of_equal_stride(student, teacher, levels, strides, subset, tmp_path):
    trainer = train(
        subset, tmp_path, student=f"{student}.yaml", teacher=with_signal(YOLO(f"{teacher}.yaml")),
        distillation_levels=levels, distillation_loss="cwd+response", distillation_weight=0.02,
    ).trainer  # fmt: skip
    (row,) = rows(trainer.save_dir)
    assert [name for name in row if "cosine" in name] == [f"kd/cosine_stride{s}" for s in strides]
    assert float(row["train/kd_response"]) > 0


def test_levels_that_only_one_model_has_are_refused_before_anything_is_written(subset, teacher_file, tmp_path):
    for student, levels in (("yolo11n.yaml", 4), ("yolov8n-p2.yaml", "4,8")):
        with pytest.raises(UserError, match="no stride 4, only 8, 16, 32"):
            train(subset, tmp_path, student=student, teacher=teacher_file, distillation_levels=levels)
    assert not list(tmp_path.iterdir())


def test_chosen_levels_alone_are_distilled(subset, teacher_file, tmp_path):
    options = {"teacher": teacher_file, "distillation_levels": "32,8", "distillation_weight": 0.1}
    trainer = train(subset, tmp_path, distillation_aligner="random", **options).trainer
    assert trainer.distiller.fitted_batches == 0
    assert len(trainer.distiller.aligners) == 2 and trainer.settings.levels == (8, 32)
    cosines = [name for name in rows(trainer.save_dir)[0] if name.startswith("kd/cosine")]
    assert cosines == ["kd/cosine_stride8", "kd/cosine_stride32"]
    assert YAML.load(trainer.save_dir / "args.yaml")["distillation_levels"] == [8, 32]


def test_levels_that_are_frozen_are_left_out_of_the_ratio(subset, teacher_file, tmp_path):
    """yolo11's levels leave layers 16, 19 and 22."""
    trainer = train(subset, tmp_path, teacher=teacher_file, freeze=17, distillation_weight=0.01).trainer
    assert [any(p.requires_grad for p in trainer.model.model[i].parameters()) for i in (16, 19, 22)] == [0, 1, 1]
    assert 1e-4 < float(rows(trainer.save_dir)[0]["kd/gradient_ratio"]) < 10


@pytest.mark.parametrize(
    ("asked", "settled", "dtype"),
    [
        (True, True, torch.float16),
        (True, False, torch.float32),  # a card that gets it wrong
        ("bf16", True, torch.bfloat16),
        ("fp32", False, torch.float32),
    ],
)
def test_the_teacher_follows_what_ultralytics_settles_for_amp(asked, settled, dtype):
    teacher = Teacher(tiny_detector(8), torch.device("cpu"), torch.float32, compile_mode=False)
    trainer = SimpleNamespace(
        args=SimpleNamespace(amp=asked), amp=settled, device=torch.device("cuda"), teacher=teacher,
        settings=Distillation("teacher.pt"),
    )  # fmt: skip
    DistillationTrainer._settle_precision(trainer)
    assert teacher.dtype == dtype and {p.dtype for p in teacher.network.parameters()} == {dtype}
    assert teacher.unchanged()


def test_everything_else_of_ultralytics_still_works(subset, teacher_file, tmp_path):
    def peaked(trainer) -> None:  # a fitness that is not reached again stops the run early
        trainer.stopper.best_fitness = 1.0

    seen: dict[str, list] = {}

    def epoch_ended(trainer) -> None:  # what TensorBoard, W&B and MLflow log here
        seen.setdefault("losses", []).append(trainer.label_loss_items(trainer.tloss, prefix="train"))

    def epoch_fitted(trainer) -> None:  # and here
        seen.setdefault("metrics", []).append(dict(trainer.metrics))

    trainer = train(
        subset, tmp_path,
        {"on_train_start": peaked, "on_train_epoch_end": epoch_ended, "on_fit_epoch_end": epoch_fitted},
        teacher=teacher_file, epochs=4, multi_scale=0.5, cache="ram", cos_lr=True, close_mosaic=3, freeze=3,
        plots=True, optimizer="SGD", patience=2,
    ).trainer  # fmt: skip
    assert (trainer.save_dir / "distillation.png").stat().st_size > 10_000
    table = rows(trainer.save_dir)
    assert len(table) == 2
    for row, losses, metrics in zip(table, seen["losses"], seen["metrics"], strict=False):
        assert float(row["train/kd_loss"]) == pytest.approx(losses["train/kd_loss"], rel=1e-4)
        assert losses["train/kd_loss"] > 0
        for name in ("kd/weight", "kd/gradient_ratio", "kd/cosine_stride8", "kd/cosine_stride32"):
            assert float(row[name]) == pytest.approx(metrics[name], rel=1e-4)


def test_ultralytics_recovers_from_a_poisoned_batch(subset, teacher_file, tmp_path):
    """A task loss that diverges is Ultralytics' to mend, from last.pt: the distiller must go back with the student."""
    seen: dict[str, Any] = {}

    def poison(trainer) -> None:
        if trainer.epoch == 1 and "poisoned" not in seen:
            preprocess = trainer.preprocess_batch
            trainer.preprocess_batch = lambda batch: {
                **preprocess(batch),
                "img": torch.full((8, 3, 64, 64), float("nan")),
            }
            seen["poisoned"] = trainer
        elif "poisoned" in seen:
            trainer.__dict__.pop("preprocess_batch", None)

    def copied(trainer) -> None:  # what integrations and the EMA do with a model in training
        seen["copy"] = deepcopy(trainer.model)

    model = train(
        subset, tmp_path, {"on_train_batch_start": poison, "on_train_batch_end": copied}, epochs=3, teacher=teacher_file
    )
    assert seen["poisoned"] is model.trainer
    assert [row["epoch"] for row in rows(model.trainer.save_dir)] == ["1", "2", "3"]
    assert all(torch.isfinite(p).all() for p in model.trainer.distiller.parameters())
    assert not isinstance(seen["copy"].criterion, DistillationCriterion)


def test_an_epoch_that_is_cut_short(subset, teacher_file, tmp_path):
    """As `time=` does it, or an integration that stops the run: no measurement was due yet."""
    trainer = train(
        subset, tmp_path, {"on_train_batch_end": lambda t: setattr(t, "stop", True)}, teacher=teacher_file, epochs=3
    ).trainer
    (row,) = rows(trainer.save_dir)
    assert float(row["train/kd_loss"]) > 0 and row["kd/gradient_ratio"] == "nan"


@pytest.mark.parametrize(
    ("loss", "dtype", "precision"),
    [("mgd", torch.bfloat16, "bf16"), ("cwd", torch.float16, "fp16"), ("cwd", torch.bfloat16, "fp32")],
)
def test_autocast(loss, dtype, precision, subset, teacher_file, tmp_path, monkeypatch):
    """Ultralytics has autocast and its gradient scaler on GPUs only; the CPU's stand in for them."""
    monkeypatch.setattr("ultralytics.engine.trainer.autocast", lambda *_, **__: torch.autocast("cpu", dtype))
    scaler = torch.amp.GradScaler
    enabled = dtype == torch.float16
    monkeypatch.setattr("torch.amp.GradScaler", lambda *_, **__: scaler("cpu", enabled=enabled, init_scale=2.0**4))
    trainer = train(
        subset, tmp_path, teacher=teacher_file, distillation_loss=loss, distillation_precision=precision
    ).trainer
    row = rows(trainer.save_dir)[0]
    assert float(row["train/kd_loss"]) > 0 and 1e-4 < float(row["kd/gradient_ratio"]) < 10
    assert trainer.moved and all(p.dtype == torch.float32 for p in trainer.distiller.parameters())
    assert trainer.criterion.scale() == (2.0**4 if enabled else 1.0)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [("yolo26n", "yolo26s"), ("yolo26n", "yolo26l"), ("yolo11n", "yolo26l"), ("yolov8n", "yolo11l")],
)
def test_families(student, teacher, subset, tmp_path):
    images = sorted((subset / "images" / "train2017").iterdir())[:4]
    random_teacher(f"{teacher}.yaml", images, 64, 1, tmp_path / "teacher.pt")
    trainer = train(
        subset, tmp_path, student=f"{student}.yaml", teacher=tmp_path / "teacher.pt", optimizer="MuSGD", lr0=0.001,
        warmup_epochs=0,
    ).trainer  # fmt: skip
    (row,) = rows(trainer.save_dir)
    assert float(row["train/kd_loss"]) > 0 and 1e-3 < float(row["kd/gradient_ratio"]) < 10
    assert ("train/l1_loss" in row) == (student == "yolo26n")  # without a distribution over distances
    assert type(trainer.criterion.task).__name__ == ("E2ELoss" if student == "yolo26n" else "v8DetectionLoss")


def test_auto_batch_counts_the_teacher(subset, teacher_file, tmp_path, monkeypatch):
    seen = {}

    def estimate(model, imgsz, **kwargs):
        seen["parameters"] = sum(p.numel() for p in model.parameters())
        images = [torch.rand(2, model.yaml.get("channels", 3), imgsz, imgsz)]
        (profile,) = profile_ops(images, deepcopy(model).train(), n=1, device=torch.device("cpu"))
        assert profile is not None and profile[4] > 0, "no forward and backward to be measured"
        assert (len(model.names), model.stride.tolist()) == (12, [8, 16, 32])
        return 4

    monkeypatch.setattr("ultralytics.engine.trainer.check_train_batch_size", estimate)
    trainer = train(subset, tmp_path, teacher=teacher_file, batch=-1, distillation_weight=0.01).trainer
    parts = (trainer.model, trainer.teacher.network, trainer.distiller)
    assert seen["parameters"] == sum(p.numel() for part in parts for p in part.parameters())
    assert trainer.batch_size == 4


def test_settings_reach_ddp_workers_by_value():
    """Ultralytics hands its workers the trainer's class: cloudpickle must carry ours with its settings."""
    cloudpickle = pytest.importorskip("cloudpickle")
    bound = DistillationTrainer.bind(Distillation("teacher.pt", loss="mgd", weight=2.0))
    again = cloudpickle.loads(cloudpickle.dumps(bound))
    assert again.settings == bound.settings and issubclass(again, DistillationTrainer)


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_distils_like_a_plain_one(subset, tmp_path):
    YAML.save(tmp_path / "tiny.yaml", tiny_architecture(8))
    torch.manual_seed(0)
    teacher = tiny_detector(16)
    plain, compiled = (
        train(
            subset, tmp_path / str(compile_), student=tmp_path / "tiny.yaml", teacher=teacher, compile=compile_,
            val=False, optimizer="SGD", distillation_precision="fp32",
            distillation_loss="cwd+response",
        ).trainer
        for compile_ in (False, True)
    )  # fmt: skip
    for network in (compiled.model, compiled.teacher._forward):
        assert isinstance(network, torch._dynamo.OptimizedModule)
    assert compiled.moved
    (expected,), (row,) = rows(plain.save_dir), rows(compiled.save_dir)
    for name in ("train/box_loss", "train/kd_cwd", "train/kd_box", "kd/gradient_ratio", "kd/cosine_stride8"):
        assert float(row[name]) == pytest.approx(float(expected[name]), rel=0.02), name
    keys = set(ultralytics.YOLO(compiled.last).model.state_dict())
    assert keys == set(ultralytics.YOLO(plain.last).model.state_dict())
