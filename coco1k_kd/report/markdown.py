"""A comparison as Markdown, for console and file: the verdict in a sentence, then the figures behind it in tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from unicodedata import east_asian_width

import msgspec

from coco1k_kd.report.cautions import cautions
from coco1k_kd.report.columns import COLUMNS
from coco1k_kd.report.comparison import Comparison, Reference, Run
from coco1k_kd.report.equal_time import equal_time
from coco1k_kd.report.shipped import shipped
from coco1k_kd.report.words import Told, Words, points, repeats
from coco1k_kd.verdict.entry import Difference, Entry, Part
from coco1k_kd.verdict.looks import ALPHA

EXTREMES = 5  # classes shown at either end
_GIB = 2**30


def markdown(comparison: Comparison, words: Words) -> str:
    """The whole report as Markdown."""
    sections = [
        f"# {words('title')}",
        f"**{words.opening(comparison)}**" if comparison.comparisons else "",
        _verdicts(comparison, words),
        _section(words("accuracy"), _table(*accuracy(comparison, words)), note_ap(comparison, words)),
        _differences(comparison, words),
        *_told(equal_time(comparison, words)),
        *(_where(entry, words) for entry in comparison.comparisons),
        _section(words("cost"), _table(*cost(comparison, words)), note_cost(comparison, words)),
        *_told(shipped(comparison, words)),
        _section(words("checks"), _lines(checks(comparison, words))),
        _section(words("origin"), _lines([*origin(comparison, words), (words("command"), f"`{comparison.command}`")])),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _told(tables: Iterable[Told]) -> list[str]:
    """A section for each table: its title, itself and its note."""
    return [_section(title, _table(head, rows), note) for title, head, rows, note in tables]


def _section(title: str, *parts: str) -> str:
    """A heading and what stands below it; nothing where that is nothing."""
    return "\n\n".join([f"## {title}", *filter(None, parts)]) if any(parts) else ""


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in pairs)


def _verdicts(comparison: Comparison, words: Words) -> str:
    told = []
    for entry in comparison.comparisons:
        last = words.last(entry)
        told.append(f"- **{words.pair(entry)}**: {words.sentence(entry)}{f' **{last}**' if last else ''}")
    more = [*cautions(comparison, words), *words.design(comparison), words("other_studies")]
    return "\n".join([*(told or [words("one_arm")]), *(f"- {line}" for line in more)])


def accuracy(comparison: Comparison, words: Words) -> tuple[list[str], list[list[str]]]:
    """Head and rows: AP of student and teacher as given, and of every arm."""
    columns = [column for column in COLUMNS if column.shown(comparison, words)]

    def figures(models: Sequence[Reference | Run]) -> list[str]:
        return [_spread(map(column.figure, models)) for column in columns]

    head = [words("h_arm"), words("h_runs"), *(column.head(words) for column in columns)]
    given = comparison.references.items()
    rows = [[_model(words.role(role, comparison), model, words), "", *figures([model])] for role, model in given]
    rows += [[name, str(len(arm.runs)), *figures(arm.runs)] for name, arm in comparison.arms.items()]
    return head, rows


def _model(name: str, model: Reference, words: Words) -> str:
    """Student or teacher, and what it is: fitted, or as given, maybe on some of the classes."""
    if model.fitted:
        return words("as_fitted", name=name, epochs=words.count("epoch", model.fitted.epochs))
    if model.classes:
        return words("as_given_some", name=name, classes=words.count("class", len(model.classes)))
    return words("as_given", name=name)


def note_ap(comparison: Comparison, words: Words) -> str:
    """What AP means here."""
    judge = words.elsewhere(comparison)
    some = "".join(
        f" {words('note_some', name=words.role(role, comparison), classes=words.listed(_first(model.classes, words)))}"
        for role, model in comparison.references.items()
        if model.classes
    )
    where = f" {words('note_val', val=words.val(comparison), judge=judge)}" if judge else ""
    return words("note_ap", repeated=words.repeated(comparison)) + where + some + _witness(comparison, words)


def _witness(comparison: Comparison, words: Words) -> str:
    """That Ultralytics' own figures are farther from these than other rules explain; nothing where they are not."""
    found = comparison.audit.witness
    if found is None or found.agrees:
        return ""
    apart, most = f"{100 * abs(found.difference):.1f}", f"{100 * found.tolerance:.0f}"
    return f" {words('note_witness', of=found.of, difference=apart, tolerance=most)}"


def _first(names: Sequence[str], words: Words) -> list[str]:
    """Some of many names, and how many more there are."""
    more = len(names) - 2 * EXTREMES
    return [*names] if more <= 1 else [*names[: 2 * EXTREMES], words("some_more", n=more)]


def differences(comparison: Comparison, words: Words) -> tuple[list[str], list[list[str]]]:
    """Head and rows: every comparison's figures."""
    compared = comparison.comparisons
    keys = ["arms", "dap", "ci", "p", "dap50", "ci", "p", "mde", "verdict", "dap_last"]
    head = [words(f"h_{key}") for key in keys]
    rows = [
        [
            words.pair(e),
            *difference(e.d_ap, words),
            *difference(e.d_ap50, words),
            f"{100 * e.mde:.1f}" if e.mde else "",  # no spread at all: nothing is known of what would be found
            words(e.verdict),
            words.result(e.last) if e.last else "",
        ]
        for e in compared
    ]
    if any(e.p_holm is not None for e in compared):  # p for all looks and comparisons together
        head.insert(4, words("h_p_holm"))
        for row, e in zip(rows, compared, strict=True):
            row.insert(4, p_value(e.p_holm))
    if any(e.level != ALPHA for e in compared):  # several looks or comparisons: what the verdict is read from
        head.insert(3, words("h_level_ci"))
        for row, e in zip(rows, compared, strict=True):
            row.insert(3, words.interval(*e.d_ap.interval))
    return head, rows


def note_differences(comparison: Comparison, words: Words) -> str:
    """What the columns of the differences mean."""
    scope = words("scope_draws" if repeats(comparison)[0] > 1 else "scope_seeds")
    return words("note_differences", scope=scope)


def _differences(comparison: Comparison, words: Words) -> str:
    compared = comparison.comparisons
    if not compared:
        return ""
    shares = [(words.pair(e), shares) for e in compared if (shares := words.sources(e.d_ap.variance))]
    parts = [_table(*differences(comparison, words)), note_differences(comparison, words)]
    parts += [f"{words('note_variance')}\n\n{_lines(shares)}"] if shares else []
    return _section(words("differences"), *parts)


def sizes(entry: Entry, words: Words) -> tuple[list[str], list[list[str]]]:
    """Head and rows: dAP by box size."""
    rows = [[words(name), *difference(part, words)[:2], p_value(part.p_holm)] for name, part in entry.per_size.items()]
    return [words(f"h_{key}") for key in ("size", "dap", "ci", "p_holm")], rows


def _where(entry: Entry, words: Words) -> str:
    ranked = sorted(entry.per_class.items(), key=lambda item: -item[1].mean)
    shown = ranked if len(ranked) <= 2 * EXTREMES else ranked[:EXTREMES] + ranked[-EXTREMES:]
    rows = [[name, str(part.images), *difference(part, words)[:2], p_value(part.p_holm)] for name, part in shown]
    scope = words("all_classes" if len(shown) == len(ranked) else "extreme_classes")
    head = [words(f"h_{key}") for key in ("class", "images", "dap", "ci", "p_holm")]
    return _section(
        words("where", pair=words.pair(entry)),
        _table(*sizes(entry, words)),
        f"{found(entry, words)} {scope}",
        _table(head, rows),
    )


def found(entry: Entry, words: Words) -> str:
    """Which classes differ with certainty."""
    classes = entry.per_class
    sure = [f"{name} ({points(part.mean)})" for name, part in classes.items() if entry.sure(part)]
    if not sure:
        return words("none_certain", number=len(classes))
    return words("certain", number=len(classes), names=", ".join(sure))


def cost(comparison: Comparison, words: Words) -> tuple[list[str], list[list[str]]]:
    """Head and rows: time and memory of every arm, and the time in which a teacher was fitted."""
    rows = []
    for role, model in comparison.references.items():
        if fitted := model.fitted:
            minutes = _spread([fitted.seconds], 1 / 60)
            rows.append([_model(words.role(role, comparison), model, words), minutes, "", "", "", str(fitted.epochs)])
    for name, arm in comparison.arms.items():
        minutes = _spread((run.train_seconds for run in arm.runs), 1 / 60)
        speed = _spread((run.images_per_second for run in arm.runs), 1)
        overhead = "" if arm.overhead is None else f"{arm.overhead:+.0%}"
        memory = _spread((run.peak_memory_bytes for run in arm.runs), 1 / _GIB, 2)
        rows.append([name, minutes, speed, overhead, memory, str(arm.runs[0].epochs)])
    return [words(f"h_{key}") for key in ("arm", "minutes", "speed", "overhead", "memory", "epochs")], rows


def note_cost(comparison: Comparison, words: Words) -> str:
    """What the times are, what a teacher's was spent on, and whether all runs alike shared the machine."""
    fitted = "".join(
        f" {words('note_fitted', given=Path(of.origin).stem, epochs=words.count('epoch', of.epochs))}"
        for model in comparison.references.values()
        if (of := model.fitted)
    )
    shared = f" {words('note_shared', at_once=comparison.at_once)}" if comparison.at_once > 1 else ""
    taught = comparison.labelling
    once = f" {words('note_labelling', **msgspec.to_builtins(taught))}" if taught else ""
    doubts = f" {words('note_label_review')}" if taught and taught.train_images else ""
    text = words("note_cost") + fitted + shared + once + doubts
    by_arm = {name: sorted({run.at_once for run in arm.runs}) for name, arm in comparison.arms.items()}
    if len(set(map(tuple, by_arm.values()))) == 1:
        return text
    told = ", ".join(f"{name} {'/'.join(map(str, numbers))}" for name, numbers in by_arm.items())
    return f"{text} {words('note_unlike', arms=told)}"


def checks(comparison: Comparison, words: Words) -> list[tuple[str, str]]:
    """What was audited and controlled, and with what result."""
    return [
        (f"{words(part)}, {name}", _value(value, words))
        for part in ("audit", "controls")
        for name, value in msgspec.to_builtins(getattr(comparison, part) or {}).items()
    ]


def origin(comparison: Comparison, words: Words) -> list[tuple[str, str]]:
    """Data, versions, machine and commit."""
    keys = ("dataset", "versions", "hardware", "git")
    recorded = {key: msgspec.to_builtins(getattr(comparison, key)) for key in keys}
    return [(words(key), _value(value, words)) for key, value in recorded.items() if value]


def difference(found: Difference | Part, words: Words) -> list[str]:
    """Mean, interval and p-value of a difference."""
    interval = words.interval(*found.ci95) if found.ci95 else words("few_images")
    return [points(found.mean), interval, p_value(found.p)]


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


def _value(value: object, words: Words) -> str:
    if isinstance(value, bool):
        return words("yes" if value else "no")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item, words)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item, words) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
