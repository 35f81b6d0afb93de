"""A run from its spec to its result: resumed step for step, and refused where it cannot be the study's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from msgspec import structs

from coco1k_kd.errors import DistillationError, UserError
from coco1k_kd.files import atomic
from coco1k_kd.runs import record, train
from coco1k_kd.runs.initial import WEIGHTS
from coco1k_kd.runs.launch import FAILURE, LOG, RunFailed, _failure
from coco1k_kd.runs.record import state_hash
from coco1k_kd.runs.snapshot import read_snapshot
from coco1k_kd.runs.spec import SPEC, UNTAUGHT, EvaluateSpec, Trained, TrainSpec, write


@pytest.fixture
def spec(subset: Path, models: Path, tmp_path: Path) -> TrainSpec:
    """Three epochs of three batches, whose gradients are stepped with after four."""
    return TrainSpec(
        folder=str(tmp_path / "whole"),
        annotations="",
        images="",
        arm="baseline",
        seed=5,
        student=str(models / "student.pt"),
        start=WEIGHTS,
        freeze_bn=False,
        **UNTAUGHT,
        train_args={
            **{"data": str(subset / "coco1k.yaml"), "imgsz": 32, "batch": 16, "device": "cpu", "workers": 0},
            **{"optimizer": "AdamW", "lr0": 0.001, "warmup_epochs": 0, "epochs": 3, "seed": 5, "deterministic": True},
            **{"patience": 0, "plots": False, "exist_ok": True, "close_mosaic": 1},
        },
    )


def trained(spec: TrainSpec) -> Trained:
    folder = Path(spec.folder)
    folder.mkdir(exist_ok=True)
    train._prepare(spec, folder)
    return train.fit(spec)


def test_a_run_that_was_killed_ends_in_the_same_weights_by_the_same_steps(
    spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    whole = trained(spec)
    found = whole.figures
    assert (found.epochs, found.images, found.effective_batch, found.world_size) == (3, 3 * 48, 16, 1)
    assert all(len(digest) == 64 for digest in (found.init_hash, found.batch_hash, found.stream_hash))
    assert found.train_seconds > found.val_seconds > 0 and found.resumed_after_epochs == []
    assert found.earlier_seconds == 0 and found.cpu_seconds > 0 and found.peak_memory_bytes > 2**27
    assert whole.work["accumulate"] == 4 and whole.work["optimizer_steps"] == whole.work["optimizer_steps_due"] == 2
    assert (whole.work["train_images"], whole.work["val_images"]) == (48, 24)
    assert (whole.work["device"], whole.work["amp"], whole.work["threads"] > 0) == ("cpu", False, True)
    assert whole.work["optimizer"]["name"] == "AdamW"
    groups = whole.work["optimizer"]["groups"]
    assert sum(group["tensors"] for group in groups) > 100 and {group["initial_lr"] for group in groups} == {0.001}
    assert whole.work["train_args"]["close_mosaic"] == 1
    assert (tmp_path / "whole/weights/resume.pt").exists(), "the first epoch always has a snapshot"

    monkeypatch.setattr(record, "SNAPSHOT_SECONDS", 0.0)
    save, killed = record.save_snapshot, structs.replace(spec, folder=str(tmp_path / "killed"))

    def save_and_die(trainer: object, *args: object) -> None:
        save(trainer, *args)
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(record, "save_snapshot", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        trained(structs.replace(killed, at_once=2))
    before = read_snapshot(tmp_path / "killed")["figures"]
    resumed = trained(killed)
    assert resumed.figures.resumed_after_epochs == [2]
    assert (found.at_once, resumed.figures.at_once) == (1, 2), "its first epochs shared the machine"
    assert resumed.figures.earlier_seconds == before["train_seconds"] + before["val_seconds"] > 0
    assert read_snapshot(tmp_path / "killed")["epoch"] == 1, "the last epoch has no snapshot"
    for name in ("init_hash", "batch_hash", "stream_hash", "epochs", "images", "steps_taken", "effective_batch"):
        assert getattr(resumed.figures, name) == getattr(found, name), name
    own = ("save_dir", "model", "resume", "project", "name")
    works = [{**part.work, "train_args": {k: v for k, v in part.work["train_args"].items() if k not in own}}
             for part in (whole, resumed)]  # fmt: skip
    assert works[0] == works[1]
    last = [
        torch.load(tmp_path / name / "weights/last.pt", weights_only=False)["model"] for name in ("whole", "killed")
    ]
    assert state_hash(last[0]) == state_hash(last[1])
    rows = [(tmp_path / name / "results.csv").read_text().splitlines() for name in ("whole", "killed")]
    assert [row.split(",")[2:] for row in rows[0]] == [row.split(",")[2:] for row in rows[1]] and len(rows[0]) == 4


def test_what_a_killed_run_had_not_written_to_the_end_is_removed(spec: TrainSpec) -> None:
    folder = Path(spec.folder)
    weights = folder / "weights"
    with atomic(weights / "resume.pt") as file:
        file.write(b"half")
        torn = next(weights.iterdir()).name
    (weights / "resume.pt").rename(weights / torn)
    train._prepare(spec, folder)
    assert not (weights / torn).exists()


def test_a_run_of_other_code_does_not_start(spec: TrainSpec) -> None:
    with pytest.raises(UserError, match="code has changed"):
        train.train(structs.replace(spec, code="0"))
    assert not Path(spec.folder).exists()


@pytest.mark.parametrize(
    ("error", "code", "kind"), [(DistillationError("it stays"), 1, RunFailed), (UserError("no file"), 2, UserError)]
)
def test_a_run_that_does_not_distil_has_failed_and_bad_input_is_bad_input(error, code, kind, tmp_path, monkeypatch):
    def end(_: object) -> None:
        raise error

    spec = EvaluateSpec(folder=str(tmp_path), annotations="", images="", weights={}, val_args={})
    write(tmp_path / SPEC, spec)
    (tmp_path / LOG).write_text("epoch 1 of 5\n")
    monkeypatch.setattr(train, "evaluate", end)
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / "spec.json")])
    assert train.main() == code
    said = _failure(tmp_path, "cwd, seed 1", code)
    assert type(said) is kind and str(error) in str(said)


@pytest.mark.parametrize(
    ("error", "at_once", "said"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1, "out of memory; take a smaller --batch or --imgsz"),
        (MemoryError(), 2, "--imgsz or fewer runs at a time with --parallel"),
    ],
)
def test_memory_that_ran_out_is_said_with_what_helps(
    error: Exception, at_once: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: object) -> None:
        raise error

    spec = EvaluateSpec(folder=str(tmp_path), annotations="", images="", weights={}, val_args={}, at_once=at_once)
    write(tmp_path / SPEC, spec)
    monkeypatch.setattr(train, "evaluate", end)
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / SPEC)])
    assert train.main() == 1
    failure = json.loads((tmp_path / FAILURE).read_bytes())
    assert failure["kind"] == "run" and failure["message"].endswith(said)


def test_a_defect_of_ours_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_: object) -> None:
        raise KeyError("feats")

    write(tmp_path / SPEC, EvaluateSpec(folder=str(tmp_path), annotations="", images="", weights={}, val_args={}))
    monkeypatch.setattr(train, "evaluate", end)
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / SPEC)])
    with pytest.raises(KeyError):
        train.main()
    assert not (tmp_path / FAILURE).exists()
