"""The picture of a comparison. Colours are Okabe and Ito's, and every colour has a marker of its own."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font

from coco1k_kd.report.words import at_odds, entries, pair, repeated, repeats, result, sources
from coco1k_kd.verdict.intervals import BAND, points

_PALETTE = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
_WIDTH, _ROW = 12, 3.3  # inches; 100 dots each
_EXTREMES = 10  # classes shown at either end
_NAME = 24  # letters of a name that are shown
_TOLD = 8  # comparisons that the headline tells of; more are in the panel below
_HEADLINE, _CAPTION = 108, 165  # letters that fit into a line
_STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
}


def figure(comparison: dict[str, Any]) -> Figure:
    """Draw a comparison (docs/comparison.schema.json); panels for which there is nothing to show are left out."""
    shown = [
        comparison["dataset"].get("description", ""),
        *(name for e in entries(comparison) for name in e["per_class"]),
    ]
    families, missing = _fonts("".join(shown))
    with matplotlib.rc_context({**_STYLE, "font.family": families}):
        drawing = _Drawing(comparison, missing)
        rows = drawing.rows()
        heights = [max(_ROW, 0.85 * len(drawing.entries) + 1)] + [_ROW] * (len(rows) - 1)
        canvas = Figure(figsize=(_WIDTH, sum(heights) + 1.2), layout="constrained")
        canvas.get_layout_engine().set(h_pad=0.08, w_pad=0.08, hspace=0.03, wspace=0.03)
        for name, axes in canvas.subplot_mosaic(rows, height_ratios=heights).items():
            getattr(drawing, name)(axes)
        canvas.suptitle(drawing.headline(), x=0.01, ha="left", fontsize=13, fontweight="bold")
        canvas.supxlabel(drawing.caption(), x=0.01, ha="left", fontsize=9, color="#444444")
        return canvas


class _Drawing:
    """One method per panel; each is given its axes."""

    def __init__(self, comparison: dict[str, Any], missing: str) -> None:
        self.all, self.missing = comparison, missing
        self.arms: dict[str, list[dict[str, Any]]] = {name: arm["runs"] for name, arm in comparison["arms"].items()}
        self.entries = entries(comparison)
        self.colour = {name: _PALETTE[i % len(_PALETTE)] for i, name in enumerate(self.arms)}
        rounds = [(i + i // len(_PALETTE)) % len(_MARKERS) for i in range(len(self.arms))]  # a colour's next marker
        self.marker = {name: _MARKERS[i] for name, i in zip(self.arms, rounds, strict=True)}
        self.draws, seeds = repeats(comparison)
        self.repeated = repeated(comparison) if self.draws * seeds > 1 else ""

    def rows(self) -> list[list[str]]:
        curves = [panel for panel, key in (("accuracy_curves", "ap"), ("loss_curves", "kd_loss")) if self._has(key)]
        middle = [curves * (2 // len(curves))] if curves else []
        if not self.entries:
            return [["per_seed", "per_seed"], *middle, ["time", "memory"]]
        return [["differences", "per_seed"], *middle, ["classes", "sizes"], ["classes", "time"], ["classes", "memory"]]

    def headline(self) -> str:
        if not self.entries:
            return f"{', '.join(self.arms)}: one arm, nothing to compare"
        lines = []
        for entry in self.entries[:_TOLD]:
            lines.append(f"{pair(entry)}: {result(entry)}")
            if at_odds(entry):
                lines.append(f"    but by the last epoch: {result(entry['last'])}")
        if more := self.entries[_TOLD:]:
            lines.append(f"and {len(more)} more")
        return _wrapped(lines, _HEADLINE)

    def caption(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.all["versions"].items())
        images = f"{self.all['dataset']['val_images']:,} validation images"
        numbers = ", ".join(
            str(seed) for seed in dict.fromkeys(run["seed"] for runs in self.arms.values() for run in runs)
        )
        data = self.all["dataset"].get("description") or self.all["dataset"].get("yaml", "")
        measure = "COCOeval AP in AP points, best epoch where not said otherwise. Bars are 95% intervals."
        lines = [data, f"{images}, {repeated(self.all)} ({numbers}). {measure}", versions]
        if self.missing:
            lines.append(
                "Boxes stand for letters that no font installed here has: install one, as Debian's fonts-noto-cjk."
            )
        return _wrapped(lines, _CAPTION)

    def differences(self, axes: Axes) -> None:
        axes.axvspan(-100 * BAND, 100 * BAND, color="#56B4E9", alpha=0.25, lw=0)
        axes.axvline(0, color="black", lw=1)
        for row, entry in enumerate(self.entries):
            colour, marker = self.colour[entry["arm"]], self.marker[entry["arm"]]
            _interval(axes, row, entry["d_ap"], colour, marker)
            axes.annotate(points(entry["d_ap"]["mean"]), (100 * entry["d_ap"]["mean"], row), (0, 8), **_ABOVE)
            if "last" in entry:
                _interval(axes, row + 0.18, entry["last"]["d_ap"], colour, marker, hollow=True)
            axes.annotate(
                sources(entry["d_ap"]["variance"]), (0.01, row + 0.43), xycoords=axes.get_yaxis_transform(), **_SMALL
            )
        _rows(axes, [f"{_short(e['arm'])}\nagainst {e['against']}" for e in self.entries])
        axes.set_title("Difference in AP, 95% interval")
        scope = "" if self.repeated else "\none seed: holds for this pair of models only"
        shaded = f"AP points (shaded: ±{100 * BAND:.1f}, no difference that matters;"
        axes.set_xlabel(f"{shaded}\nhollow: last epoch; grey: sources of variance){scope}")

    def per_seed(self, axes: Axes) -> None:
        for column, (name, runs) in enumerate(self.arms.items()):
            values = [100 * run["ap"] for run in runs]
            steps = [i + (run["draw"] if self.draws > 1 else 0) for i, run in enumerate(runs)]  # draws stand apart
            across = [column + min(0.12, 0.6 / (steps[-1] + 1)) * (step - steps[-1] / 2) for step in steps]
            axes.plot(across, values, self.marker[name], color=self.colour[name], ms=7)
            axes.hlines(fmean(values), column - 0.3, column + 0.3, color=self.colour[name], lw=2)
        letters = [len(_short(name)) for name in self.arms]
        tight = max(letters) * len(letters) > 45
        between = " " if tight else "\n"
        means = {name: 100 * fmean(run["ap"] for run in runs) for name, runs in self.arms.items()}
        names = [f"{_short(name)}{between}{mean:.1f}" for name, mean in means.items()]
        turned = {"rotation": 90} if sum(letters) > 90 else {"rotation": 25, "ha": "right"} if tight else {}
        axes.set_xticks(range(len(names)), names, **turned)
        axes.set_xlim(-0.6, len(names))
        self._references(axes)
        each = "seed"
        if self.draws > 1:
            each = "run"
            axes.set_xlabel("side by side: runs of one draw of the train images")
        axes.set_title(f"AP of every {each}, mean as a line" if self.repeated else "AP, one seed")
        axes.set_ylabel("AP points")

    def _references(self, axes: Axes) -> None:
        """The untrained student and the teacher as lines, or in words at the edge when lines would squash the arms."""
        low, high = axes.get_ylim()
        room = 3 * max(high - low, 1)
        outside = []
        for name, row in self.all["references"].items():
            if row["ap"] is None:
                continue
            value = 100 * row["ap"]
            if low - room <= value <= high + room:
                axes.axhline(value, color="#666666", ls="--", lw=1)
                axes.annotate(f"{name} {value:.1f}", (1, value), (0, 3), xycoords=axes.get_yaxis_transform(), **_RIGHT)
            else:
                outside.append(f"{name} {value:.1f} {'↑' if value > high else '↓'}")
        axes.margins(y=0.15)
        low, high = axes.get_ylim()
        spare = max(1 - (high - low), 0) / 2  # at least one AP point high: a tenth of one must not look like a cliff
        axes.set_ylim(low - spare, high + spare)
        left = _RIGHT | {"ha": "left"}  # a line's name at the right may be as high up
        axes.annotate("\n".join(outside), (0, 1), (4, -3), xycoords="axes fraction", va="top", **left)

    def accuracy_curves(self, axes: Axes) -> None:
        self._curves(axes, "ap", 100)
        axes.set_title("AP over epochs (Ultralytics' validation)")
        axes.set_ylabel("AP points")

    def loss_curves(self, axes: Axes) -> None:
        self._curves(axes, "kd_loss", 1)
        axes.set_title("Distillation loss over epochs")
        axes.set_ylabel("unweighted (stock: weighted)")
        low, high = axes.dataLim.intervaly
        if 0 < low < high / 30:  # the losses of the arms may differ by orders of magnitude
            axes.set_yscale("log")

    def classes(self, axes: Axes) -> None:
        entry = self.entries[0]
        ranked = sorted(entry["per_class"].items(), key=lambda item: -item[1]["mean"])
        few = len(ranked) <= 2 * _EXTREMES
        shown = ranked if few else ranked[:_EXTREMES] + ranked[-_EXTREMES:]
        axes.axvline(0, color="black", lw=1)
        for row, (_, value) in enumerate(shown):
            _interval(axes, row, value, "#0072B2" if value["mean"] >= 0 else "#D55E00", "o")
            if value["p_holm"] is not None and value["p_holm"] < 0.05:
                axes.annotate("*", (1.01, row), xycoords=axes.get_yaxis_transform(), va="center", fontsize=14)
        if not few:
            axes.axhline(_EXTREMES - 0.5, color="#666666", lw=1, ls=":")
        _rows(axes, [f"{_short(name)} ({value['images']})" for name, value in shown])
        extremes = "every class" if few else "best and worst ten classes"
        axes.set_title(f"{entry['arm']} against {entry['against']}: {extremes}")
        axes.set_xlabel(
            "AP points (images with the class in brackets; * certain after\nHolm's correction; no bar: too few images)"
        )

    def sizes(self, axes: Axes) -> None:
        axes.axhline(0, color="black", lw=1)
        names, against = list(self.entries[0]["per_size"]), self.entries[0]["against"]
        shown = [entry for entry in self.entries if entry["against"] == against]  # a colour tells the arm alone
        for i, entry in enumerate(shown):
            shift = min(0.1, 0.8 / len(shown)) * (i - (len(shown) - 1) / 2)
            for column, name in enumerate(names):
                mean, error = _bar(entry["per_size"][name])
                style = {"color": self.colour[entry["arm"]], "fmt": self.marker[entry["arm"]], "capsize": 3}
                axes.errorbar(column + shift, mean, error, **style)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_title(f"Against {against}, by box size")
        axes.set_xlabel("colours as above")
        axes.set_ylabel("AP points")

    def time(self, axes: Axes) -> None:
        self._cost(axes, "train_seconds", 1 / 60, "Training time, validation not counted", "minutes")
        if (at_once := self.all.get("at_once", 1)) > 1:
            axes.set_xlabel(f"{axes.get_xlabel()}\nup to {at_once} runs at once:\nof runs that shared the machine")

    def memory(self, axes: Axes) -> None:
        self._cost(axes, "peak_memory_bytes", 2**-30, "Peak memory", "GiB")

    def _has(self, key: str) -> bool:
        return any(any(v is not None for v in _curve(run, key)) for runs in self.arms.values() for run in runs)

    def _curves(self, axes: Axes, key: str, scale: float) -> None:
        for name, runs in self.arms.items():
            drawn = [run for run in runs if any(v is not None for v in _curve(run, key))]
            for i, run in enumerate(drawn):
                values = [float("nan") if v is None else scale * v for v in _curve(run, key)]
                epochs = run["curves"]["epoch"]
                style = {
                    "marker": self.marker[name],
                    "markevery": max(1, len(epochs) // 8),
                    "ms": 4,
                    "lw": 1.3,
                    "alpha": 0.9,
                }
                axes.plot(epochs, values, color=self.colour[name], label=_short(name) if i == 0 else None, **style)
        long = max(map(len, self.arms)) > _NAME // 2
        if long and key == "kd_loss":  # two legends of long names side by side would not fit
            axes.set_xlabel("epoch; colours as in the panel of AP")
        else:
            columns = 2 if long else 4 if len(self.arms) <= 4 else 3
            axes.legend(frameon=False, ncols=columns, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2))
            axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)

    def _cost(self, axes: Axes, key: str, scale: float, title: str, unit: str) -> None:
        values = {name: [run[key] for run in runs if run.get(key) is not None] for name, runs in self.arms.items()}
        heights = [scale * fmean(v) if v else 0 for v in values.values()]
        bars = axes.barh(range(len(values)), heights, color=[self.colour[name] for name in values], height=0.6)
        axes.bar_label(bars, [f"{h:.3g}" if h else "not measured" for h in heights], padding=3)
        _rows(axes, [_short(name) for name in values])
        axes.margins(x=0.12)
        axes.set_title(title)
        axes.set_xlabel(f"{unit}, mean over {self.repeated}" if self.repeated else unit)


_SMALL: dict[str, Any] = {"va": "center", "color": "#444444", "fontsize": 8.5}
_ABOVE: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "center",
    "bbox": {"fc": "white", "alpha": 0.7, "lw": 0, "pad": 0.5},
}
_RIGHT: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "color": "#444444", "fontsize": 9}


def _bar(value: dict[str, Any]) -> tuple[float, list[list[float]]]:
    """A difference in AP points, and how far its interval reaches to either side (nowhere if it has none)."""
    mean = 100 * value["mean"]
    low, high = (100 * x for x in value["ci95"]) if value["ci95"] else (mean, mean)
    return mean, [[mean - low], [high - mean]]


def _interval(axes: Axes, row: float, value: dict[str, Any], colour: str, marker: str, hollow: bool = False) -> None:
    mean, error = _bar(value)
    style = {"mfc": "white", "ms": 5, "capsize": 2, "lw": 1} if hollow else {"ms": 7, "capsize": 4}
    axes.errorbar(mean, row, xerr=error, color=colour, fmt=marker, **style)


def _curve(run: dict[str, Any], key: str) -> Sequence[float | None]:
    return (run.get("curves") or {}).get(key) or []


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows from the top down; few rows keep the height of three."""
    spare = max(3 - len(names), 0) / 2
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4 + spare, -0.6 - spare)
    axes.grid(axis="y", visible=False)


def _fonts(text: str) -> tuple[list[str], str]:
    """The usual font and installed ones with the letters that it lacks, as Korean class names need; what is left."""
    families = [*matplotlib.rcParams["font.family"]]
    missing = {ord(letter) for letter in text if letter.isprintable()} - _letters(findfont(FontProperties()))
    for font in fontManager.ttflist if missing else ():
        if not font.name.startswith("Last Resort") and (
            found := missing & _letters(font.fname)
        ):  # that has boxes alone
            families.append(font.name)
            missing -= found
    return families, "".join(map(chr, sorted(missing)))


def _letters(font: str) -> set[int]:
    """What a font file can show; nothing if it is gone or broken."""
    with contextlib.suppress(OSError, RuntimeError):
        return set(FT2Font(font).get_charmap())
    return set()


def _wrapped(lines: Iterable[str], width: int) -> str:
    return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in lines)


def _short(name: str) -> str:
    """Long names lose their middle: what tells them apart is mostly at an end."""
    half = _NAME // 2
    return name if len(name) <= _NAME else f"{name[: half - 1]}…{name[-half:]}"
