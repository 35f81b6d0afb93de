"""The picture of one distilled run: does the loss fall, do the features align."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PANELS = (
    ("Distillation loss (without its weight)", "train/kd_"),
    ("Cosine of student and teacher features", "kd/cosine"),
    ("Gradient: distillation / task", "kd/gradient_ratio"),
)


def plot_distillation(results: Path) -> Path:
    """Draw distillation.png beside a distilled run's results.csv and return its path."""
    with results.open(newline="") as file:
        table = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in table]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (title, prefix) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        columns = [name for name in table[0] if name.startswith(prefix)]
        for name in columns:
            label = name.removeprefix(prefix).lstrip("_") or "all"
            axes.plot(epochs, [float(row[name]) for row in table], marker=".", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(columns) > 1:
            axes.legend()
    png = results.with_name("distillation.png")
    figure.savefig(png, dpi=100)
    return png
