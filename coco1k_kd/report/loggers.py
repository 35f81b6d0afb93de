"""The study's summary where the curves of its runs are: TensorBoard, MLflow and Weights & Biases.

A logger is used if Ultralytics' integration of it is on (`yolo settings tensorboard=True`) and it is installed. Each
gets a study once; a logger that fails costs a warning and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from coco1k_kd.files import write_json
from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.words import Words
from coco1k_kd.verdict.entry import Entry


def log_study(comparison: Comparison, files: Sequence[Path], words: Words) -> list[str]:
    """Log a finished study to every logger that is on and has not got it yet.

    Args:
        comparison: the study's figures.
        files: what `write_report` has written; the JSON's name has the study's stamp.
        words: of the sentences.

    Returns:
        Where it was logged to, or why it was not, a line each.
    """
    data = next(file for file in files if file.suffix == ".json")
    stamp, folder = data.stem.removeprefix("comparison_"), data.parent
    marker = folder / f"logged_{stamp}.json"
    logged: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        logged = json.loads(marker.read_bytes())
    lines = []
    for name, log in _LOGGERS.items():
        if name in logged or not _is_on(name):
            continue
        try:
            lines.append(f"logged to {log(summary(comparison), told(comparison, words), files, folder, stamp)}")
            logged.append(name)
            write_json(marker, logged)
        except Exception as error:  # whatever a logger does, the study is done
            lines.append(f"not logged to {name}: {' '.join(str(error).split()) or type(error).__name__}")
    return lines


def summary(comparison: Comparison) -> dict[str, float]:
    """The figures of every comparison by name, in AP points; a logger's names allow letters, digits, - _ . and /."""
    figures = {}
    for entry in comparison.comparisons:
        low, high = entry.d_ap.interval
        for key, value in (("d_ap", entry.d_ap.mean), ("d_ap_low", low), ("d_ap_high", high)):
            figures[f"study/{_name(entry)}/{key}"] = 100 * value
    return figures


def told(comparison: Comparison, words: Words) -> dict[str, str]:
    """The verdict of every comparison in a sentence."""
    return {_name(entry): words.sentence(entry) for entry in comparison.comparisons}


def _name(entry: Entry) -> str:
    letters = f"{entry.arm}_vs_{entry.against}"
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in letters)


def _is_on(name: str) -> bool:
    """Whether Ultralytics' settings have the logger on, and it is installed."""
    from ultralytics.utils import SETTINGS

    return SETTINGS.get(name) is True and importlib.util.find_spec(name) is not None


def _tensorboard(
    figures: Mapping[str, float], said: Mapping[str, str], files: Sequence[Path], folder: Path, stamp: str
) -> str:
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    place = folder / f"study_{stamp}"
    with SummaryWriter(str(place)) as writer:
        for name, value in figures.items():
            writer.add_scalar(name, value)
        for name, sentence in said.items():
            writer.add_text(f"study/{name}", sentence)
        for file in _pictures(files):
            with Image.open(file) as image:
                writer.add_image("study/picture", np.array(image.convert("RGB")), dataformats="HWC")
    return f"TensorBoard: tensorboard --logdir {folder}"


def _mlflow(
    figures: Mapping[str, float], said: Mapping[str, str], files: Sequence[Path], folder: Path, stamp: str
) -> str:
    import mlflow

    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or str(folder))  # as Ultralytics names it
    with mlflow.start_run(run_name=f"study_{stamp}"):
        mlflow.log_metrics(dict(figures))
        mlflow.set_tags({f"verdict.{name}": sentence for name, sentence in said.items()})
        for file in files:
            mlflow.log_artifact(str(file))
    return f"MLflow: {mlflow.get_tracking_uri()}"


def _wandb(
    figures: Mapping[str, float], said: Mapping[str, str], files: Sequence[Path], folder: Path, stamp: str
) -> str:
    import wandb

    with wandb.init(project=folder.name, name=f"study_{stamp}", job_type="study") as run:
        run.summary.update({**figures, **{f"verdict/{name}": sentence for name, sentence in said.items()}})
        for file in _pictures(files):
            run.log({"study/picture": wandb.Image(str(file))})
        return f"Weights & Biases: {run.url or run.dir}"


def _pictures(files: Sequence[Path]) -> list[Path]:
    return [file for file in files if file.suffix == ".png"]


_LOGGERS: dict[str, Callable[[Mapping[str, float], Mapping[str, str], Sequence[Path], Path, str], str]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
