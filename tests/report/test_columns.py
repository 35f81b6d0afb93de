"""A column of the main table is one row of one table."""

from __future__ import annotations

from operator import attrgetter

import pytest
from comparisons import comparison

from coco1k_kd.report import columns, markdown
from coco1k_kd.report.columns import COLUMNS, Column
from coco1k_kd.report.words import Words, languages


def test_a_new_column_stands_in_every_language_by_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    content = comparison(seeds=2)
    for number, run in enumerate(content.arms["cwd"].runs):
        run.ap75 = 0.2 + 0.02 * number
    content.references["teacher"].ap75 = 0.3
    before = markdown.accuracy(content, Words())
    monkeypatch.setattr(markdown, "COLUMNS", (*COLUMNS, Column("ap75_best", attrgetter("ap75"), "AP75, best epoch")))
    for language in languages():
        head, rows = markdown.accuracy(content, Words(language))
        assert head[-1] == "AP75, best epoch" and all(len(row) == len(head) for row in rows)
        assert {row[0]: row[-1] for row in rows}["cwd"] == "21.0 ± 1.4"
        assert [row[-1] for row in rows][:2] == ["", "30.0"], "the student has none, and its row says so"
        assert [row[:-1] for row in rows][2:] == before[1][2:], "the others are as they were"
    assert "| AP75, best epoch |" in markdown.markdown(content, Words())


def test_every_column_has_a_heading_and_figures_of_models_and_runs() -> None:
    content = comparison(seeds=2)
    for language in languages():
        heads = [column.head(Words(language)) for column in columns.COLUMNS]
        assert all(heads) and len(set(heads)) == len(heads)
    models = [*content.references.values(), *content.arms["cwd"].runs]
    for column in columns.COLUMNS:
        assert all(figure is None or 0 <= figure <= 1 for figure in map(column.figure, models))
