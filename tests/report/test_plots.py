"""Single plots, read from the axes that they are drawn on."""

from __future__ import annotations

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from comparisons import EN, SEARCH, SHAPES, comparison, drawn
from matplotlib.figure import Figure
from msgspec import structs

from coco1k_kd.report.picture import figure
from coco1k_kd.report.plots import STYLE, Plots


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


@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_is_cut_off_or_collides_with_its_neighbour(shape):
    drawing = figure(comparison(**shape), EN)
    drawing.draw_without_rendering()
    width, height = drawing.bbox.size
    assert max(text.get_window_extent().x1 for text in drawing.texts) <= width + 1, "the headline or the caption"
    for axes in drawing.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, axes.get_title("left")
        rows = [t.get_window_extent() for t in axes.get_yticklabels() if t.get_text()]
        columns = [
            t.get_window_extent() for t in axes.get_xticklabels() if t.get_text() and t.get_rotation() in (0, 90)
        ]
        for labels in (rows, columns):
            assert not any(a.overlaps(b) for a, b in pairwise(labels)), axes.get_title("left")
    assert drawing.get_suptitle() and all(axes.get_title("left") for axes in drawing.axes)


def test_a_colour_by_box_size_tells_one_difference():
    content = comparison(arms=("baseline", "cwd", "mgd", "ultralytics"))
    content.comparisons.append(structs.replace(content.comparisons[0], against="ultralytics"))
    assert len(drawn("sizes", content).containers) == 3 * 3, "three arms, three sizes"


def test_runs_are_shown_on_the_images_that_their_differences_are_of() -> None:
    content = comparison(arms=("baseline", "cwd"), seeds=2)
    for arm in content.arms.values():
        arm.runs = [structs.replace(run, ap_judge=run.ap / 2) for run in arm.runs]
    plain = [label.get_text() for label in drawn("per_seed", content).get_yticklabels()]
    content.comparisons = [structs.replace(entry, judge="full_val") for entry in content.comparisons]
    axes = drawn("per_seed", content)
    halves = [float(label.get_text().split()[-1]) for label in axes.get_yticklabels()]
    assert halves == pytest.approx([float(label.split()[-1]) / 2 for label in plain], abs=0.06)
    assert axes.get_xlabel() == EN("pic_points_on") and any("(val)" in text.get_text() for text in axes.texts)
    content.arms["cwd"].runs[0].ap_judge = None
    assert [label.get_text() for label in drawn("per_seed", content).get_yticklabels()] == plain, "of all or of none"


def test_a_search_of_many_settings_can_be_read():
    drawing = figure(comparison(arms=SEARCH), EN)
    assert drawing.get_suptitle().count("\n") == 9 and drawing.get_suptitle().endswith("and 5 more")
    rows = [label.get_text() for label in drawing.axes[0].get_yticklabels()]
    assert len(set(rows)) == len(SEARCH) - 1, "what tells arms apart is shown"
    marks = {(line.get_color(), line.get_marker()) for line in drawing.axes[2].lines}
    assert len(marks) == len(SEARCH), "a mark for each arm"


def test_plots_have_their_marks():
    content = comparison(classes=80)
    axes = Figure().subplots()
    Plots(content, EN).classes(axes, content.comparisons[0], 10)
    assert len(axes.get_yticks()) == 20
    differences = drawn("differences", content)
    band = differences.patches[0].get_extents().transformed(differences.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-0.3, 0.3))
    labels = [t.get_text() for t in drawn("per_seed", content).texts]
    assert "student 30.8" in labels and not any("teacher" in label for label in labels)


def test_curves_over_orders_of_magnitude_have_plain_numbers():
    content = comparison()
    for scale, arm in zip((1.0, 0.001), content.arms.values(), strict=True):
        for run in arm.runs:
            run.curves |= {key: [scale * v for v in (7.0, 3.0, 2.0)] for key in ("ap", "kd_loss")}
            run.curves["epoch"] = [1, 2, 3]
    for key, kind in (("ap", "linear"), ("kd_loss", "log")):
        drawing = Figure()
        axes = drawing.subplots()
        with matplotlib.rc_context(STYLE):
            Plots(content, EN).curve(axes, key)
        drawing.draw_without_rendering()
        told = [tick.get_text() for tick in axes.get_yticklabels(which="both") if tick.get_text()]
        assert axes.get_yscale() == kind
        assert np.isfinite([float(text.replace("−", "-")) for text in told]).all() and len(told) > 2, told
