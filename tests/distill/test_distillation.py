"""Distillation on Ultralytics' seams, trained for real on a few generated images. Each known trap has a test."""

from __future__ import annotations

import csv
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
from studies import with_signal
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import YAML
from ultralytics.utils.torch_utils import profile_ops

import coco1k_kd.distill.trainer as distillation
from coco1k_kd import YOLO, UserError
from coco1k_kd.distill import alive
from coco1k_kd.distill.criterion import TARGET, DistillationCriterion, _apart
from coco1k_kd.distill.distiller import FIT_BATCHES, Answer, Distiller, gradient_ratios, schedule_factor
from coco1k_kd.distill.losses import standardise
from coco1k_kd.distill.seams import detect_head, neck_channels, student_answer
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.teacher import Teacher, teacher_dtype, weights_sha256
from coco1k_kd.distill.trainer import DistillationError, DistillationTrainer
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.runs.train import random_teacher

PROJECT = Path(__file__).resolve().parents[2]
UNCHANGED_IMAGES = {
    "mosaic": 0.0,
    "fliplr": 0.0,
    "translate": 0.0,
    "scale": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.0,
}
pytestmark = pytest.mark.usefixtures("one_thread")
TINY = {"batch": 8, "imgsz": 64, "workers": 0, "plots": False, "seed": 3, "verbose": False}


@pytest.fixture(scope="module")
def teacher_file(subset, tmp_path_factory) -> Path:
    """A wider teacher of another family, with random weights and 80 classes: the data have 12."""
    file = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    random_teacher("yolov8s.yaml", sorted((subset / "images" / "train2017").iterdir())[:8], 64, 1, file)
    return file


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


@pytest.fixture(scope="module")
def distilled(subset, teacher_file, tmp_path_factory):
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


def test_exports_like_a_plain_student(distilled, subset, tmp_path):
    onnx = pytest.importorskip("onnx")
    trainer, _ = distilled
    plain = train(subset, tmp_path).trainer

    def graph(file: Path) -> list:
        exported = ultralytics.YOLO(file).export(format="onnx", imgsz=64, simplify=False, verbose=False)
        graph = onnx.load(exported).graph
        # An Identity stands for a weight that happens to equal another one, so it hangs on values, not on structure.
        nodes = [(n.op_type, len(n.input), len(n.output)) for n in graph.node if n.op_type != "Identity"]
        return [*nodes, *(str(value.type) for value in (*graph.input, *graph.output))]

    assert graph(trainer.best) == graph(plain.best)


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


@pytest.mark.parametrize("loss", ["cwd", "mgd"])
def test_weight_0_is_the_baseline(loss, subset, teacher_file, tmp_path):
    plain, distilled = {}, {}
    base = train(subset, tmp_path / "a", final_weights(plain), epochs=2).trainer
    control = train(
        subset, tmp_path / "b", final_weights(distilled), epochs=2, teacher=teacher_file,
        distillation_loss=loss, distillation_weight=0,
    ).trainer  # fmt: skip
    assert plain.keys() == distilled.keys()
    assert all(torch.equal(plain[k], distilled[k]) for k in plain)
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


def test_teacher_none_is_plain_training(subset, tmp_path):
    model = train(subset, tmp_path, teacher=None, distillation_loss="cwd")
    assert type(model.trainer) is DetectionTrainer
    assert "train/kd_loss" not in rows(model.trainer.save_dir)[0]


def test_a_distilled_run_is_killed_and_goes_on(subset, teacher_file, tmp_path, monkeypatch, caplog, capsys):
    options = {
        "epochs": 4, "batch": 16, "teacher": str(teacher_file), "distillation_loss": "mgd",
        "distillation_weight": 0.5, "distillation_levels": "16,32", **UNCHANGED_IMAGES,
    }  # fmt: skip
    whole = train(subset, tmp_path / "whole", **options).trainer
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1]); import test_distillation as t\n"
        "def die(trainer):\n    if trainer.epoch == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"t.train(Path(sys.argv[2]), Path(sys.argv[3]), {{'on_train_batch_end': die}}, **{options!r})"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(subset), str(tmp_path / "cut")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tests")])}
    killed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
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


def compared(distiller: Distiller, student, teacher, measure: bool = False):
    """The summed loss of features alone, and the agreement."""
    terms, cosines = distiller(Answer(student, {}), Answer(teacher, {}), measure)
    return torch.stack([term.value for term in terms]).sum(), cosines


def spoil(name: str, value: Any):
    """Callback that breaks something of the trainer's at the start of training."""
    return {"on_train_start": lambda trainer: setattr(trainer, name, value)}


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


def test_the_levels_are_those_of_equal_stride():
    settings = Distillation("")
    assert settings.shared_levels([8, 16, 32], [4, 8, 16, 32]) == [(0, 1), (1, 2), (2, 3)]
    assert Distillation("", levels="16").shared_levels([8, 16, 32], [16, 32, 64]) == [(1, 0)]
    with pytest.raises(UserError, match="no level in common: the strides of the teacher's neck are 64, of the student"):
        settings.shared_levels([8, 16, 32], [64])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation_loss": "no_such_loss"}, "unknown loss 'no_such_loss'.*cwd, mgd"),
        ({"distillation_weight": -1}, "must be a number >= 0"),
        ({"distillation_weight": "much"}, "must be a number >= 0"),
        ({"distillation_schedule": "step"}, "unknown schedule"),
        ({"distillation_tau": 0}, "distillation_tau"),
        ({"distillation_loss": "mgd", "distillation_mask_ratio": 1.0}, "distillation_mask_ratio"),
        ({"distillation_levels": "16,x"}, "distillation_levels='16,x' must be strides"),
        ({"distillation_levels": [16, 16]}, "must be strides"),
        ({"distillation_levels": 4}, "no stride 4, only"),
        ({"distillation_loss": "mgd", "distillation_tau": 2}, "distillation_tau is not a setting of the loss mgd"),
        ({"distillation_weight": (1, 2)}, "one number, or one for each of cwd"),
        ({"distillation_loss": "cwd+response", "distillation_weight": "1,2,3"}, "for each of cwd, response"),
        ({"distillation_loss": "response+response"}, "names response twice"),
        ({"distillation_normalise": "batch"}, "unknown normalise 'batch'.*channels, none"),
        ({"distillation_aligner": "ridge"}, "unknown aligner 'ridge'.*fitted, random"),
        ({"distillation_levels": 8, "freeze": 17}, "none of the distilled levels"),
        ({"distill_model": "yolo11n.yaml"}, "choose one"),
        ({"trainer": ClassificationTrainer}, "does not train the task detect"),
        ({"dis": 6.0}, "use distillation_weight="),
        ({"distillation_layers": ["16", "19"]}, "distillation_levels= chooses"),
        ({"distillation_temperature": 2}, "distillation_temperature is not known: choose of loss.*tau"),
        ({"freeze": 23}, "nothing to distil into"),
    ],
)
def test_unfit_settings_are_refused(options, message, subset, teacher_file, tmp_path):
    with pytest.raises(UserError, match=message):
        train(subset, tmp_path, teacher=teacher_file, **options)


def test_chosen_levels_alone_are_distilled(subset, teacher_file, tmp_path):
    options = {"teacher": teacher_file, "distillation_levels": "32,8", "distillation_weight": 0.1}
    trainer = train(subset, tmp_path, distillation_aligner="random", **options).trainer
    assert trainer.distiller.fitted_batches == 0
    assert len(trainer.distiller.aligners) == 2 and trainer.settings.levels == (8, 32)
    cosines = [name for name in rows(trainer.save_dir)[0] if name.startswith("kd/cosine")]
    assert cosines == ["kd/cosine_stride8", "kd/cosine_stride32"]
    assert YAML.load(trainer.save_dir / "args.yaml")["distillation_levels"] == [8, 32]


@pytest.mark.parametrize("loss", ["cwd", "mgd"])
def test_a_level_that_is_left_out_gets_no_gradient_and_the_others_what_they_get_alone(loss):
    student, teacher = levels()
    one, alone = Distiller([8, 16], [12, 20], loss, levels=[(1, 1)]), Distiller([16], [20], loss, seed=1)
    alone.load_state_dict(one.state_dict())
    one.fit(student, teacher)
    alone.fit(student[1:], teacher[1:])
    value, cosines = compared(one, student, teacher, measure=True)
    first, second = torch.autograd.grad(value, student, allow_unused=True)
    (expected,) = torch.autograd.grad(compared(alone, student[1:], teacher[1:])[0], student[1:])
    assert first is None and torch.equal(second, expected) and len(cosines) == 1


def test_features_are_compared_as_they_are_if_told_so():
    student, teacher = levels(torch.float64)
    distiller = Distiller([8, 16], [12, 20], "cwd", normalise="none").double()
    parts = zip(distiller.aligners, distiller.losses["cwd"], student, teacher, strict=True)
    expected = sum(term(align(s).float(), t.float()) for align, term, s, t in parts)
    torch.testing.assert_close(compared(distiller, student, teacher)[0], expected)


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


@pytest.mark.parametrize("name", ["yolo11n", "yolo11l", "yolo11x", "yolov8m", "yolo26n", "yolov10n", "yolov5n"])
def test_teacher_gives_the_neck_of_the_whole_model(name):
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{name}.yaml", verbose=False).model.eval()
    head, caught = detect_head(model, "teacher"), []
    head.register_forward_pre_hook(lambda _, inputs: caught.extend(inputs[0]))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        model(images)
    head._forward_pre_hooks.clear()
    features, responses = Teacher(model, torch.device("cpu"), torch.float32, compile_mode=False)(images)
    assert not responses
    assert [f.shape[1] for f in features] == neck_channels(head)
    for mine, theirs in zip(features, caught, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    student_channels = [64, 128, 256]  # of yolo11n
    student = [
        torch.rand(1, c, *f.shape[2:], requires_grad=True) for c, f in zip(student_channels, features, strict=True)
    ]
    for loss in ("cwd", "mgd"):
        compared(Distiller(student_channels, neck_channels(head), loss), student, features)[0].backward()
        assert all(level.grad.isfinite().all() and level.grad.abs().sum() > 0 for level in student)
    half = Teacher(model, torch.device("cpu"), torch.bfloat16, compile_mode=False)(images).features
    for mine, theirs in zip(half, caught, strict=True):
        assert float((mine.float() - theirs).norm() / theirs.norm()) < 0.05


@pytest.mark.parametrize(
    ("device", "amp", "capabilities", "dtype"),
    [
        ("cpu", False, {"amx_bf16": True}, torch.bfloat16),
        ("cpu", False, {"avx512_bf16": True}, torch.bfloat16),
        ("cpu", False, {"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, torch.float32),
        ("cuda", True, {}, torch.float16),
        ("cuda", "bf16", {}, torch.bfloat16),
        ("cuda", False, {}, torch.float32),
        ("mps", True, {}, torch.float32),
    ],
)
def test_the_teacher_is_in_the_fastest_safe_precision(device, amp, capabilities, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert teacher_dtype(torch.device(device), amp, "auto") == dtype
    assert teacher_dtype(torch.device(device), amp, "fp32") == torch.float32


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


def test_fit_finds_a_linear_teacher():
    generator = torch.Generator().manual_seed(0)
    distiller = Distiller([8, 16], [12, 20], "cwd")
    maps = [torch.randn(t, s, generator=generator) for s, t in ((8, 12), (16, 20))]
    for _ in range(3):
        student = [torch.randn(4, s, 12, 12, generator=generator) for s in (8, 16)]
        teacher = [torch.einsum("ts,nshw->nthw", m, x) + 5 for m, x in zip(maps, student, strict=True)]
        distiller.fit(student, teacher)
    loss, cosines = compared(distiller, student, teacher, measure=True)
    assert len(cosines) == 2 and all(c > 0.999 for c in cosines)
    assert float(loss.detach()) < 0.01
    torch.manual_seed(0)
    random_loss, _ = compared(Distiller([8, 16], [12, 20], "cwd"), student, teacher)
    assert float(random_loss.detach()) > 100 * float(loss)


def levels(dtype: torch.dtype = torch.float32) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two levels of a student, in its layout, and of a teacher, in its own."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, c, s, s + 1) for c, s in ((8, 12), (16, 6), (12, 12), (20, 6))]
    maps = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [x.requires_grad_() for x in maps[:2]], [x.to(memory_format=torch.channels_last) for x in maps[2:]]


@pytest.mark.parametrize("loss", ["cwd", "mgd", "cwd+mgd"])
def test_the_distiller_is_aligner_standardisation_loss_and_a_sum_over_levels(loss):
    student, teacher = levels(torch.float64)
    distiller, plain = (Distiller([8, 16], [12, 20], loss).double() for _ in range(2))
    plain.load_state_dict(distiller.state_dict())
    terms, _ = distiller(Answer(student, {}), Answer(teacher, {}))
    assert [(term.loss, term.branch) for term in terms] == [(name, "one2many") for name in loss.split("+")]
    for term in terms:
        parts = zip(plain.aligners, plain.losses[term.loss], student, teacher, strict=True)
        expected = sum(loss(standardise(align(s)), standardise(t)) for align, loss, s, t in parts)
        torch.testing.assert_close(term.value, expected)
        gradients = (torch.autograd.grad(value, student, retain_graph=True) for value in (term.value, expected))
        torch.testing.assert_close(*gradients)


def test_gradients_have_the_layout_of_the_students_own():
    """The teacher's channels_last would stay with them, and the student's sums round differently from a baseline's."""
    student, teacher = levels()
    leaves = [level.detach().requires_grad_() for level in student]
    value, _ = compared(Distiller([8, 16], [12, 20], "cwd"), [_apart(leaf) for leaf in leaves], teacher)
    assert all(g.is_contiguous() for g in torch.autograd.grad(value, leaves))


def test_float16_gradients_of_a_mean_do_not_underflow():
    """Of P3 at 640 px they are about 1e-6, and float16 ends at 6e-8: the gradient scaler's factor keeps them."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, c, 80, 80, generator=generator) for c in (8, 64))
    distiller, scale = Distiller([8], [64], "cwd"), 2.0**16  # with which Ultralytics' scaler begins
    single, half = student.requires_grad_(), student.detach().half().requires_grad_()
    (exact,) = torch.autograd.grad(compared(distiller, [single], [teacher])[0] * 8 * scale, single)
    with torch.autocast("cpu", torch.float16):
        value, _ = compared(distiller, [half], [teacher.half()])
    (gradient,) = torch.autograd.grad(value * 8 * scale, half)
    assert float((gradient - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("loss", ["cwd", "mgd"])
def test_an_interrupted_fit_goes_on(loss, tmp_path):
    generator = torch.Generator().manual_seed(0)
    batches = [[torch.randn(2, c, 5, 5, generator=generator) for c in (8, 12)] for _ in range(4)]
    whole, first, second = (Distiller([8], [12], loss) for _ in range(3))
    for i, (student, teacher) in enumerate(batches):
        whole.fit([student], [teacher])
        if i < 2:
            first.fit([student], [teacher])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.fitted_batches == 2
    for student, teacher in batches[2:]:
        second.fit([student], [teacher])
    for name, expected in whole.aligners.state_dict().items():
        torch.testing.assert_close(second.aligners.state_dict()[name], expected)


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


def test_gradient_ratio_is_that_of_the_gradients():
    task = [torch.randn(2, 3), torch.randn(4)]
    ratios = gradient_ratios([[3 * g for g in task], [0 * g for g in task]], task)
    torch.testing.assert_close(ratios, torch.tensor([3.0, 0.0]))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(1.0, float("inf")), (float("inf"), 1.0), (1.0, 0.0), (float("nan"), 1.0)]
)
def test_a_ratio_is_nothing_unless_both_gradients_are_finite(ours, theirs):
    """Infinite ones come with float16: 1 / inf would pass as a ratio of 0, and make of weight "auto" 5e11."""
    (ratio,) = gradient_ratios([[torch.tensor([ours])]], [torch.tensor([theirs])])
    assert ratio.isnan()


def test_schedule():
    cosine = [schedule_factor("cosine", e, 11) for e in range(11)]
    assert cosine[0] == 1.0 and cosine[5] == pytest.approx(0.55) and cosine[-1] == pytest.approx(0.1)
    assert cosine == sorted(cosine, reverse=True)
    assert schedule_factor("constant", 9, 11) == schedule_factor("cosine", 0, 1) == 1.0


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
