"""Where a student starts: with all of its weights, or with its backbone alone."""

from __future__ import annotations

from pathlib import Path

WEIGHTS, BACKBONE = STARTS = ("weights", "backbone")

# For a neck and a head that have everything to learn in minutes; with a step per batch (nbs) and the backbone frozen.
# Ultralytics' own choice, a learning rate of 0.0001 and a step per 64 images, is for weights that are nearly right.
BACKBONE_TRAINING = {"optimizer": "AdamW", "lr0": 0.001, "warmup_epochs": 1.0}


def backbone_start(weights: str | Path, seed: int, output: Path) -> Path:
    """Write a checkpoint with the backbone of `weights` and everything above it as a fresh model has it.

    The start of the papers whose losses are used here: a backbone that knows images, a neck and a head that have
    everything to learn. The fresh weights follow from `seed` alone; the caller's random stream is left as it was.

    Args:
        weights: an Ultralytics detector, .pt.
        seed: of the fresh weights.
        output: where the checkpoint goes, .pt.

    Returns:
        `output`.
    """
    import torch
    import ultralytics

    student = ultralytics.YOLO(str(weights))
    layers = len(student.model.yaml["backbone"])
    kept = {name: w for name, w in student.model.state_dict().items() if int(name.split(".")[1]) < layers}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(student.model)(student.model.yaml, verbose=False)
    student.model.load_state_dict({**fresh.state_dict(), **kept})
    output.parent.mkdir(parents=True, exist_ok=True)
    student.save(str(output))
    return output
