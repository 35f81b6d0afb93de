"""The headline picture: differences with their intervals, every run's AP, and the learning curves."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.fonts import families
from coco1k_kd.report.plots import Plots, style
from coco1k_kd.report.words import Words

_WIDTH = 12.0  # inches; 100 dots each
_ROW, _LEAST = 0.48, 2.9  # inches a comparison, and for the smallest plot
_LEGEND = 5  # arms that a legend names
_TOLD = 6  # comparisons that the headline names; more are in the plot below
_HEADLINE, _CAPTION = 100, 165  # letters that fit into a line


def draw(comparison: Comparison, words: Words) -> bytes:
    """The comparison as a PNG, 1,200 pixels wide."""
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the caption says which letters it cannot show
        figure(comparison, words).savefig(image, format="png", dpi=100)
    return image.getvalue()


def figure(comparison: Comparison, words: Words) -> Figure:
    """Draw a comparison (docs/comparison.schema.json); plots for which there is nothing to show are left out."""
    if families(words("title"))[1]:  # an English picture says more than one of empty boxes
        words = Words()
    plots = Plots(comparison, words)
    with style("".join([_headline(plots), _caption(plots, ""), *plots.arms])) as missing:
        rows = [["differences", "per_seed"] if plots.entries else ["per_seed"] * 2]
        rows += [["accuracy_curves", "accuracy_by_time"]] if plots.has("ap") else []
        headline, caption = _headline(plots), _caption(plots, missing)
        heights = [max(_LEAST, _ROW * (max(len(plots.entries), len(plots.arms))) + 1), _LEAST][: len(rows)]
        lines = 0.22 * (1 + headline.count("\n")) + 0.15 * (1 + caption.count("\n"))
        canvas = Figure(figsize=(_WIDTH, sum(heights) + lines + 0.3), layout="constrained")
        canvas.get_layout_engine().set(h_pad=0.08, w_pad=0.08, hspace=0.03, wspace=0.03)
        for name, axes in canvas.subplot_mosaic(rows, height_ratios=heights).items():
            getattr(plots, name)(axes)
            if name == "accuracy_curves":
                _key(plots, axes)
        canvas.suptitle(headline, x=0.01, ha="left", fontsize=13, fontweight="bold")
        canvas.supxlabel(caption, x=0.01, ha="left", fontsize=9, color="#444444")
        return canvas


def _key(plots: Plots, axes: Axes) -> None:
    """What the colours and marks are: a legend for a few arms, else the rows above are one."""
    if len(plots.arms) <= _LEGEND:
        axes.legend(frameon=False, fontsize=9, loc="best")
    else:
        axes.set_xlabel(f"{axes.get_xlabel()}; {plots.words('pic_as_above')}")


def _headline(plots: Plots) -> str:
    words = plots.words
    if not plots.entries:
        return words("pic_nothing", arms=", ".join(plots.arms))
    lines = [words.headline(plots.all).text]
    for entry in plots.entries[:_TOLD]:
        lines.append(f"{words.pair(entry)}: {words.result(entry)}")
        if entry.at_odds:
            lines.append(f"    {words('pic_but_last', result=words.result(entry.last))}")
    if (more := len(plots.entries) - _TOLD) > 0:
        lines.append(words("pic_more", n=more))
    return _wrapped(lines, _HEADLINE)


def _caption(plots: Plots, missing: str) -> str:
    words, dataset = plots.words, plots.all.dataset
    seeds = ", ".join(map(str, dict.fromkeys(run.seed for runs in plots.arms.values() for run in runs)))
    said = {"images": words.val(plots.all), "repeated": words.repeated(plots.all), "numbers": seeds}
    judge = words.elsewhere(plots.all)
    judged = f" {words('pic_judged', images=judge)}" if judge else ""
    versions = ", ".join(f"{name} {version}" for name, version in plots.all.versions.items())
    lines = [dataset.get("description") or dataset.get("yaml", ""), f"{words('pic_images', **said)}{judged}", versions]
    return _wrapped([*lines, *([words("pic_no_font")] if missing else [])], _CAPTION)


def _wrapped(lines: Iterable[str], width: int) -> str:
    return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in lines)
