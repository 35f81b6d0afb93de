"""What a run records of itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from coco1k_kd.errors import RunError
from coco1k_kd.runs import record
from coco1k_kd.runs.record import Recorder, batch_hash, peak_memory, state_hash, steps_taken

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


def test_an_epoch_begins_with_no_image_in_the_mosaics_buffer_but_with_all_that_are_kept_in_memory() -> None:
    def begun(buffer: list[int] | tuple[int, ...]) -> SimpleNamespace:
        images = {name: ["a", "b"] for name in ("ims", "im_hw0", "im_hw")}
        data = SimpleNamespace(buffer=buffer, **images)
        record._seed_epoch(SimpleNamespace(dataset=data, generator=torch.Generator(), reset=lambda: None), 0, 1)
        return data

    read = begun([1])
    assert read.buffer == [] and read.ims == read.im_hw == read.im_hw0 == ["a", None]
    kept = begun((1, 0, 1))
    assert kept.buffer == (1, 0, 1) and kept.ims == kept.im_hw == ["a", "b"]
