"""What a report says of arms beside a baseline that trained as long as one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparisons import EN, comparison, valid
from msgspec import structs

from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.equal_time import equal_time
from coco1k_kd.report.evidence import gather
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.page import page
from coco1k_kd.report.words import Words
from coco1k_kd.verdict.entry import Times

KO = Words("ko")


def timed(arm: float, against: float, **changes: object) -> Comparison:
    """A study whose second arm is compared with a baseline of the first one's time, and whose third was too slow."""
    content = comparison(arms=("baseline", "cwd", "cwd:every=4", "mgd", "baseline_same_time"), seeds=3)
    template = content.comparisons.pop()
    for name, times in (("cwd", Times(600.0, 606.0)), ("cwd:every=4", Times(arm, against))):
        changed = {} if name == "cwd" else changes
        content.comparisons.append(
            structs.replace(template, arm=name, against="baseline_same_time", times=times, **changed)
        )
    content.slower = {"mgd": Times(900.0, 606.0)}
    return valid(content)


def told(content: Comparison, words: Words = EN) -> list[str]:
    """The report as Markdown and as a page."""
    return [markdown(content, words), page(content, words, gather(content, words), Path("comparison_x.json"))]


def test_every_arm_has_a_row_and_the_slower_one_the_reason_why_it_has_no_figures() -> None:
    content = timed(590.0, 606.0, verdict="improves", reason=None)
    ((title, head, rows, note),) = equal_time(content, EN)
    assert [row[0] for row in rows] == ["cwd", "cwd:every=4", "mgd"] and all(len(row) == len(head) for row in rows)
    assert rows[1][1:3] == ["9.8", "10.1"] and rows[1][-1] == "improves"
    assert rows[2][1:] == ["15.0", "10.1", "", "", "not compared: the arm took more time"]
    for words in (EN, KO):
        for text in told(content, words):
            assert words("equal_time") in text and words("none_slower") in text
            assert words("had_more", pair="").strip() not in text, "5% are equal"
    assert title == "At equal time" and "baseline_same_time" in note
    assert equal_time(comparison(), EN) == []


@pytest.mark.parametrize(("arm", "word"), [(400.0, "had_more"), (700.0, "had_less")])
def test_unequal_times_stand_beside_the_names_wherever_the_pair_does(arm: float, word: str) -> None:
    content = timed(arm, 606.0, verdict="improves", reason=None)
    entry = content.comparisons[-1]
    for words in (EN, KO):
        pair = words(word, pair=words("pair", arm=entry.arm, against=entry.against))
        assert all(pair in text for text in told(content, words))
        assert f"{arm / 60:.1f}" in words.sentence(entry) and "10.1" in words.sentence(entry)
    assert EN.sentence(entry).startswith("Improves: ")


def test_a_baseline_that_had_more_time_cannot_say_that_longer_training_is_better() -> None:
    settled = {"verdict": "inconclusive", "reason": "more_time", "needed": None}
    content = timed(400.0, 606.0, **settled)
    assert EN.sentence(content.comparisons[-1]).startswith(
        "No verdict at equal time, since the baseline had more of it"
    )
    assert equal_time(content, EN)[0][2][1][-1] == "none: the baseline had more time"
    content.references["student"].ap = None
    content.comparisons[1] = structs.replace(content.comparisons[1], verdict="improves", reason=None)
    content.comparisons[-1] = structs.replace(content.comparisons[-1], verdict="hurts", reason=None)
    assert EN.headline(content).answer == "use_teacher" and "longer training" not in EN.opening(content)
    content.comparisons[-1] = structs.replace(content.comparisons[-1], times=Times(606.0, 606.0))
    assert EN.headline(content).answer == "train_longer"
