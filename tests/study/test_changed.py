"""What was changed after a verdict was known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coco1k_kd.study.changed import Earlier, changed, more_hours, read_earlier


def earlier(**content: Any) -> Earlier:
    """A report of three seeds that had a verdict at its first look."""
    usual = {
        "design": {"look": 1, "stopped": "looks", "changed": []},
        "comparisons": [{"draws": [0], "seeds": [0, 1, 2]}, {"draws": [0], "seeds": [0]}],
        "judged_by": {"sha256": "a"},
        "groups": None,
    }
    return msgspec.convert({**usual, **content}, Earlier)


@pytest.mark.parametrize(
    ("content", "judged", "ended"),
    [
        ({}, True, True),
        ({"design": {"look": 1, "stopped": None}}, True, False),
        ({"design": {"look": 0, "stopped": "hours"}}, True, True),
        ({"design": {"look": 0, "stopped": None}}, False, False),
        ({"comparisons": [{"draws": [0], "seeds": [0]}]}, False, True),
        ({"comparisons": [{"draws": [0, 1], "seeds": [0]}]}, True, True),
        ({"comparisons": []}, False, True),
        ({"design": None}, False, False),
    ],
)
def test_a_verdict_needs_several_units_and_a_look_or_an_end(content: dict[str, Any], judged: bool, ended: bool) -> None:
    assert (earlier(**content).judged, earlier(**content).ended) == (judged, ended)


def test_only_what_differs_from_a_report_with_a_verdict_is_a_change() -> None:
    assert changed([earlier()], "a", None) == set() == changed([], "b", "x")
    assert changed([earlier()], "b", None) == {"judge"}
    assert changed([earlier()], "a", "(.)") == {"groups"}
    assert changed([earlier(groups={"pattern": "(.)"})], "a", "(.)") == set()
    assert changed([earlier(design={"look": 0, "stopped": None})], "b", "(.)") == set(), "nothing was known yet"
    known = earlier(design={"look": 0, "stopped": None, "changed": ["seeds"]})
    assert changed([known, earlier()], "b", None) == {"seeds", "judge"}, "what was changed stays changed"


def test_more_hours_count_where_those_before_ended_between_two_looks_with_a_verdict() -> None:
    of_hours = earlier(design={"look": 0, "stopped": "hours"})
    assert more_hours(of_hours, ["cwd"] * 4, (5, 8)) == {"hours"}
    assert more_hours(of_hours, ["cwd"] * 3, (5, 8)) == set(), "no run has been added"
    assert more_hours(of_hours, ["cwd"] * 4, (3, 5)) == set(), "it ended at a look"
    assert more_hours(earlier(), ["cwd"] * 4, (5, 8)) == set() == more_hours(None, ["cwd"] * 4, (5, 8))


def test_a_file_that_is_no_report_is_none(tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    assert read_earlier(file) is None
    for text in ("", "[]", '{"design": 7}'):
        file.write_text(text)
        assert read_earlier(file) is None
    file.write_text(json.dumps({"design": {"look": 2, "other": 1}, "audit": {}}))
    assert read_earlier(file).design.look == 2
