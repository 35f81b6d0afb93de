"""Where a student starts: with all of its weights, or with a part of them and the rest fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coco1k_kd.distill.weights import load_model

WEIGHTS, FROZEN, NECK, BACKBONE = STARTS = ("weights", "frozen", "neck", "backbone")

# For fresh layers, which have everything to learn in minutes; with a step per batch (`nbs`). Ultralytics' own choice, a
# learning rate of 0.0001 and a step per 64 images, is for weights that are nearly right.
FRESH_TRAINING = {"optimizer": "AdamW", "lr0": 0.001, "momentum": 0.9, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0}
# Over a frozen backbone as Ultralytics warms up an optimizer that is named: there CWD gained +0.8 to
# +1.4 AP, without it up to +0.2 (docs/lab/frozen-backbone.md).
FROZEN_TRAINING = FRESH_TRAINING | {"momentum": 0.937, "warmup_bias_lr": 0.1}


def start_training(start: str, batch: int) -> dict[str, object]:
    """Ultralytics' training settings for what is fresh after `start`; none for a student with all of its weights."""
    if start == WEIGHTS:
        return {}
    return {**(FROZEN_TRAINING if start == FROZEN else FRESH_TRAINING), "nbs": batch}


def frozen_layers(weights: str | Path) -> int:
    """How many layers Ultralytics' `freeze=` must leave alone for the backbone of `weights` to stay as it is."""
    return len(load_model(weights, "student").yaml["backbone"])


def keep_statistics(trainer: Any) -> None:
    """A callback for `on_train_batch_start`: the student's batch norms keep their statistics, their weights move.

    At the start of an epoch Ultralytics puts all of the model into training mode, after its callbacks.
    """
    from torch.nn.modules.batchnorm import _BatchNorm  # of all dimensions, and synchronised

    from coco1k_kd.runs.record import student_of

    for module in student_of(trainer).modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def partial_start(weights: str | Path, keep: str, seed: int, output: Path) -> Path:
    """Write a checkpoint that keeps the lower part of `weights`; all above it is as a fresh model has it.

    "neck" keeps all but the head, where everyone starts whose classes are new; "backbone" keeps the backbone alone,
    where the papers start whose losses are used here; "frozen" is "neck" for a training that leaves the backbone alone
    (`frozen_layers`). The fresh weights follow from `seed` alone; the caller's random stream is left as it was.

    Args:
        weights: an Ultralytics detector, .pt.
        keep: "frozen", "neck" or "backbone".
        seed: of the fresh weights.
        output: where the checkpoint goes, .pt.

    Returns:
        `output`.
    """
    import torch
    import ultralytics

    student = ultralytics.YOLO(str(weights))
    backbone, rest = (len(student.model.yaml[part]) for part in ("backbone", "head"))
    layers = backbone if keep == BACKBONE else backbone + rest - 1
    kept = {name: w for name, w in student.model.state_dict().items() if int(name.split(".")[1]) < layers}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(student.model)(student.model.yaml, verbose=False)
    student.model.load_state_dict({**fresh.state_dict(), **kept})
    output.parent.mkdir(parents=True, exist_ok=True)
    student.save(str(output))
    return output
