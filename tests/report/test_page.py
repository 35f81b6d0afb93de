"""The HTML report: one file that needs nothing else, that a screen reader reads, and that fits a phone."""

from __future__ import annotations

import html
import re
import shutil
import subprocess

import pytest
from comparisons import SHAPES, change, comparison
from pages import Page, made

from coco1k_kd.report.evidence import Evidence
from coco1k_kd.report.words import Words

HOSTILE = '<img src=x onerror=alert(1)> & "quoted" $a_b$ \''


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_one_whole_page(shape, language):
    content, words = comparison(**shape), Words(language)
    text = made(content, language)
    found = Page(text)
    assert found.text[:2] == [words("title"), words.opening(content)], "the verdict comes first"
    first_chart = next(
        i for i, (tag, _) in enumerate(found.elements) if tag == "svg" and "role" in found.elements[i][1]
    )
    assert "section" not in [tag for tag, _ in found.elements[:first_chart]], "its picture stands beside it"
    for entry in content.comparisons:
        assert words.sentence(entry) in found.text
    assert len(text) < 5_000_000 and ("html", {"lang": language}) in found.elements
    assert "nan" not in " ".join(found.text).lower().split() and "None" not in " ".join(found.text).split()


def test_a_page_needs_nothing_else():
    text = made(comparison(arms=("baseline", "cwd", "mgd"), seeds=3, classes=80))
    for tag, attributes in Page(text).elements:
        for name in ("src", "href", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)
    assert "default-src 'none'" in text, "a browser refuses what would be fetched"


def test_pictures_and_tables_say_what_they_are():
    elements = Page(made(comparison(arms=("baseline", "cwd"), seeds=3))).elements
    charts = [attributes for tag, attributes in elements if tag == "svg" and "aria-hidden" not in attributes]
    assert len(charts) >= 5 and all(a["role"] == "img" and len(a["aria-label"]) > 10 for a in charts)
    tables = sum(tag == "table" for tag, _ in elements)
    assert tables >= 4 and sum(attributes.get("role") == "region" for _, attributes in elements) == tables
    assert {attributes["scope"] for tag, attributes in elements if tag == "th"} == {"col", "row"}


def test_names_are_text():
    content = comparison(arms=("baseline", f"cwd:{HOSTILE}"))
    content.dataset["description"] = content.command = HOSTILE
    classes = content.comparisons[0].per_class
    change(content, per_class={HOSTILE: classes.pop(next(iter(classes))), **classes})
    text = made(content)
    found = Page(text)
    assert not [attributes for tag, attributes in found.elements if tag == "img" or "onerror" in attributes]
    assert HOSTILE in found.text and text.count("<script>") == 1


def test_the_page_names_the_commands_that_make_it_again():
    text = " ".join(Page(made(comparison(), "ko")).text)
    assert "test_coco1k_kd.py --epochs 10" in text
    again = "python test_coco1k_kd.py --report-only runs/comparison_20260101_000000.json --language ko"
    assert again in text


def test_what_is_left_out_is_said():
    gone = Words()("missing_predictions", path="runs/0/predictions_best.json")
    assert gone in Page(made(comparison(), evidence=Evidence(left_out=[gone]))).text


_MEASURE = """
<script>
addEventListener("load", () => {
  document.querySelectorAll("table.sorts th button")[0].click();
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const root = document.documentElement, cut = [...document.querySelectorAll(".scroll")].filter((one) =>
    one.scrollWidth > one.clientWidth), wide = [...document.querySelectorAll("main *")].filter((element) =>
    !element.closest(".scroll, svg") && element.getBoundingClientRect().right > innerWidth + 1);
  parent.document.documentElement.dataset.measured = [innerWidth, root.scrollWidth, wide.length, cut.length,
    document.querySelectorAll("[aria-sort]").length].join("|");
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_browser_shows_it_offline(tmp_path, width, language):
    content = comparison(arms=("baseline", "cwd", "mgd:mask_ratio=0.4:weight=4"), seeds=3, classes=80)
    content.command = f"python test_coco1k_kd.py --data /{'a_long_folder/' * 20}coco1k.yaml"
    inside = html.escape(made(content, language).replace("</body>", f"{_MEASURE}</body>"))
    path = tmp_path / "frame.html"  # a window of chromium is at least 500 pixels wide, a frame is as wide as asked for
    path.write_text(f'<!DOCTYPE html><iframe style="border:0" width="{width}" height="900" srcdoc="{inside}"></iframe>')
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    command += ["--window-size=1500,900", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    measured = re.search(r'data-measured="([^"]*)"', done.stdout)
    assert measured, done.stdout[:2000] + done.stderr
    inner, scroll, too_wide, cut, sorted_columns = measured[1].split("|")
    assert int(inner) == width, "the window is as wide as it should be"
    assert int(scroll) <= width and too_wide == "0", "nothing overflows"
    assert cut == "0", "no table has a column beyond its edge"
    assert sorted_columns == "1", "a table sorts"
