"""Snapshots from which a run continues exactly: the full-precision state, and the run folder's files as they were."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from msgspec import structs
from torch import nn
from ultralytics.utils.torch_utils import unwrap_model

from coco1k_kd.errors import RunError
from coco1k_kd.files import atomic, write_atomic
from coco1k_kd.runs.spec import Figures

SNAPSHOT = "resume.pt"
SNAPSHOT_SECONDS = 30.0  # between two: with MGD one takes 441 MB and a second (docs/lab/scaling-on-paper.md)


def read_snapshot(folder: Path) -> dict[str, Any] | None:
    """The run folder's snapshot; None where there is none to continue from."""
    path = folder / "weights" / SNAPSHOT
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def load_snapshot(folder: Path) -> dict[str, Any] | None:
    """The same, and the run folder's files put back as they were."""
    snapshot = read_snapshot(folder)
    if snapshot is None:
        return None
    for name, content in snapshot["files"].items():
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise RunError(f"the snapshot would write {name}, which is outside {folder}")
        write_atomic(folder / name, content.numpy().tobytes())
    return snapshot


def average_outside(trainer: Any) -> None:
    """Give all ranks the mean of gradients that wait for a step outside DDP's model: the distiller's.

    The step would take their mean anyway; taken here, the snapshot of rank 0 is that of every rank.
    """
    inside = {id(parameter) for parameter in trainer.model.parameters()}
    for parameter in parameters(trainer) if trainer.world_size > 1 else ():
        if id(parameter) not in inside and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= trainer.world_size


def save_snapshot(trainer: Any, folder: Path, figures: Figures, stepped_at: int) -> None:
    """Write the snapshot of an epoch's end; `stepped_at` is the iteration of the last optimizer step."""
    paths = [path for path in (trainer.last, trainer.best, trainer.csv) if path.exists()]
    # As tensors, and written as they come: pickled bytes are copied again and again, 2 GB in a run with MGD.
    files = {str(path.relative_to(folder)): torch.from_numpy(np.fromfile(path, np.uint8)) for path in paths}
    snapshot = {
        "epoch": trainer.epoch,
        "figures": structs.asdict(figures),
        "stepped_at": stepped_at,
        "files": files,
        "model": _without_teacher(unwrap_model(trainer.model).state_dict()),
        "ema": _without_teacher(trainer.ema.ema.state_dict()),
        "parameters": [parameter.detach() for parameter in parameters(trainer)],
        "gradients": [parameter.grad for parameter in parameters(trainer)],
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
    }
    with atomic(folder / "weights" / SNAPSHOT) as file:
        torch.save(snapshot, file)


def restore(trainer: Any, snapshot: dict[str, Any]) -> None:
    """Give a trainer that is about to go on the snapshot's state, all but gradients. RunError where it does not fit."""
    if trainer.start_epoch != snapshot["epoch"] + 1:
        raise RunError(f"resume went to epoch {trainer.start_epoch}, the snapshot is of epoch {snapshot['epoch']}")
    for module, state in ((unwrap_model(trainer.model), "model"), (trainer.ema.ema, "ema")):
        left_out = module.load_state_dict(snapshot[state], strict=False)
        if left_out.unexpected_keys or any("teacher" not in key for key in left_out.missing_keys):
            raise RunError(f"the snapshot does not fit the model: {left_out}")
    trainer.optimizer.load_state_dict(snapshot["optimizer"])
    trainer.scaler.load_state_dict(snapshot["scaler"])
    with torch.no_grad():
        for parameter, value in zip(parameters(trainer), snapshot["parameters"], strict=True):
            parameter.copy_(value)


def parameters(trainer: Any) -> Iterable[nn.Parameter]:
    """All that the optimizer moves, in its order."""
    return [parameter for group in trainer.optimizer.param_groups for parameter in group["params"]]


def _without_teacher(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if "teacher" not in key}
