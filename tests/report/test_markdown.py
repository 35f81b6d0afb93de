"""What the report says in words and tables."""

from __future__ import annotations

import pytest
from comparisons import EN, change, comparison, valid
from matplotlib.text import Text
from msgspec import structs

from coco1k_kd.report.checks import Failure
from coco1k_kd.report.comparison import Reference
from coco1k_kd.report.headline import answer
from coco1k_kd.report.markdown import accuracy, differences, markdown
from coco1k_kd.report.picture import figure
from coco1k_kd.report.words import Words
from coco1k_kd.verdict.entry import Components, Variance


def test_markdown_says_the_verdict_first_and_the_figures_in_points():
    content = comparison(classes=80)
    text = markdown(content, EN)
    assert text.splitlines()[2] == f"**{EN.opening(content)}**"
    assert text.splitlines()[4] == (
        "- **cwd against baseline**: Inconclusive: +0.6 AP points (95% interval -1.8 to +3.0) with 2 seeds on 400 "
        "images. As far as its own spread tells, four of five such studies would have found a true difference of about "
        "2.7 AP points. If the difference that was seen is the true one, four of five studies would settle it so: run "
        "4 more seeds."
    )
    for part in ("+0.6", "30.8", "30.1 ± 0.1", "30.7 ± 0.1", "10.0 ± 0.0", "3.00 ± 0.00", "ultralytics 8.4.190"):
        assert part in text, part
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables if "ΔAP50" in line or "cwd against" in line}) == 1
    assert "None" not in text and "nan" not in text


def test_a_judge_of_other_images_is_told():
    content = comparison(seeds=3)
    assert "choose the epoch" not in markdown(content, EN) + figure(content, EN).get_supxlabel()
    change(content, judge="full_val", images=4552)
    text, caption = markdown(valid(content), EN), figure(content, EN).get_supxlabel().replace("\n    ", " ")
    judge = "4,552 images of the validation set that did not choose the epoch"
    assert f"These figures are on the 400 images that choose the epoch; the verdict is taken on {judge}." in text
    assert f"Differences are on {judge}." in caption and "400 images, 3 seeds" in caption


def test_a_failed_run_is_told():
    content = comparison()
    content.failures = [Failure(arm="cwd", draw=0, seed=3, message="the card is gone")]
    told = "- A run of cwd (seed 3) failed and is left out: the card is gone"
    assert told in markdown(valid(content), EN).splitlines()


def test_a_collapsed_run_is_named():
    content = comparison(seeds=3)
    run = content.arms["cwd"].runs[1]
    assert "collapsed" not in markdown(content, EN)
    run.ap = 0.02
    told = f"A run of cwd (seed {run.seed}) collapsed: 2.0 AP, where half of the arm's runs have "
    assert told in markdown(valid(content), EN) and "무너졌습니다" in markdown(content, Words("ko"))


def test_a_difference_of_exactly_zero_is_said_in_plain_words():
    content = comparison(seeds=3)
    entry = content.comparisons[0]
    zero = Components(0.0)
    none = structs.replace(entry.d_ap, mean=0.0, components=zero, ci95=(0.0, 0.0), ci=(0.0, 0.0))
    runs = [structs.replace(run, d_ap=0.0) for run in entry.per_run]
    same = structs.replace(entry, d_ap=none, per_run=runs, verdict="inconclusive", reason="no_spread")
    assert EN.sentence(same).startswith("No difference at all: both arms have the same AP in every run")
    assert not EN.sentence(structs.replace(same, per_run=entry.per_run)).startswith("No difference at all")
    content.comparisons, content.references = [structs.replace(same, mde=0.0)], {}
    assert EN.headline(content).text.startswith(
        "cwd against baseline: No difference at all: both arms have the same AP"
    )
    head, (row,) = differences(content, EN)
    assert row[head.index(EN("h_mde"))] == "", "nothing was seen to vary, so nothing is said of what would be found"


def test_certain_classes_are_named():
    content = comparison()
    classes = content.comparisons[0].per_class
    for name, part in classes.items():
        classes[name] = structs.replace(part, p_holm=1.0)
    assert "No class differs with certainty, corrected for all 12 classes (Holm)." in markdown(content, EN)
    name = list(classes)[-1]
    classes[name] = structs.replace(classes[name], p_holm=0.001)
    assert "Certain," not in markdown(content, EN), "the comparison itself found no effect"
    content.comparisons[0] = structs.replace(content.comparisons[0], verdict="improves", reason=None)
    assert f"Certain, corrected for all 12 classes (Holm): {name} (+5.0)." in markdown(content, EN)


def test_the_main_table_has_ap_on_the_images_that_judge():
    content = comparison(seeds=3)
    assert "AP (judge)" not in markdown(content, EN), "val judges: its AP stands there already"
    content.comparisons = [structs.replace(one, judge="full_val") for one in content.comparisons]
    for number, arm in enumerate(content.arms.values()):
        arm.runs = [structs.replace(run, ap_judge=0.2 + 0.01 * number) for run in arm.runs]
    content.references["student"].ap_judge = 0.11
    rows = {row[0]: row for row in accuracy(content, EN)[1]}
    assert accuracy(content, EN)[0][2] == "AP (judge)"
    assert [rows[name][2] for name in ("baseline", "cwd")] == ["20.0 ± 0.0", "21.0 ± 0.0"]
    assert rows[EN("as_given", name=EN("student"))][2] == "11.0"


def test_a_last_epoch_that_says_otherwise_is_told():
    agreed = markdown(comparison(seeds=3), EN)
    assert "says otherwise" not in agreed
    content = comparison(seeds=3, gain=0.02, last=0.0)
    text = markdown(content, EN)
    assert EN("why_last") in text and EN("why_last_judge") not in text
    content.comparisons = [structs.replace(one, judge="full_val") for one in content.comparisons]
    judged = markdown(content, EN)
    assert EN("why_last_judge") in judged and EN("why_last") not in judged, "other images have chosen no epoch"
    assert content.comparisons[0].verdict == "improves"
    assert "**The last epoch says otherwise: inconclusive, +0.0 (" in text.splitlines()[4]
    assert "\n    but by the last epoch: inconclusive, +0.0 (" in figure(content, EN).get_suptitle()


@pytest.mark.parametrize(
    ("ap", "student", "told"),
    [
        (0.3, 0.308, "- The student as given has 30.8 AP, more than any arm"),
        (0.3, 0.299, "- What a teacher gained in other studies"),
        (0.004, 0.308, "- Little was learned: no arm reaches 1 AP"),
    ],
)
def test_a_comparison_of_what_is_worse_than_nothing_says_so(ap, student, told):
    content = comparison()
    content.references["student"].ap = student
    for arm in content.arms.values():
        arm.mean["ap"] = ap
    line = markdown(content, EN).splitlines()[5]
    assert line.startswith(told)


def test_a_model_that_knows_some_of_the_classes_says_so_and_no_arm_is_held_to_it():
    content = comparison()
    some = Reference(ap=0.9, ap50=0.95, classes=["car", "dog"])
    content.references = {"student": some, "teacher": some}
    told = markdown(valid(content), EN)
    assert "| student (as given, on 2 classes)" in told and "its AP is that of car and dog." in told
    assert "more than any arm" not in told and answer(content)[0] != "keep_student"
    korean = markdown(content, Words("ko"))
    assert "학생(원래 그대로, 클래스 2개)" in korean and "이름이 같은 일부" in korean
    some.classes = [f"class {i}" for i in range(30)]
    assert "class 8, class 9 and 20 more." in markdown(content, EN)
    assert not any("90.0" in text.get_text() for text in figure(content, EN).findobj(Text)), "no line beside the arms"
    content.references["student"] = Reference(ap=0.9, ap50=0.95)
    assert "more than any arm" in markdown(content, EN) and answer(content)[0] == "keep_student"


def test_every_arm_is_told_against_the_student_as_given():
    content = comparison()
    (entry,) = content.comparisons
    content.against_given = [structs.replace(entry, arm=arm, against="student") for arm in content.arms]
    result = f"{EN(entry.verdict)}, +0.6 ({EN.interval(*entry.d_ap.interval)})"
    line = f"- Against the student as given, on 400 images: baseline {result}; cwd {result}."
    assert line in markdown(content, EN).splitlines()
    assert "- 원래의 학생 모델과 비교(이미지 400장): baseline " in markdown(content, Words("ko"))


def test_where_the_variance_comes_from_is_told():
    content = comparison()
    change(content, d_ap=structs.replace(content.comparisons[0].d_ap, variance=Variance(7e-6, None, 3e-6)))
    assert "- cwd against baseline: 70% from seeds, 30% from images\n" in markdown(content, EN)
    sources = EN.sources
    assert sources(Variance(None, None, 0.1)) == "100% from images; the share of seeds is unknown"
    assert sources(Variance(None, 3.0, 1.0)) == "75% from draws and their seeds, 25% from images"
    assert sources(Variance(1.0, 2.0, 1.0)) == "25% from seeds, 50% from draws, 25% from images"
    assert sources(Variance(0.0, None, 0.0)) == ""


def test_draws_and_runs_at_once_are_told():
    content = comparison(draws=2)
    plain = markdown(content, EN) + figure(content, EN).get_supxlabel()
    assert "under way at once" not in plain and "standard deviation over 2 draws of 2 seeds" in plain
    assert "400 images, 2 draws of 2 seeds (0, 1)" in plain
    assert "AP of every run, mean as a line" in {axes.get_title("left") for axes in figure(content, EN).axes}
    assert "Up to 3 runs were under way at once" in markdown(structs.replace(content, at_once=3), EN)
    said = "not timed under the same number of runs at a time"
    assert said not in markdown(content, EN)
    for name, arm in content.arms.items():
        arm.runs[0].at_once = 3 if name == "baseline" else 1
    assert f"{said} (baseline 1/3, cwd 1" in markdown(content, EN)
