"""What a run records of itself, and that a run that was killed ends as one that was not, step for step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from msgspec import structs

from coco1k_kd.errors import RunError
from coco1k_kd.runs import record, train
from coco1k_kd.runs.initial import WEIGHTS
from coco1k_kd.runs.record import Recorder, batch_hash, peak_memory, state_hash, steps_taken
from coco1k_kd.runs.snapshot import read_snapshot
from coco1k_kd.runs.spec import UNTAUGHT, Trained, TrainSpec

CPU = torch.device("cpu")


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, batch=8, seed=0)


def test_the_state_hash_sees_names_types_shapes_and_values() -> None:
    layer = torch.nn.Linear(2, 3)
    first = state_hash(layer)
    assert first == state_hash(layer) and len(first) == 64
    with torch.no_grad():
        layer.bias[2] += 1
    assert len({first, state_hash(layer), state_hash(layer.double()), state_hash(torch.nn.Linear(3, 2))}) == 4


def test_a_loss_that_is_not_finite_ends_the_run(recorder: Recorder) -> None:
    sampler = SimpleNamespace(sampler=range(20))
    trainer = SimpleNamespace(device=CPU, epoch=4, train_loader=sampler, tloss={"box": torch.ones(2)}, batch_size=8)
    recorder.figures.images, recorder.figures.world_size = 100, 2
    recorder.on_train_epoch_end(trainer)
    assert (recorder.figures.epochs, recorder.figures.images) == (5, 140)
    trainer.tloss["cls"] = torch.tensor([1.0, float("inf")])
    with pytest.raises(RunError, match=r"infinite in epoch 5 \(cls\)"):
        recorder.on_train_epoch_end(trainer)


@pytest.mark.parametrize(("taken", "enough"), [(10, True), (5, True), (4, False)])
def test_a_training_that_skips_more_than_half_of_its_steps_is_none(
    recorder: Recorder, taken: int, enough: bool
) -> None:
    recorder.figures.steps_taken = taken
    trainer = SimpleNamespace(ema=SimpleNamespace(updates=10), optimizer=SimpleNamespace(state={}))
    if enough:
        recorder.on_train_end(trainer)
        assert recorder.work == {"optimizer_steps_due": 10, "optimizer_steps": taken}
        return
    with pytest.raises(RunError, match="took 4 of 10 steps"):
        recorder.on_train_end(trainer)


def test_steps_are_those_that_the_optimizer_counts_where_it_does() -> None:
    adam = SimpleNamespace(state={1: {"step": torch.tensor(3.0)}, 2: {"step": torch.tensor(7.0)}, 3: {}})
    assert steps_taken(adam, 9) == 7
    assert steps_taken(SimpleNamespace(state={1: {}}), 9) == 9


def test_the_peak_is_the_resident_memory_that_the_process_has_had() -> None:
    kept = bytearray(64 << 20)
    kept[::4096] = b"x" * len(kept[::4096])
    most = peak_memory(CPU)
    assert 64 << 20 < most < 1 << 40
    status = Path("/proc/self/status").read_text()
    assert most == 1024 * int(status.split("VmHWM:")[1].split()[0])


def test_the_peak_is_in_bytes_where_the_system_has_no_files_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "Path", lambda _: SimpleNamespace(exists=lambda: False))
    monkeypatch.setattr(record.resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=5000))
    for platform, most in (("linux", 5000 * 1024), ("darwin", 5000)):
        monkeypatch.setattr(record.sys, "platform", platform)
        assert peak_memory(CPU) == most


def test_batches_are_counted_over_epochs(recorder: Recorder) -> None:
    recorder._batch_index = 1
    assert recorder._iteration(SimpleNamespace(epoch=2, train_loader=range(3))) == 7


def test_the_first_three_batches_and_the_first_of_each_epoch_are_hashed(recorder: Recorder) -> None:
    keys = ("img", "bboxes", "cls", "batch_idx")
    batches = [{key: torch.full((2, 2), float(number)) for key in keys} for number in range(5)]
    expected_first, expected_stream = "", ""
    for epoch in range(2):
        recorder._batch_index = -1
        for number, batch in enumerate(batches):
            recorder._see(SimpleNamespace(epoch=epoch), batch)
            if epoch == 0 and number < 3:
                expected_first = batch_hash(batch, expected_first)
        expected_stream = batch_hash(batches[0], expected_stream)
    assert (recorder.figures.batch_hash, recorder.figures.stream_hash) == (expected_first, expected_stream)


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


def test_a_halved_batch_is_no_fair_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cut the batch from 16 to 8"):
        Recorder(tmp_path, batch=16, seed=0).on_train_epoch_start(SimpleNamespace(batch_size=8))


def test_the_batch_hash_sees_images_boxes_and_order() -> None:
    batch = {key: torch.arange(8.0).reshape(2, 4) for key in ("img", "bboxes", "cls", "batch_idx")}
    first = batch_hash(batch)
    assert batch_hash(batch) == first and batch_hash(batch, first) != first
    for key in batch:
        changed = {**batch, key: batch[key] + (torch.arange(8).reshape(2, 4) == 5)}
        assert batch_hash(changed) != first
