"""What to do, from all comparisons at once."""

from __future__ import annotations

import pytest
from comparisons import EN, against, comparison, told
from msgspec import structs

from coco1k_kd.report.words import Words, texts

KO = Words("ko")


CASES = {
    "an arm improves": (told(cwd="inconclusive", mgd="improves"), "use_teacher", "mgd"),
    "an arm is worse, another makes no difference": (told(cwd="hurts", mgd="no_difference"), "no_difference", "mgd"),
    "all arms are worse": (told(cwd="hurts", mgd="hurts"), "hurts", "cwd"),
    "nothing is settled": (told(cwd="inconclusive", mgd="no_difference"), "not_known", "cwd"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_headline_says_what_to_do(case: str):
    content, expected, arm = CASES[case]
    found = EN.headline(content)
    assert (found.answer, found.arm) == (expected, arm) and EN.opening(content).startswith(found.text)
    assert found.text.startswith(texts("en")[f"answer_{expected}"].split("{")[0])


@pytest.mark.parametrize("control", ["pool_truth", "pool_placebo:share=0.3"])
def test_a_control_is_never_the_answer(control: str):
    content = told(cwd="improves", mgd="inconclusive")
    content.comparisons.append(against(control, "baseline", "improves", 0.5, 0.1))
    assert EN.headline(content).arm == "cwd"


def test_the_headline_says_to_train_longer_where_that_wins():
    content = told(cwd="improves", mgd="inconclusive")
    content.comparisons.append(against("cwd", "baseline_same_time", "hurts", -0.02, 0.01))
    found = EN.headline(content)
    assert (found.answer, found.arm) == ("train_longer", "cwd") and "-2.0 AP points" in found.text
    content.comparisons[-1] = against("cwd", "baseline_same_time", "inconclusive", -0.001, 0.01)
    assert EN.headline(content).answer == "use_teacher", "a longer baseline was not shown to win"
    content.comparisons[-1] = against("cwd", "baseline_same_time", "hurts", -0.02, 0.01)
    content.comparisons[1] = structs.replace(content.comparisons[1], verdict="improves")
    assert EN.headline(content).arm == "mgd", "which no longer baseline has beaten"


def test_the_headline_keeps_a_student_that_no_arm_was_shown_to_beat():
    content = told(cwd="improves", mgd="improves")
    content.references["student"] = structs.replace(content.references["student"], ap=0.99)
    assert EN.headline(content).answer == "keep_student"
    best = max(arm.mean["ap"] for arm in content.arms.values())
    assert "Keep student as it is, at 99.0 AP: " in EN.opening(content)
    assert f"and the best has {100 * best:.1f} AP" in EN.opening(content) and f"{100 * best:.1f} AP" in KO.opening(
        content
    )
    content.comparisons.append(against("cwd", "baseline_same_time", "hurts", -0.02, 0.01))
    assert "baseline of the same time cwd is at -2.0" in EN.opening(content) and "더 오래" in KO.opening(content)
    del content.comparisons[-1]
    content.against_given = [against(arm, "student", "inconclusive", 0.01, 0.02) for arm in ("cwd", "mgd")]
    assert EN.headline(content).answer == "keep_student"
    content.against_given[1] = against("mgd", "student", "improves", 0.01, 0.005)
    assert (EN.headline(content).answer, EN.headline(content).arm) == ("use_teacher", "mgd")
    content.against_given, content.references["student"].ap = [], None
    assert EN.headline(content).answer == "use_teacher", "a student of other classes cannot be kept"


def test_without_a_comparison_nothing_is_known():
    content = comparison(arms=("baseline",))
    assert EN.headline(content).answer == "not_known" and EN.headline(content).arm is None
