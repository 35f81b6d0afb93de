"""The report as one HTML file: no network, no script needed to read it, at home on a phone and on paper."""

from __future__ import annotations

import io
import shlex
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

import coco1k_kd
from coco1k_kd.flags import command_line
from coco1k_kd.report import markdown as tables
from coco1k_kd.report.cautions import cautions
from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.equal_time import equal_time
from coco1k_kd.report.evidence import Evidence
from coco1k_kd.report.examples import jpeg, legend
from coco1k_kd.report.plots import Plots, less, style
from coco1k_kd.report.shipped import shipped
from coco1k_kd.report.words import Words, points
from coco1k_kd.verdict.intervals import BAND

_WIDTH, _HEIGHT = 4.6, 3.1  # inches of a chart; 72 units each, so that its text is 10 px on a phone
_ROW = 0.34  # inches of a row in a chart of rows
_EXTREMES = 10  # classes at either end of the chart
_LETTERS = 18  # of a name in a line of a chart
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # it names addresses, and the day
_COSINE = "cosine_stride"  # columns of results.csv, as kd/cosine_stride8
_MARKS = {"improves": "▲", "hurts": "▼", "no_difference": "=", "inconclusive": "?"}


class Chart(NamedTuple):
    """A plot of the page with what stands above and below it."""

    svg: Markup
    title: str
    text: str


class Table(NamedTuple):
    """A table of the page; where it `sorts`, a click on a heading sorts it."""

    label: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    sorts: bool = False
    text: str = ""


def page(comparison: Comparison, words: Words, evidence: Evidence, path: Path) -> str:
    """The whole report. `path` is that of comparison_<stamp>.json, which `--report-only` makes it from again."""
    plots = Plots(comparison, words, _LETTERS)
    key = _key([(name, plots.colour[name], plots.marker[name]) for name in plots.arms], words)
    language = f" --language {words.language}" if words.language != "en" else ""
    return _TEMPLATES.get_template("page.html").render(
        words=words,
        opening=words.opening(comparison),
        key=key,
        headline=_headline(plots),
        entries=plots.entries,
        marks=_MARKS,
        cautions=[*([] if plots.entries else [words("one_arm")]), *cautions(comparison, words)],
        design=words.design(comparison),
        evidence=evidence,
        legend=_legend(words),
        jpeg=jpeg,
        points=points,
        errors=_errors(plots, evidence),
        curves=_curves(plots, evidence),
        inside=_inside(plots),
        accuracy=Table(words("accuracy"), *tables.accuracy(comparison, words)),
        note_ap=tables.note_ap(comparison, words),
        differences=plots.entries and Table(words("differences"), *tables.differences(comparison, words)),
        note_differences=tables.note_differences(comparison, words).replace("*", ""),
        classes=_classes(plots),
        cost=Table(words("cost"), *tables.cost(comparison, words)),
        note_cost=tables.note_cost(comparison, words),
        equal_time=[Table(*parts, text=note) for *parts, note in equal_time(comparison, words)],
        shipping=[Table(*parts, text=note) for *parts, note in shipped(comparison, words)],
        checks=tables.checks(comparison, words),
        origin=tables.origin(comparison, words),
        command=comparison.command,
        again=f"{command_line('compare')} --report-only {shlex.quote(str(path))}{language}",
        version=coco1k_kd.__version__,
    )


def _headline(plots: Plots) -> list[Chart]:
    """The picture of the verdict: differences, every run's AP, learning curves."""
    words, charts = plots.words, []
    lines = [plots.short(name).count("\n") + 1 for name in plots.arms]
    if plots.entries:
        band = words("pic_shaded", band=f"{100 * BAND:.1f}")
        rows = _ROW * (sum(lines) * 0.5 + len(plots.entries)) + 1.1
        told = "; ".join(f"{words.pair(e)}: {words.result(e)}" for e in plots.entries)
        charts.append(_chart(plots.differences, told, height=max(rows, 2.2), x=words("pic_points"), text=band))
    means = ", ".join(f"{name} {100 * arm.mean['ap']:.1f}" for name, arm in plots.all.arms.items())
    height = max(_ROW * (sum(lines) * 0.5 + len(plots.arms) * 0.6) + 1.1, 2.2)
    charts.append(_chart(plots.per_seed, f"{words('pic_seeds')}: {means}", height=height, text=words("seeds_text")))
    if plots.has("ap"):
        text = words("pic_band") if plots.repeated else ""
        alt = f"{words('pic_curves')}: {means}"
        charts.append(_chart(plots.accuracy_curves, alt, x=words("pic_epoch"), text=text))
        charts.append(_chart(plots.accuracy_by_time, f"{words('pic_by_time')}: {means}", x=words("pic_minutes")))
    return charts


def _errors(plots: Plots, evidence: Evidence) -> dict[str, object] | None:
    """The kinds of error as bars and as a table."""
    words, errors = plots.words, evidence.errors
    if not errors:
        return None
    first = next(iter(errors.values()))
    kinds = list(first)
    head = [words("h_arm"), *(words(f"kind_{kind}") for kind in kinds)]
    lost = {evidence.against: [of.against for of in first.values()]}
    lost |= {arm: [of.arm for of in by_kind.values()] for arm, by_kind in errors.items()}
    rows = [[words("error_lost", arm=arm), *(f"{100 * d.mean:.1f}" for d in row)] for arm, row in lost.items()]
    for arm, by_kind in errors.items():
        gains = [less(of.difference) for of in by_kind.values()]
        told_gains = (f"{points(gain.mean)} ({words.interval(*gain.interval)})" for gain in gains)
        rows.append([words("error_gain", arm=arm), *told_gains])
    told = "; ".join(f"{row[0]}: " + ", ".join(map(" ".join, zip(head[1:], row[1:], strict=True))) for row in rows)
    height = max(_HEIGHT, len(kinds) * (0.2 + 0.12 * len(errors)) + 0.9)
    meaning = [[words(f"kind_{kind}"), words(f"kind_{kind}_text")] for kind in kinds]
    return {
        "text": words("why_text", against=evidence.against),
        "key": _key([(arm, plots.colour[arm], "s") for arm in errors], words),
        "chart": _chart(partial(plots.errors, errors=errors, kinds=kinds), told, height=height),
        "kinds": meaning,
        "table": Table(words("why"), head, rows),
    }


def _curves(plots: Plots, evidence: Evidence) -> list[Chart]:
    """Precision-recall at two IoUs, box sizes, calibration."""
    words, charts = plots.words, []
    for iou, curves in evidence.precision_recall.items():
        title = words("pr_title", iou=iou)
        areas = ", ".join(f"{arm}: AP {100 * fmean(curve.precision):.1f}" for arm, curve in curves.items())
        draw = partial(plots.precision_recall, curves=curves)
        charts.append(_chart(draw, f"{title}: {areas}", title=title, text=words("pr_text")))
    if plots.entries and plots.entries[0].per_size:
        title = words("sizes_title")
        told = "; ".join(
            f"{words.pair(entry)}: "
            + ", ".join(f"{words(size)} {points(part.mean)}" for size, part in entry.per_size.items())
            for entry in plots.entries
        )
        text = words("pic_differences_to", against=plots.entries[0].against)
        charts.append(_chart(plots.sizes, f"{title}: {told}", title=title, text=text))
    if evidence.calibration:
        errors = ", ".join(f"{arm} {curve.error:.3f}" for arm, curve in evidence.calibration.items())
        text, title = words("calibration_text", errors=errors), words("calibration_title")
        draw = partial(plots.calibration, curves=evidence.calibration)
        charts.append(_chart(draw, f"{title}: {text}", title=title, text=text))
    return charts


def _inside(plots: Plots) -> list[Chart]:
    """Distillation loss, gradient ratio, and agreement of features by level, over epochs."""
    words, charts = plots.words, []
    columns = {key for runs in plots.arms.values() for run in runs for key in run.curves}
    strides = sorted(int(key.removeprefix(_COSINE)) for key in columns if key.startswith(_COSINE))
    wanted = [("kd_loss", "kd_loss", {}), ("gradient_ratio", "kd_ratio", {})]
    wanted += [(f"{_COSINE}{stride}", "kd_cosine", {"stride": stride}) for stride in strides]
    for key, text, values in wanted:
        if plots.has(key):
            title = words(text, **values)
            draw = partial(plots.curve, key=key)
            charts.append(_chart(draw, title, title=title, height=2.6, y=words(f"{text}_y")))
    return charts


def _classes(plots: Plots) -> dict[str, object] | None:
    """Every class of every comparison, and the extremes of the first as a chart."""
    words, entries = plots.words, [entry for entry in plots.entries if entry.per_class]
    if not entries:
        return None
    first, shown = entries[0], []
    for entry in entries:
        ranked = sorted(entry.per_class.items(), key=lambda item: -item[1].mean)
        rows = [
            [
                *(name, f"{part.images:,}", *tables.difference(part, words)),
                *(tables.p_value(part.p_holm), "*" * entry.sure(part)),
            ]
            for name, part in ranked
        ]
        head = [words(f"h_{key}") for key in ("class", "images", "dap", "ci", "p", "p_holm", "settled")]
        shown.append(Table(words.pair(entry), head, rows, True, tables.found(entry, words)))
    number = min(len(first.per_class), 2 * _EXTREMES)
    chart = _chart(
        partial(plots.classes, entry=first, extremes=_EXTREMES),
        f"{words('best_worst')}: {tables.found(first, words)}",
        height=number * 0.26 + 0.8,
        title=f"{words('best_worst')}: {words.pair(first)}",
    )
    return {"text": words("classes_text", number=len(first.per_class)), "chart": chart, "tables": shown}


def _chart(
    draw: Callable[[Axes], None],
    alt: str,
    *,
    title: str | None = None,
    text: str = "",
    height: float = _HEIGHT,
    x: str | None = None,
    y: str | None = None,
) -> Chart:
    """One plot as SVG whose text is text: the page's own fonts show it, and a reader reads it."""
    with style("") as _, matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "coco1k_kd"}):
        canvas = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = canvas.subplots()
        draw(axes)
        if x is not None:
            axes.set_xlabel(x)
        if y is not None:
            axes.set_ylabel(y)
        title = axes.get_title("left") if title is None else title
        axes.set_title("", loc="left")  # the page's heading
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # widths are guessed where the font is the browser's
            canvas.savefig(file, format="svg", metadata=_NO_METADATA, transparent=True)
    return Chart(_inline(file.getvalue(), alt), title, text)


def _inline(svg: str, alt: str) -> Markup:
    """An SVG file as an element of the page, with an alternative text and without a size of its own."""
    start = svg.index("<svg")
    head, _, body = svg[start:].partition(">")
    box = head.split('viewBox="')[1].split('"')[0]
    return Markup('<svg viewBox="{}" role="img" aria-label="{}">').format(box, alt) + Markup(body)


def _key(arms: Sequence[tuple[str, str, str]], words: Words) -> Markup:
    """The arms' colours and marks as a list."""
    items = Markup("").join(
        Markup("<li>{}{}</li>").format(_mark(marker, colour), name) for name, colour, marker in arms
    )
    return Markup('<ul class="key" aria-label="{}">{}</ul>').format(words("colour_key"), items)


def _mark(marker: str, colour: str) -> Markup:
    """A marker of matplotlib as a small SVG."""
    shape = MarkerStyle(marker)
    path = shape.get_path().transformed(shape.get_transform())
    points = " ".join(f"{x:.2f},{-y:.2f}" for polygon in path.to_polygons(closed_only=True) for x, y in polygon)
    form = '<svg viewBox="-0.8 -0.8 1.6 1.6" aria-hidden="true"><polygon points="{}" fill="{}"/></svg>'
    return Markup(form).format(points, colour)


def _legend(words: Words) -> Markup:
    """What the boxes of the panels mean."""
    items = Markup("").join(
        Markup('<li><svg viewBox="0 0 16 12" aria-hidden="true">{}{}</svg>{}</li>').format(
            _outline("#000000", 4, dash), _outline(colour, 2.2, dash), words(key)
        )
        for key, colour, dash in legend()
    )
    return Markup('<ul class="key">{}</ul>').format(items)


def _outline(colour: str, width: float, dash: str) -> Markup:
    form = '<rect x="2" y="2" width="12" height="8" fill="none" stroke="{}" stroke-width="{}" stroke-dasharray="{}"/>'
    return Markup(form).format(colour, width, dash or "none")


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
