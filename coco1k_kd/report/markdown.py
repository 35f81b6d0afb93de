"""A comparison as JSON, as Markdown for console and file, and as a picture. All of it comes from the JSON alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from coco1k_kd.files import write_atomic, write_json
from coco1k_kd.report.picture import figure
from coco1k_kd.report.words import at_odds, entries, pair, repeated, repeats, result, sources
from coco1k_kd.verdict.intervals import points

_EXTREMES = 5  # classes shown at either end
_GIB = 2**30
_LITTLE = 0.01  # AP
_WHY_TWO = (
    "AP is COCOeval's (pycocotools) on the saved predictions, in AP points (0 to 100). Ultralytics' own mAP differs a "
    "little: it pairs boxes and reads its precision curve by other rules, and knows neither crowd regions nor COCO's "
    "limit of 100 boxes an image and class."
)


_WHY_LAST = (
    "The best epoch is chosen on the images that judge it: that favours neither arm but flatters both. The last epoch "
    "is free of it."
)


def write_report(comparison: dict[str, Any], folder: Path, stamp: str) -> tuple[Path, Path, Path]:
    """Write comparison_<stamp>.json, kd_comparison_<stamp>.png and comparison_<stamp>.md, each whole or not at all."""
    paths = (
        folder / f"comparison_{stamp}.json",
        folder / f"kd_comparison_{stamp}.png",
        folder / f"comparison_{stamp}.md",
    )
    picture, text = draw(comparison), markdown(comparison)  # before anything is written: it may be no comparison
    write_json(paths[0], comparison)
    write_atomic(paths[1], picture)
    write_atomic(paths[2], text)
    return paths


def draw(comparison: dict[str, Any]) -> bytes:
    """The comparison as a PNG, 1,200 pixels wide."""
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the picture says itself what letters it could not show
        figure(comparison).savefig(image, format="png", dpi=100)
    return image.getvalue()


def markdown(comparison: dict[str, Any]) -> str:
    """The verdict in a sentence, then the figures behind it in tables."""
    sections = [
        "# Does distillation help?",
        _verdicts(comparison),
        _accuracy(comparison),
        _differences(comparison),
        *(_where(entry) for entry in entries(comparison)),
        _cost(comparison),
        _checks(comparison),
        _origin(comparison),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _verdicts(comparison: dict[str, Any]) -> str:
    if not comparison["comparisons"]:
        return "One arm only: nothing to compare it with."
    told = [f"- **{pair(entry)}**: {entry['sentence']}{_otherwise(entry)}" for entry in entries(comparison)]
    return "\n".join([*told, *_cautions(comparison)])


def _cautions(comparison: dict[str, Any]) -> list[str]:
    """What no interval knows: that there is little to compare, or that all of it is worse than doing nothing."""
    best = max(arm["mean"]["ap"] for arm in comparison["arms"].values())
    given = comparison["references"].get("student", {}).get("ap") or 0.0
    if best < _LITTLE:
        return [f"- **Little was learned**: no arm reaches {100 * _LITTLE:g} AP, and what is near zero differs little."]
    if best < given:
        return [f"- **The student as given has {100 * given:.1f} AP**, more than any arm has after its training."]
    return []


def _otherwise(entry: dict[str, Any]) -> str:
    """A sentence where the last epoch leads to another verdict."""
    return f" **The last epoch says otherwise: {result(entry['last'])}.** {_WHY_LAST}" if at_odds(entry) else ""


def _accuracy(comparison: dict[str, Any]) -> str:
    head = ["arm", "runs", "AP, best epoch", "AP50, best epoch", "AP, last epoch", "Ultralytics mAP50-95"]
    arms = {f"{name} (as given)": [row] for name, row in comparison["references"].items()}
    arms |= {name: arm["runs"] for name, arm in comparison["arms"].items()}
    rows = []
    for name, runs in arms.items():
        figures = [_spread(run.get(key) for run in runs) for key in ("ap", "ap50", "ap_last")]
        own, full = ([(run.get(key) or {}) for run in runs] for key in ("ultralytics", "full_val"))
        number = str(len(runs)) if "seed" in runs[0] else ""
        figures += [_spread(run.get("map50_95") for run in own), _spread(run.get("ap") for run in full)]
        rows.append([name, number, *figures])
    if any(row[-1] for row in rows):
        head.append("AP on all of val2017, best epoch")
    else:
        rows = [row[:-1] for row in rows]
    return f"## Accuracy\n\n{_table(head, rows)}\n\n{_WHY_TWO} Mean ± standard deviation over {repeated(comparison)}."


def _differences(comparison: dict[str, Any]) -> str:
    compared = entries(comparison)
    if not compared:
        return ""
    rows = [
        [
            pair(e),
            *_difference(e["d_ap"]),
            *_difference(e["d_ap50"]),
            f"{100 * e['mde']:.1f}",
            e["verdict"].replace("_", " "),
            result(e["last"]) if "last" in e else "",
        ]
        for e in compared
    ]
    head = [
        "arms",
        "ΔAP",
        "95% interval",
        "p",
        "ΔAP50",
        "95% interval",
        "p",
        "detectable",
        "verdict",
        "ΔAP, last epoch",
    ]
    scope = "of other draws of the train images" if repeats(comparison)[0] > 1 else "(from two seeds on) of other seeds"
    note = (
        "In AP points, best epoch but for the last column. *Detectable*: the true difference that this study finds "
        f"with 80% probability. The interval speaks of other images and {scope}."
    )
    shares = [f"- {pair(e)}: {shares}" for e in compared if (shares := sources(e["d_ap"]["variance"]))]
    origin = ["Where the variance of ΔAP comes from:\n\n" + "\n".join(shares)] if shares else []
    return "\n\n".join(["## Differences", _table(head, rows), note, *origin])


def _where(entry: dict[str, Any]) -> str:
    sizes = [[name, *_difference(row)[:2], _p(row["p_holm"])] for name, row in entry["per_size"].items()]
    ranked = sorted(entry["per_class"].items(), key=lambda item: -item[1]["mean"])
    shown = ranked if len(ranked) <= 2 * _EXTREMES else ranked[:_EXTREMES] + ranked[-_EXTREMES:]
    classes = [[name, str(row["images"]), *_difference(row)[:2], _p(row["p_holm"])] for name, row in shown]
    certain = [f"{name} ({points(row['mean'])})" for name, row in ranked if _certain(row)]
    looks = f"corrected for {len(ranked)} looks (Holm)"
    found = f"Certain, {looks}: {', '.join(certain)}." if certain else f"No class differs with certainty, {looks}."
    return "\n\n".join(
        [
            f"## Where: {pair(entry)}",
            _table(["box size", "ΔAP", "95% interval", "p (Holm)"], sizes),
            f"{found} The {'classes' if len(shown) == len(ranked) else 'best and worst five'}:",
            _table(["class", "images", "ΔAP", "95% interval", "p (Holm)"], classes),
        ]
    )


def _cost(comparison: dict[str, Any]) -> str:
    rows = []
    for name, arm in comparison["arms"].items():
        seconds, speed, memory = (
            [run.get(key) for run in arm["runs"]] for key in ("train_seconds", "images_per_second", "peak_memory_bytes")
        )
        rows.append(
            [
                name,
                _spread(seconds, 1 / 60, 1),
                _spread(speed, 1, 1),
                _overhead(arm.get("overhead")),
                _spread(memory, 1 / _GIB, 2),
                str(arm["runs"][0].get("epochs", "")),
            ]
        )
    head = ["arm", "training, minutes", "images/s", "time per image", "peak memory, GiB", "epochs"]
    shared = (
        f" Up to {at_once} runs were under way at once: these are times of runs that shared the machine, not of runs "
        "that have it to themselves."
        if (at_once := comparison.get("at_once", 1)) > 1
        else ""
    )
    note = f"Training time is without validation; time per image is against the baseline's.{shared}"
    return f"## Cost\n\n{_table(head, rows)}\n\n{note}"


def _checks(comparison: dict[str, Any]) -> str:
    lines = [
        f"- {part}, {name}: {_value(value)}"
        for part in ("audit", "controls")
        for name, value in (comparison.get(part) or {}).items()
    ]
    return "## Checks\n\n" + "\n".join(lines) if lines else ""


def _origin(comparison: dict[str, Any]) -> str:
    lines = [
        f"- {key}: {_value(comparison[key])}"
        for key in ("dataset", "versions", "hardware", "git")
        if comparison.get(key)
    ]
    command = comparison["command"]
    lines.append(f"- command: `{command if isinstance(command, str) else ' '.join(command)}`")
    return "## Where this comes from\n\n" + "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up on a console."""
    cells = [list(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _difference(row: dict[str, Any]) -> list[str]:
    interval = f"{points(row['ci95'][0])} to {points(row['ci95'][1])}" if row["ci95"] else "too few images"
    return [points(row["mean"]), interval, _p(row["p"])]


def _certain(row: dict[str, Any]) -> bool:
    return row["p_holm"] is not None and row["p_holm"] < 0.05


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _spread(values: Iterable[float | None], scale: float = 100, digits: int = 1) -> str:
    known = [scale * value for value in values if value is not None]
    if not known:
        return ""
    return f"{fmean(known):.{digits}f}" + (f" ± {stdev(known):.{digits}f}" if len(known) > 1 else "")


def _overhead(value: float | None) -> str:
    return "" if value is None else f"{value:+.0%}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
