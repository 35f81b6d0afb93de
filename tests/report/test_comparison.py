"""The types of comparison_*.json and the schema that is made from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coco1k_kd.errors import UserError
from coco1k_kd.report.comparison import read_comparison, schema

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "comparison.schema.json"


def test_the_schema_is_that_of_the_types() -> None:
    assert SCHEMA.read_text() == schema(), f"run: python -m coco1k_kd.report.comparison > {SCHEMA}"


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"schema_version": 2}', "\xff"])
def test_what_is_no_comparison_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "comparison_x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="is not a comparison of this program") as caught:
        read_comparison(path)
    assert "\n" not in str(caught.value)


def test_a_wrong_value_is_named_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "comparison_x.json"
    head = {"command": "c", "versions": {}, "git": None, "hardware": {}, "dataset": {}, "comparisons": []}
    path.write_text(json.dumps(head | {"references": {"student": {"ap": 41.5, "ap50": 0.6}}}))
    with pytest.raises(UserError, match=r"<= 1(\.0)? - at `\$\.references"):
        read_comparison(path)
