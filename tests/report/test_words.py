"""Sentences from figures, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest
from comparisons import an_entry, comparison, told
from msgspec import structs

from coco1k_kd.report import words
from coco1k_kd.report.comparison import Comparison, Progress
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.plots import bar_of
from coco1k_kd.report.words import Words, languages, texts

EN, KO = Words("en"), Words("ko")


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_languages_have_the_same_texts_with_the_same_placeholders():
    english = texts("en")
    assert {"en", "ko"} <= set(languages())
    for language in languages():
        assert list(texts(language)) == list(english), language
        for key, text in texts(language).items():
            assert isinstance(text, str), (language, key, "YAML reads an unquoted yes, no or number as another type")
            assert placeholders(text) == placeholders(english[key]), (language, key)


def test_every_text_is_used():
    room = Path(words.__file__).parent
    files = [*room.glob("*.py"), room / "page.html"]
    source = "".join(file.read_text() for file in files)
    parts = [part for part in re.findall(r"f['\"](\w*)\{[^}]*\}(\w*)['\"]", source) if any(part)]
    for key in texts("en"):
        made = any(key.startswith(start) and key.endswith(end) for start, end in parts)
        assert made or re.search(f"['\"]{key}['\"]", source) or key in ("small", "medium", "large", "teacher"), key


def test_korean_is_korean():
    untranslated = {
        "h_dap",
        "h_dap50",
        "h_p",
        "h_ultralytics",
        "git",
        "interval",
        "and",
        "advice_or",
        "sample",
        "judge_val",
    }
    untranslated |= {"h_gflops", "h_megabytes", "open_part", "draws_of_seeds", "h_p_holm", "pic_curves_y"}
    for key, text in texts("ko").items():
        assert key in untranslated or re.search("[가-힣]", text), key


@pytest.mark.parametrize(
    ("changes", "english", "korean"),
    [
        (
            {"verdict": "improves"},
            "Improves: +0.6 AP points (95% interval -0.2 to +1.4) with 3 seeds on 400 images.",
            "개선: +0.6 AP 포인트(95% 신뢰구간 -0.2~+1.4), 시드 3개, 이미지 400장.",
        ),
        (
            {"verdict": "improves", "judge": "full_val", "images": 4552},
            "Improves: +0.6 AP points (95% interval -0.2 to +1.4) with 3 seeds on 4,552 images of the validation set "
            "that did not choose the epoch.",
            "개선: +0.6 AP 포인트(95% 신뢰구간 -0.2~+1.4), 시드 3개, 에폭 선택에 쓰이지 않은 검증 이미지 4,552장.",
        ),
        (
            {"verdict": "inconclusive", "reason": "few_images", "images": 2},
            "Inconclusive: 2 images cannot show how sure +0.6 AP points are.",
            "결론 보류: 이미지 2장만으로는 +0.6 AP 포인트가 얼마나 확실한지 알 수 없습니다.",
        ),
        (
            {"verdict": "inconclusive", "reason": "no_spread"},
            "Inconclusive: these 400 images do not show how much +0.6 AP points vary from image to image.",
            "결론 보류: 이 이미지 400장으로는 +0.6 AP 포인트가 이미지에 따라 얼마나 달라지는지 알 수 없습니다.",
        ),
        (
            {"verdict": "inconclusive", "reason": "nothing_found"},
            "Inconclusive: neither arm reaches 0.3 AP points on 400 images, so there is nothing to compare yet. Train "
            "for more epochs.",
            "결론 보류: 이미지 400장에서 어느 쪽도 0.3 AP 포인트에 이르지 못해 아직 비교할 것이 없습니다. 더 많은 "
            "에폭이 필요합니다.",
        ),
        (
            {"verdict": "no_difference", "seeds": [0]},
            "Inconclusive about the method: one seed compares this pair of models only, +0.6 AP points (95% interval "
            "-0.2 to +1.4) on 400 images. Run at least 2 more seeds.",
            "방법에 대해서는 결론 보류: 시드 하나로는 이 모델 한 쌍만 비교할 수 있습니다. 이미지 400장에서 +0.6 AP "
            "포인트(95% 신뢰구간 -0.2~+1.4). 최소한 시드 2개 추가 학습이 필요합니다.",
        ),
    ],
)
def test_a_sentence_comes_from_figures_alone(changes, english, korean):
    changed = an_entry(**changes)
    assert (EN.sentence(changed), KO.sentence(changed)) == (english, korean)


def test_the_interval_of_a_look_is_the_one_that_is_worded():
    changed = an_entry(verdict="improves", level=0.011, d_ap=structs.replace(an_entry().d_ap, ci=(0.001, 0.011)))
    assert "(98.9% interval +0.1 to +1.1)" in EN.sentence(changed)
    assert EN.result(changed) == "improves, +0.6 (+0.1 to +1.1)"
    mean, ((left,), (right,)) = bar_of(changed.d_ap)
    assert (mean - left, mean + right) == pytest.approx((0.1, 1.1)), "and drawn"


def test_what_holm_took_back_is_worded():
    d_ap = structs.replace(an_entry().d_ap, ci95=(0.001, 0.011), ci=(-0.001, 0.013))
    changed = an_entry(verdict="inconclusive", p_holm=0.081, d_ap=d_ap)
    assert EN.sentence(changed).endswith("the difference is not settled (p = 0.081).")
    assert "Holm" not in EN.sentence(an_entry(verdict="inconclusive", p_holm=0.081)), "its interval holds zero"


DESIGN = Progress("auto", looks=[3, 5, 8], levels=[0.011, 0.0183, 0.0292], look=1, stopped="hours", hours_next=0.7)


def designed(number: int, **changes: object) -> Comparison:
    """A comparison of so many seeds whose design differs from `DESIGN` in `changes`."""
    return structs.replace(comparison(seeds=number), design=structs.replace(DESIGN, **changes))


def test_the_design_is_worded():
    content = designed(3)
    text = " ".join(EN.design(content))
    assert "This is look 1 of 3, held to a two-sided level of 1.10%" in text
    assert "The time limit (--hours) ended the study here." in text
    assert "The next look, at 5 seeds, needs about 0.7 more hours on this machine; the interval of cwd would" in text
    assert all(re.search("[가-힣]", line) for line in KO.design(content))
    settled = designed(3, stopped="settled")
    assert EN.design(settled)[-1] == "The study stopped here because every comparison that it was made for is settled."
    fixed = {"seeds": "fixed", "stopped": "fixed"}
    assert EN.design(designed(5, **fixed, look=2, unplanned=[3, 4])) == [
        "Seeds were added after a first verdict, which was not planned. The verdict is therefore held to the "
        "sequential level of 1.83% in place of 5%."
    ]
    assert EN.design(designed(2, **fixed)) == ["The seeds were fixed in advance: 2 seeds."]
    assert EN.design(comparison()) == [], "an old comparison has none"


def test_nobody_is_told_to_run_more_of_a_control():
    content = comparison(seeds=3)
    entry = content.comparisons[0]
    assert "settle" in EN.sentence(entry)
    assert "settle" not in EN.sentence(structs.replace(entry, arm="pool_placebo"))


def test_generated_scenes_are_named_in_the_first_line():
    content = told(cwd="improves", mgd="improves")
    content.dataset["description"] = "GENERATED scenes"
    assert EN.opening(content).startswith("On generated scenes, which say nothing about real images: Use the teacher")
    assert "생성된 장면" in KO.opening(content)


def test_the_opening_is_one_sentence_and_names_the_other_arms():
    content = comparison(arms=("baseline", "cwd", "mgd", "ultralytics"), seeds=3)
    content.settings = {"student": "models/yolo11n.pt", "start": "neck"}
    content.references["student"] = structs.replace(content.references["student"], ap=None)
    verdicts = zip(content.comparisons, ("improves", "improves", "inconclusive"), strict=True)
    content.comparisons = [structs.replace(one, verdict=verdict) for one, verdict in verdicts]
    assert EN.opening(content) == (
        "Use the teacher: cwd improves yolo11n by +0.6 AP points (95% interval -0.2 to +1.4), with 3 seeds on 400 "
        "images. Other arms: mgd (improves); ultralytics (inconclusive)."
    )
    assert KO.opening(content).startswith("교사를 쓰십시오: cwd 증류는 yolo11n 성능을 높입니다.")
    content.settings["student"] = "runs/yolo11n.v2/weights/last.pt"
    assert "cwd improves yolo11n.v2 by" in EN.opening(content), "a checkpoint of a run has its run's name"


def test_markdown_in_korean_has_no_english_sentence():
    text = markdown(comparison(arms=("baseline", "cwd"), seeds=3, classes=40), KO)
    prose = [line for line in text.splitlines() if line and not line.startswith("|") and ":" not in line]
    assert all(re.search("[가-힣]", line) for line in prose), prose
