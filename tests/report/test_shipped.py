"""The tables of what a user would ship."""

from __future__ import annotations

import html

import pytest
from comparisons import comparison, valid
from pages import made

from coco1k_kd.report.comparison import Comparison, Export, Model
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.words import Words


@pytest.fixture
def shipped() -> Comparison:
    content = comparison()
    content.models = {"student": Model(2_624_080, 6.614, 21.04), "teacher": Model(25_902_640, 79.319, 170.26)}
    baseline, cwd, other = (("baseline", 0.391, -0.002), ("cwd", 0.4, 0.001), ("cwd", 0.38, -0.019))
    content.exports = [
        Export(arm, 0, 1, format, "x", 10.43, 18.06, ap, change)
        for format, (arm, ap, change) in (("onnx", baseline), ("onnx", cwd), ("openvino:int8", other))
    ]
    return valid(content)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_size_speed_and_gain_are_told_in_markdown_and_on_the_page(shipped: Comparison, language: str) -> None:
    words = Words(language)
    text, page = markdown(shipped, words), html.unescape(made(shipped, language))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert [words("teacher"), "25.9", "79.3", "170.3"] in rows and [words("student"), "2.6", "6.6", "21.0"] in rows
    assert ["baseline", "onnx", "1", "10.4", "18.1", "39.1", "-0.2", ""] in rows
    assert ["cwd", "onnx", "1", "10.4", "18.1", "40.0", "+0.1", "+0.9"] in rows
    assert ["cwd", "openvino:int8", "1", "10.4", "18.1", "38.0", "-1.9", ""] in rows, "no baseline in this format"
    for key in ("sizes_speeds", "exports"):
        assert words(key) in text and words(key) in page
    assert "170.3" in page and "+0.9" in page


def test_nothing_is_told_of_what_was_not_measured() -> None:
    for told in (markdown(comparison(), Words()), made(comparison())):
        assert Words()("exports") not in told and Words()("sizes_speeds") not in told
