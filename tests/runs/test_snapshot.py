"""Snapshots of runs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import torch

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
