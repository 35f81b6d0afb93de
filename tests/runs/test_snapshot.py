"""Snapshots of runs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from coco1k_kd.errors import RunError
from coco1k_kd.runs import snapshot
from coco1k_kd.runs.snapshot import load_snapshot, save_snapshot
from coco1k_kd.runs.spec import Figures


def test_a_snapshot_holds_the_checkpoints_once_in_memory(tmp_path: Path) -> None:
    """As pickled bytes they were held five times: 2 GB more than the training itself took."""
    last, best = tmp_path / "weights/last.pt", tmp_path / "weights/best.pt"
    last.parent.mkdir()
    size = 4 << 20
    for file, byte in ((last, b"l"), (best, b"b")):
        file.write_bytes(byte * size)
    model = torch.nn.Linear(2, 2)
    trainer = SimpleNamespace(
        last=last, best=best, csv=tmp_path / "results.csv", model=model, ema=SimpleNamespace(ema=model), epoch=0,
        optimizer=torch.optim.SGD(model.parameters()), scaler=torch.amp.GradScaler("cpu", enabled=False),
    )  # fmt: skip
    tracemalloc.start()
    save_snapshot(trainer, tmp_path, Figures(), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2 * size <= peak < 3 * size
    last.write_bytes(b"torn")
    best.unlink()
    assert load_snapshot(tmp_path)["epoch"] == 0
    assert last.read_bytes() == b"l" * size and best.read_bytes() == b"b" * size


@pytest.mark.parametrize("begins", [1, 3])
def test_a_run_does_not_go_on_from_the_snapshot_of_another_epoch(begins: int) -> None:
    with pytest.raises(RunError, match=f"resume went to epoch {begins}, the snapshot is of epoch 1"):
        snapshot.restore(SimpleNamespace(start_epoch=begins), {"epoch": 1})


def test_gradients_outside_the_model_are_the_mean_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those inside are DDP's; a parameter without a gradient has none to share."""
    inside, outside, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    inside.grad, outside.grad = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])
    model = SimpleNamespace(parameters=lambda: [inside])
    groups = SimpleNamespace(param_groups=[{"params": [inside, outside, unused]}])
    monkeypatch.setattr(snapshot.dist, "all_reduce", lambda gradient: gradient.add_(torch.tensor([3.0, 0.0])))
    for ranks, mean in ((1, [1.0, 2.0]), (2, [2.0, 1.0])):
        snapshot.average_outside(SimpleNamespace(world_size=ranks, model=model, optimizer=groups))
        assert (inside.grad.tolist(), outside.grad.tolist(), unused.grad) == ([1.0, 2.0], mean, None)
