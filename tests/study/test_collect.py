"""What the controls of a study find."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from comparisons import EN, comparison, valid
from detections import detections, truth, write
from plans import key_of
from ultralytics import YOLO

import coco1k_kd.study.collect
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.picture import draw
from coco1k_kd.study import collect
from coco1k_kd.study.arms import read_arm
from coco1k_kd.verdict.compare import compare
from coco1k_kd.verdict.entry import Last


@pytest.mark.parametrize(
    ("shift", "device", "d_ap", "passed"),
    [(0.0, "cpu", 0.0, True), (0.1, "cpu", 0.0, False), (0.1, "H100", 0.002, True), (0.1, "H100", 0.01, False)],
)
def test_weight_0_that_is_not_the_baseline_fails(
    shift: float, device: str, d_ap: float, passed: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = YOLO("yolo11n.yaml")
    plan = SimpleNamespace(folder=lambda arm, replicate: tmp_path / arm.name, controlled=read_arm("cwd"))
    for arm, moved in (("baseline", 0.0), ("weight0", shift)):
        with torch.no_grad():
            next(model.model.parameters()).add_(moved)
        (tmp_path / arm / "weights").mkdir(parents=True)
        model.save(tmp_path / arm / "weights" / "last.pt")
    runs = {
        key_of(arm): SimpleNamespace(ap_last=0.3 + d_ap * (arm == "weight0"), dir=arm)
        for arm in ("baseline", "weight0")
    }
    found = collect._weight0(plan, runs, (0, 0), device)
    assert found.passed is passed
    assert (found.state_difference == 0) is (shift == 0)


@pytest.mark.parametrize("alike", [(0, 1), (), (0,)])
def test_a_real_comparison_has_the_last_epoch_beside_the_best(tmp_path, monkeypatch, alike):
    """`alike`: seeds whose best epoch is the last."""
    same = alike == (0, 1)
    rng = np.random.default_rng(0)
    annotations = truth(30, rng)
    path = write(tmp_path, "truth", annotations)
    replicates = [(0, 0), (0, 1)]
    for arm, skill in (("cwd", 0.9), ("baseline", 0.4)):
        for _, seed in replicates:
            folder = tmp_path / f"{arm}{seed}"
            folder.mkdir()
            best = detections(annotations, skill, rng)
            write(folder, "predictions_best", best)
            write(folder, "predictions_last", best if seed in alike else detections(annotations, skill / 2, rng))
    evaluator = SimpleNamespace(
        truth=path,
        study=SimpleNamespace(settings=SimpleNamespace(groups=None), overlap=lambda draws: 0.0),
        judge=None,
        predictions=lambda key, epoch: tmp_path / f"{key[0]}{key[1][1]}" / f"predictions_{epoch}.json",
    )
    pair = tuple(map(coco1k_kd.study.arms.read_arm, ("cwd", "baseline")))
    runs = [(arm, r) for arm in pair for r in replicates]
    calls = []

    def counted(*args, **kwargs):
        calls.append(kwargs["in_parts"])
        return compare(*args, **kwargs)

    monkeypatch.setattr(coco1k_kd.study.comparing, "compare", counted)
    entry = coco1k_kd.study.comparing._compared(pair, runs, evaluator)
    assert calls == ([True] if same else [True, False]), "nothing is computed twice"
    sides = ({r: evaluator.predictions((arm, r), "last") for r in replicates} for arm in pair)
    own = compare(path, *sides)
    assert entry.last == Last(own.d_ap, own.d_ap50, own.mde, own.verdict)
    assert (entry.last.d_ap == entry.d_ap) is same
    content = comparison()
    content.comparisons = [entry]
    draw(valid(content), EN)
    assert "cwd against baseline" in markdown(content, EN)
