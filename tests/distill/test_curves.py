"""The picture of a distilled run."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from coco1k_kd.distill import curves


def test_every_term_and_level_of_the_log_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *given, **more: drawn.append(self) or save(self, *given, **more)
    )
    names = ["epoch", "train/box_loss", "train/kd_loss", "train/kd_cls", "kd/cosine_stride8", "kd/gradient_ratio"]
    rows = [[epoch, 9, 2 / epoch, 1 / epoch, epoch / 10, 0.5] for epoch in (1, 2, 3)]
    results = tmp_path / "results.csv"
    results.write_text("\n".join(",".join(map(str, row)) for row in (names, *rows)) + "\n")
    png = curves.plot_distillation(results)
    assert png == tmp_path / "distillation.png" and imread(png)[..., :3].std() > 0.05
    found = [{line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in drawn[0].axes]
    assert found == [
        {"loss": [2, 1, 2 / 3], "cls": [1, 0.5, 1 / 3]},
        {"stride8": [0.1, 0.2, 0.3]},
        {"all": [0.5, 0.5, 0.5]},
    ]
    assert [axes.get_legend() is not None for axes in drawn[0].axes] == [True, False, False]
