"""The plots of a comparison, each drawn onto axes that are given: the PNG and the page arrange the same plots.

Colours are Okabe and Ito's, and every colour has a marker of its own, so that no plot needs its colours.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter
from msgspec import structs

from coco1k_kd.report.comparison import Comparison, Reference, Run
from coco1k_kd.report.fonts import families
from coco1k_kd.report.words import Words, points, repeats
from coco1k_kd.verdict.curves import Calibration, PrecisionRecall
from coco1k_kd.verdict.entry import Difference, Entry, Part
from coco1k_kd.verdict.errors_by_kind import KindOfError
from coco1k_kd.verdict.intervals import BAND

PALETTE = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
GAIN, LOSS = "#0072B2", "#D55E00"
_GREY = "#555555"
_NAME = 24  # letters of a name in a line
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "text.parse_math": False,  # a dollar in a name is a dollar
}
_ABOVE = {"textcoords": "offset points", "ha": "center", "bbox": {"fc": "white", "alpha": 0.7, "lw": 0, "pad": 0.5}}
_HATCHES = ("", "///", "...", "\\\\\\", "xx", "++", "oo", "--")


class Plots:
    """One method per plot; each is given its axes."""

    def __init__(self, comparison: Comparison, words: Words, letters: int = _NAME) -> None:
        self.all, self.words, self.letters = comparison, words, letters
        self.arms = {name: arm.runs for name, arm in comparison.arms.items()}
        self.entries = comparison.comparisons
        self.colour = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(self.arms)}
        rounds = [(i + i // len(PALETTE)) % len(MARKERS) for i in range(len(self.arms))]  # a colour's next marker
        self.marker = {name: MARKERS[i] for name, i in zip(self.arms, rounds, strict=True)}
        self.draws, seeds = repeats(comparison)
        self.repeated = self.draws * seeds > 1
        self.judged = bool(words.elsewhere(comparison)) and all(
            run.ap_judge is not None for runs in self.arms.values() for run in runs
        )

    def has(self, key: str) -> bool:
        """Whether a run's curves hold this column."""
        return any(any(v is not None for v in _curve(run, key)) for runs in self.arms.values() for run in runs)

    def differences(self, axes: Axes) -> None:
        """Every comparison's difference in AP with its verdict's interval; below it the last epoch's, hollow."""
        axes.axvspan(-100 * BAND, 100 * BAND, color="#56B4E9", alpha=0.25, lw=0)
        axes.axvline(0, color="black", lw=1)
        for row, entry in enumerate(self.entries):
            colour, marker = self.colour[entry.arm], self.marker[entry.arm]
            _interval(axes, row, entry.d_ap, colour, marker)
            axes.annotate(points(entry.d_ap.mean), (100 * entry.d_ap.mean, row), (0, 7), **_ABOVE)
            if entry.last:
                _interval(axes, row + 0.22, entry.last.d_ap, colour, marker, hollow=True)
        against = {entry.against for entry in self.entries}
        one = len(against) == 1  # then the title says it once
        _rows(axes, [self.short(e.arm) if one else self._pair(e) for e in self.entries])
        title = self.words("pic_differences_to", against=self.short(against.pop(), "")) if one else None
        axes.set_title(title or self.words("pic_differences"))
        shaded = self.words("pic_shaded", band=f"{100 * BAND:.1f}")
        axes.set_xlabel(shaded if self.repeated else f"{shaded}\n{self.words('pic_one_seed')}")

    def per_seed(self, axes: Axes) -> None:
        """AP of every run as a mark in the row of its arm, the mean as a line."""
        for row, (name, runs) in enumerate(self.arms.items()):
            values = [100 * self.ap(run) for run in runs]
            steps = [i + (run.draw if self.draws > 1 else 0) for i, run in enumerate(runs)]  # draws stand apart
            down = [row + min(0.12, 0.5 / (steps[-1] + 1)) * (step - steps[-1] / 2) for step in steps]
            axes.plot(values, down, self.marker[name], color=self.colour[name], ms=6)
            axes.vlines(fmean(values), row - 0.36, row + 0.36, color=self.colour[name], lw=2)
        means = {name: 100 * fmean(map(self.ap, runs)) for name, runs in self.arms.items()}
        _rows(axes, [f"{self.short(name)}  {mean:.1f}" for name, mean in means.items()])
        self._references(axes)
        axes.set_title(self.words("pic_seeds" if self.repeated else "pic_one"))
        axes.set_xlabel(self.words("pic_points_on" if self.judged else "pic_points"))

    def ap(self, row: Run | Reference) -> float:
        """AP on the images that the verdict is taken on, where all runs have it: the differences are of these."""
        return row.ap if not self.judged or row.ap_judge is None else row.ap_judge

    def _references(self, axes: Axes) -> None:
        """The untrained student and the teacher as lines, or in words above when lines would squash the arms."""
        low, high = axes.get_xlim()
        spare = max(1 - (high - low), 0) / 2  # at least one AP point wide: a tenth of one must not look like a cliff
        low, high = low - spare, high + spare
        room, outside, inside = 1.5 * (high - low), [], []
        for role, row in self.all.references.items():
            if row.ap_of_all is None:
                continue
            value, of_val = 100 * self.ap(row), self.judged and row.ap_judge is None
            label = f"{self.words.role(role, self.all)} {value:.1f}{' (val)' if of_val else ''}"
            if low - room <= value <= high + room:
                inside.append((value, label))
                axes.axvline(value, color=_GREY, ls="--", lw=1)
            else:
                outside.append(f"{label} {'→' if value > high else '←'}")
        low, high = min([low, *(v for v, _ in inside)]), max([high, *(v for v, _ in inside)])
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        top = axes.get_ylim()[1]
        for line, (value, label) in enumerate(inside):  # below each other: they may stand for almost the same AP
            right = value < (low + high) / 2
            style = {"ha": "left" if right else "right", "va": "top", "fontsize": 9, "color": _GREY}
            axes.annotate(
                label, (value, top), (3 if right else -3, -2 - 11 * line), textcoords="offset points", **style
            )
        if outside:
            place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom", "ha": "right"}
            axes.annotate(", ".join(outside), (1, 0), (-3, 3), color=_GREY, fontsize=9, **place)

    def accuracy_curves(self, axes: Axes) -> None:
        """Ultralytics' AP after every epoch: mean over runs, and a band from the lowest to the highest."""
        self.curve(axes, "ap", 100)
        axes.set_title(self.words("pic_curves"))
        axes.set_ylabel(self.words("pic_curves_y"))
        if self.repeated:
            axes.set_xlabel(f"{self.words('pic_epoch')} ({self.words('pic_band')})")

    def accuracy_by_time(self, axes: Axes) -> None:
        """The same over the minutes of training: where the lines cross, more epochs are worth as much as the teacher.

        A run's epochs take equal parts of its time, without validation.
        """
        self.curve(axes, "ap", 100, by_time=True)
        axes.set_title(self.words("pic_by_time"))
        axes.set_ylabel(self.words("pic_curves_y"))
        axes.set_xlabel(self.words("pic_minutes"))

    def curve(self, axes: Axes, key: str, scale: float = 1.0, by_time: bool = False) -> None:
        """A column of results.csv: mean over runs as a line, from the lowest to the highest as a band.

        Over epochs, or `by_time` over minutes.
        """
        extent: list[float] = []
        for name, runs in self.arms.items():
            drawn = [run for run in runs if any(v is not None for v in _curve(run, key))]
            if not drawn:
                continue
            length = min(len(_curve(run, key)) for run in drawn)
            epochs = drawn[0].curves["epoch"][:length]
            values = scale * np.array([_curve(run, key)[:length] for run in drawn], float)  # None becomes NaN
            if by_time:
                minutes = fmean((run.cost_seconds or run.train_seconds) / run.epochs for run in drawn) / 60
                epochs = [minutes * epoch for epoch in epochs]
            style = {"marker": self.marker[name], "markevery": max(1, length // 8), "ms": 5, "lw": 1.5}
            axes.plot(epochs, values.mean(axis=0), color=self.colour[name], label=self.short(name, ""), **style)
            if len(drawn) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(epochs, low, high, color=self.colour[name], alpha=0.15, lw=0)
            extent += values[np.isfinite(values)].tolist()
        if not by_time:
            axes.set_xlabel(self.words("pic_epoch"))
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        linear = key == "ap" or key.startswith("cosine")  # shares of one
        if not linear and extent and 0 < min(extent) < max(extent) / 30:  # arms may differ by orders of magnitude
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")  # plain numbers: powers would be mathematical text
            axes.yaxis.set_minor_formatter(LogFormatter())

    def classes(self, axes: Axes, entry: Entry, extremes: int) -> None:
        """The classes that gained and lost most, or every class where there are few."""
        ranked = sorted(entry.per_class.items(), key=lambda item: -item[1].mean)
        few = len(ranked) <= 2 * extremes
        shown = ranked if few else ranked[:extremes] + ranked[-extremes:]
        axes.axvline(0, color="black", lw=1)
        for row, (_, part) in enumerate(shown):
            gains = part.mean >= 0
            _interval(axes, row, part, GAIN if gains else LOSS, "o" if gains else "D")
            if entry.sure(part):
                axes.annotate("*", (1.01, row), xycoords=axes.get_yaxis_transform(), va="center", fontsize=14)
        if not few:
            axes.axhline(extremes - 0.5, color=_GREY, lw=1, ls=":")
        _rows(axes, [f"{self.short(name)} ({part.images})" for name, part in shown])
        axes.set_xlabel(self.words("pic_points"))

    def sizes(self, axes: Axes) -> None:
        """dAP of every arm against the first comparison's other side, by box size."""
        against = self.entries[0].against
        shown = [entry for entry in self.entries if entry.against == against]  # a colour tells the arm alone
        names = list(self.entries[0].per_size)
        axes.axhline(0, color="black", lw=1)
        for i, entry in enumerate(shown):
            shift = min(0.16, 0.8 / len(shown)) * (i - (len(shown) - 1) / 2)
            for column, name in enumerate(names):
                if name in entry.per_size:
                    mean, error = bar_of(entry.per_size[name])
                    style = {"color": self.colour[entry.arm], "fmt": self.marker[entry.arm], "capsize": 3}
                    axes.errorbar(column + shift, mean, error, **style)
        axes.set_xticks(range(len(names)), [self.words(name) for name in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylabel(self.words("pic_points"))
        axes.grid(axis="x", visible=False)

    def errors(self, axes: Axes, errors: Mapping[str, Mapping[str, KindOfError]], kinds: Sequence[str]) -> None:
        """The AP that each kind of error costs an arm less than the arm that it is compared with."""
        height = 0.8 / len(errors)
        for i, (arm, by_kind) in enumerate(errors.items()):
            rows = [row + height * (i - (len(errors) - 1) / 2) for row in range(len(kinds))]
            bars = [bar_of(less(by_kind[kind].difference)) for kind in kinds]
            means = [mean for mean, _ in bars]
            reach = np.array([error for _, error in bars])[:, :, 0].T
            style = {"color": self.colour[arm], "alpha": 0.75, "hatch": _HATCHES[i % len(_HATCHES)], "ec": "white"}
            axes.barh(rows, means, height, xerr=reach, error_kw={"capsize": 2, "lw": 1, "ecolor": "#333333"}, **style)
        axes.axvline(0, color="black", lw=1)
        _rows(axes, [self.words(f"kind_{kind}") for kind in kinds])
        axes.set_xlabel(self.words("pic_points"))

    def precision_recall(self, axes: Axes, curves: Mapping[str, PrecisionRecall]) -> None:
        """Precision over recall, mean over classes, with its band."""
        for arm, curve in curves.items():
            style = {"marker": self.marker[arm], "markevery": 0.12, "ms": 5, "lw": 1.5}
            axes.plot(curve.recall, curve.precision, color=self.colour[arm], **style)
            axes.fill_between(curve.recall, curve.low, curve.high, color=self.colour[arm], alpha=0.15, lw=0)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel=self.words("recall"), ylabel=self.words("precision"))

    def calibration(self, axes: Axes, curves: Mapping[str, Calibration]) -> None:
        """The share of right boxes over their score; on the diagonal a score is that share."""
        axes.plot([0, 1], [0, 1], color=_GREY, ls="--", lw=1)
        for arm, curve in curves.items():
            style = {"marker": self.marker[arm], "ms": 5, "lw": 1.5}
            axes.plot(curve.confidence, curve.precision, color=self.colour[arm], **style)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=self.words("confidence"), ylabel=self.words("precision"))

    def short(self, name: str, line: str = "\n") -> str:
        """A long name on lines of its settings; what is too long for a line loses its middle."""
        lines: list[str] = []
        for part in re.findall(r"[^:+]+[:+]?", name) or [name]:
            if lines and len(lines[-1]) + len(part) <= self.letters:
                lines[-1] += part
            else:
                lines.append(part)
        half = self.letters // 2
        return line.join(x if len(x) <= self.letters else f"{x[: half - 1]}…{x[-half:]}" for x in lines)

    def _pair(self, entry: Entry) -> str:
        """A comparison on two lines."""
        told = self.words("pic_pair", arm=self.short(entry.arm), against=self.short(entry.against))
        return self.words.unequal(entry, told)


@contextlib.contextmanager
def style(text: str) -> Iterator[str]:
    """Matplotlib in the style of the report, with fonts that have the letters of `text`; gives those that none has."""
    names, missing = families(text)
    with matplotlib.rc_context({**STYLE, "font.family": names}):
        yield missing


def less(difference: Difference) -> Difference:
    """A loss as a gain: the difference the other way round."""
    turned = {name: (-high, -low) for name in ("ci95", "ci") for low, high in [getattr(difference, name)]}
    return structs.replace(difference, mean=-difference.mean, **turned)


def bar_of(difference: Difference | Part) -> tuple[float, list[list[float]]]:
    """A difference in AP points, and how far its interval reaches to either side (nowhere if it has none)."""
    mean = 100 * difference.mean
    low, high = (100 * x for x in difference.interval) if difference.interval else (mean, mean)
    return mean, [[max(mean - low, 0)], [max(high - mean, 0)]]


def _interval(
    axes: Axes, row: float, difference: Difference | Part, colour: str, marker: str, hollow: bool = False
) -> None:
    mean, error = bar_of(difference)
    style = {"mfc": "white", "ms": 5, "capsize": 2, "lw": 1} if hollow else {"ms": 7, "capsize": 4}
    axes.errorbar(mean, row, xerr=error, color=colour, fmt=marker, **style)


def _curve(run: Run, key: str) -> Sequence[float | None]:
    return run.curves.get(key) or []


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows from the top down; few rows keep the height of three."""
    spare = max(3 - len(names), 0) / 2
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4 + spare, -0.6 - spare)
    axes.grid(axis="y", visible=False)
