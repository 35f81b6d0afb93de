"""A comparison as Markdown, for console and file: the verdict in a sentence, then the figures behind it in tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any
from unicodedata import east_asian_width

from coco1k_kd.report.words import Words, points, repeats

EXTREMES = 5  # classes shown at either end
_GIB = 2**30


def markdown(comparison: Mapping[str, Any], words: Words) -> str:
    """The whole report as Markdown."""
    sections = [
        f"# {words('title')}",
        _verdicts(comparison, words),
        _section(words("accuracy"), _table(*accuracy(comparison, words)), note_ap(comparison, words)),
        _differences(comparison, words),
        *(_where(entry, words) for entry in comparison["comparisons"]),
        _section(words("cost"), _table(*cost(comparison, words)), note_cost(comparison, words)),
        _section(words("checks"), _lines(checks(comparison, words))),
        _section(
            words("origin"), _lines([*origin(comparison, words), (words("command"), f"`{comparison['command']}`")])
        ),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _section(title: str, *parts: str) -> str:
    """A heading and what stands below it; nothing where that is nothing."""
    return "\n\n".join([f"## {title}", *filter(None, parts)]) if any(parts) else ""


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in pairs)


def _verdicts(comparison: Mapping[str, Any], words: Words) -> str:
    told = []
    for entry in comparison["comparisons"]:
        last = words.last(entry)
        told.append(f"- **{words.pair(entry)}**: {words.sentence(entry)}{f' **{last}**' if last else ''}")
    more = [*words.cautions(comparison), *words.design(comparison), *words.recommendations(comparison)]
    return "\n".join([*(told or [words("one_arm")]), *(f"- {line}" for line in more)])


def accuracy(comparison: Mapping[str, Any], words: Words) -> tuple[list[str], list[list[str]]]:
    """Head and rows: AP of student and teacher as given, and of every arm."""
    head = [words(f"h_{key}") for key in ("arm", "runs", "ap_best", "ap50_best", "ap_last", "ultralytics")]
    references = comparison.get("references") or {}
    arms = {words("as_given", name=words(role)): [row] for role, row in references.items()}
    arms |= {name: arm["runs"] for name, arm in comparison["arms"].items()}
    rows = []
    for name, runs in arms.items():
        figures = [_spread(run.get(key) for run in runs) for key in ("ap", "ap50", "ap_last")]
        own = [run.get("ultralytics") or {} for run in runs]
        number = str(len(runs)) if "seed" in runs[0] else ""
        rows.append([name, number, *figures, _spread(run.get("map50_95") for run in own)])
    return head, rows


def note_ap(comparison: Mapping[str, Any], words: Words) -> str:
    """What AP means here."""
    judge = words.elsewhere(comparison)
    where = f" {words('note_val', val=words.val(comparison), judge=judge)}" if judge else ""
    return words("note_ap", repeated=words.repeated(comparison)) + where


def differences(comparison: Mapping[str, Any], words: Words) -> tuple[list[str], list[list[str]]]:
    """Head and rows: every comparison's figures."""
    compared = comparison["comparisons"]
    keys = ["arms", "dap", "ci", "p", "dap50", "ci", "p", "mde", "verdict", "dap_last"]
    head = [words(f"h_{key}") for key in keys]
    rows = [
        [
            words.pair(e),
            *difference(e["d_ap"], words),
            *difference(e["d_ap50"], words),
            f"{100 * e['mde']:.1f}",
            words(e["verdict"]),
            words.result(e["last"]) if "last" in e else "",
        ]
        for e in compared
    ]
    if any(e.get("p_holm") is not None for e in compared):  # several arms: what decides the verdict's word
        head.insert(4, words("h_p_holm"))
        for row, e in zip(rows, compared, strict=True):
            row.insert(4, p_value(e.get("p_holm")))
    if any(e.get("level", 0.05) != 0.05 for e in compared):  # a look of several: what the verdict is read from
        head.insert(3, words("h_level_ci"))
        for row, e in zip(rows, compared, strict=True):
            row.insert(3, words.interval(*(e["d_ap"].get("ci") or e["d_ap"]["ci95"])))
    return head, rows


def note_differences(comparison: Mapping[str, Any], words: Words) -> str:
    """What the columns of the differences mean."""
    scope = words("scope_draws" if repeats(comparison)[0] > 1 else "scope_seeds")
    return words("note_differences", scope=scope)


def _differences(comparison: Mapping[str, Any], words: Words) -> str:
    compared = comparison["comparisons"]
    if not compared:
        return ""
    shares = [(words.pair(e), shares) for e in compared if (shares := words.sources(e["d_ap"]["variance"]))]
    parts = [_table(*differences(comparison, words)), note_differences(comparison, words)]
    parts += [f"{words('note_variance')}\n\n{_lines(shares)}"] if shares else []
    return _section(words("differences"), *parts)


def sizes(entry: Mapping[str, Any], words: Words) -> tuple[list[str], list[list[str]]]:
    """Head and rows: dAP by box size."""
    rows = [
        [words(name), *difference(row, words)[:2], p_value(row["p_holm"])] for name, row in entry["per_size"].items()
    ]
    return [words(f"h_{key}") for key in ("size", "dap", "ci", "p_holm")], rows


def _where(entry: Mapping[str, Any], words: Words) -> str:
    ranked = sorted(entry["per_class"].items(), key=lambda item: -item[1]["mean"])
    shown = ranked if len(ranked) <= 2 * EXTREMES else ranked[:EXTREMES] + ranked[-EXTREMES:]
    rows = [[name, str(row["images"]), *difference(row, words)[:2], p_value(row["p_holm"])] for name, row in shown]
    scope = words("all_classes" if len(shown) == len(ranked) else "extreme_classes")
    head = [words(f"h_{key}") for key in ("class", "images", "dap", "ci", "p_holm")]
    return _section(
        words("where", pair=words.pair(entry)),
        _table(*sizes(entry, words)),
        f"{found(entry, words)} {scope}",
        _table(head, rows),
    )


def found(entry: Mapping[str, Any], words: Words) -> str:
    """Which classes differ with certainty."""
    classes = entry["per_class"]
    sure = [f"{name} ({points(row['mean'])})" for name, row in classes.items() if certain(row)]
    if not sure:
        return words("none_certain", number=len(classes))
    return words("certain", number=len(classes), names=", ".join(sure))


def cost(comparison: Mapping[str, Any], words: Words) -> tuple[list[str], list[list[str]]]:
    """Head and rows: time and memory of every arm."""
    rows = []
    for name, arm in comparison["arms"].items():
        seconds, speed, memory = (
            [run.get(key) for run in arm["runs"]] for key in ("train_seconds", "images_per_second", "peak_memory_bytes")
        )
        overhead = "" if arm.get("overhead") is None else f"{arm['overhead']:+.0%}"
        figures = [_spread(seconds, 1 / 60, 1), _spread(speed, 1, 1), overhead, _spread(memory, 1 / _GIB, 2)]
        rows.append([name, *figures, str(arm["runs"][0].get("epochs", ""))])
    return [words(f"h_{key}") for key in ("arm", "minutes", "speed", "overhead", "memory", "epochs")], rows


def note_cost(comparison: Mapping[str, Any], words: Words) -> str:
    """What the times are, and whether runs shared the machine."""
    at_once = comparison.get("at_once", 1)
    return words("note_cost") + (f" {words('note_shared', at_once=at_once)}" if at_once > 1 else "")


def checks(comparison: Mapping[str, Any], words: Words) -> list[tuple[str, str]]:
    """What was audited and controlled, and with what result."""
    return [
        (f"{words(part)}, {name}", _value(value, words))
        for part in ("audit", "controls")
        for name, value in (comparison.get(part) or {}).items()
    ]


def origin(comparison: Mapping[str, Any], words: Words) -> list[tuple[str, str]]:
    """Data, versions, machine and commit."""
    keys = ("dataset", "versions", "hardware", "git")
    return [(words(key), _value(comparison[key], words)) for key in keys if comparison.get(key)]


def difference(row: Mapping[str, Any], words: Words) -> list[str]:
    """Mean, interval and p-value of a difference."""
    interval = words.interval(*row["ci95"]) if row["ci95"] else words("few_images")
    return [points(row["mean"]), interval, p_value(row["p"])]


def certain(row: Mapping[str, Any]) -> bool:
    """Whether a difference stays certain after Holm's correction."""
    return row["p_holm"] is not None and row["p_holm"] < 0.05


def p_value(value: float | None) -> str:
    """A p-value to three places."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up on a console."""
    cells = [list(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(3, *(_columns(row[i]) for row in cells)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(c + " " * (w - _columns(c)) for c, w in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _columns(text: str) -> int:
    """How many columns of a console the text takes: Korean letters take two."""
    return len(text) + sum(east_asian_width(letter) in "WF" for letter in text)


def _spread(values: Iterable[float | None], scale: float = 100, digits: int = 1) -> str:
    known = [scale * value for value in values if value is not None]
    if not known:
        return ""
    return f"{fmean(known):.{digits}f}" + (f" ± {stdev(known):.{digits}f}" if len(known) > 1 else "")


def _value(value: Any, words: Words) -> str:
    if isinstance(value, bool):
        return words("yes" if value else "no")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item, words)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item, words) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
