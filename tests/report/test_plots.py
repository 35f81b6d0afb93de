"""Single plots, read from the axes that they are drawn on."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from msgspec import structs
from test_report import EN, comparison

from coco1k_kd.report.plots import Plots


def test_ap_against_time_shows_what_an_arm_costs() -> None:
    content = comparison(arms=("baseline", "cwd"), seeds=2)
    for name, arm in content.arms.items():
        seconds = 600.0 if name == "baseline" else 1500.0
        arm.runs = [structs.replace(run, cost_seconds=seconds, train_seconds=9999.0) for run in arm.runs]
    axes = Figure().subplots()
    Plots(content, EN).accuracy_by_time(axes)
    lines = {line.get_label(): line for line in axes.get_lines()}
    epochs = content.arms["cwd"].runs[0].epochs
    assert lines["baseline"].get_xdata()[-1] == pytest.approx(10), "minutes at the last of the epochs"
    assert lines["cwd"].get_xdata()[-1] == pytest.approx(25)
    assert len(lines["cwd"].get_xdata()) == epochs and axes.get_xlabel() == EN("pic_minutes")
    ends = [100 * run.curves["ap"][-1] for run in content.arms["cwd"].runs]
    assert lines["cwd"].get_ydata()[-1] == pytest.approx(sum(ends) / 2)
