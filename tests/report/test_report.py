from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import matplotlib
import msgspec
import numpy as np
import pytest
from detections import detections, truth, write
from matplotlib import get_data_path
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.image import imread
from matplotlib.text import Text
from msgspec import structs

import coco1k_kd.study.arms
import coco1k_kd.study.collect
from coco1k_kd.errors import UserError
from coco1k_kd.report import fonts
from coco1k_kd.report.comparison import (
    Arm,
    Audit,
    Comparison,
    Failure,
    OwnFigures,
    Reference,
    Run,
    read_comparison,
)
from coco1k_kd.report.headline import answer
from coco1k_kd.report.markdown import accuracy, markdown
from coco1k_kd.report.picture import draw, figure
from coco1k_kd.report.plots import STYLE, Plots
from coco1k_kd.report.words import Words
from coco1k_kd.report.write import write_report
from coco1k_kd.study.study import report_only
from coco1k_kd.verdict.compare import compare
from coco1k_kd.verdict.entry import Components, Entry, Last, RunDifference, Variance
from coco1k_kd.verdict.intervals import Estimate, corrected, needed, verdict

EN = Words()
STAMP = "20260101_000000"
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "comparison.schema.json").read_text())


def valid(comparison):
    jsonschema.validate(msgspec.json.decode(msgspec.json.encode(comparison)), SCHEMA)
    return comparison


def run(draw, seed, ap, distilled):
    epochs = list(range(1, 11))
    curves = {"epoch": epochs, "ap": [ap * e / 10 for e in epochs]}
    return Run(
        draw=draw,
        seed=seed,
        dir=f"runs/{seed}",
        ap=ap,
        ap50=ap + 0.15,
        ap_last=ap - 0.002,
        ap50_last=ap + 0.148,
        ultralytics=OwnFigures(map50=ap + 0.16, map50_95=ap + 0.01),
        train_seconds=600.0 + seed,
        val_seconds=30.0,
        images_per_second=40.0,
        peak_memory_bytes=3 * 2**30,
        effective_batch=16,
        epochs=10,
        batch_hash="b",
        init_hash="i",
        curves=curves | ({"kd_loss": [3 / e for e in epochs]} if distilled else {}),
    )


def comparison(arms=("baseline", "cwd"), seeds=2, classes=12, gain=0.006, images=400, draws=1, last=None):
    """A comparison with made-up figures; every arm but the first is compared with the first."""
    replicates = [(draw, seed) for draw in range(draws) for seed in range(seeds)]
    repeated = len(replicates) > 1
    estimate = Estimate(gain, draws, seeds, images, 2e-6, 1e-6, 9e-6 if repeated else 0.0, 2e-6 if draws > 1 else 0.0)
    of_last = replace(estimate, mean=gain if last is None else last)
    names = [f"a class with quite a long name, number {i}" for i in range(classes)]
    parts = {n: Estimate((i - classes / 2) / 100, 1, seeds, 3 + i, 1e-4) for i, n in enumerate(names)}
    sizes = {n: Estimate(gain, 1, seeds, images, 1e-4) for n in ("small", "medium", "large")}
    (word, reason), (of_last_word, _) = verdict(estimate), verdict(of_last)
    difference, last = estimate.summary(), of_last.summary()
    entry = Entry(
        against=arms[0],
        draws=list(range(draws)),
        seeds=list(range(seeds)),
        images=images,
        replicates=2000,
        d_ap=difference,
        d_ap50=difference,
        per_run=[RunDifference(d, s, gain) for d, s in replicates],
        mde=estimate.mde(),
        verdict=word,
        reason=reason,
        needed=needed(estimate) if word == "inconclusive" else None,
        per_class=corrected(parts),
        per_size=corrected(sizes),
        last=Last(last, last, of_last.mde(), of_last_word),
    )
    return Comparison(
        command="test_coco1k_kd.py --epochs 10",
        versions={"python": "3.11.7", "ultralytics": "8.4.190"},
        git=None,
        hardware={"device": "cpu", "cores": 2},
        dataset={"manifest_sha256": "0" * 64, "train_images": 1500, "val_images": 400},
        arms={
            arm: Arm(
                runs=[run(d, s, 0.3 + gain * (i > 0) + 0.002 * s + 0.004 * d, i > 0) for d, s in replicates],
                mean={"ap": 0.3, "ap50": 0.45},
                std={"ap": None, "ap50": None},
            )
            for i, arm in enumerate(arms)
        },
        references={"student": Reference(ap=0.308, ap50=0.449), "teacher": Reference(ap=None, ap50=None)},
        comparisons=[structs.replace(entry, arm=arm) for arm in arms[1:]],
        audit=Audit(passed=True),
        controls=None,
    )


def change(content, **changes):
    """Another first entry in a comparison."""
    content.comparisons[0] = structs.replace(content.comparisons[0], **changes)


MANY = ("baseline", "cwd", "mgd", "ultralytics", "baseline_same_time", "random_teacher", "a_seventh", "an_eighth")
SEARCH = ("baseline", "cwd", *(f"cwd:weight={weight}:schedule=constant" for weight in range(10, 20)))
SHAPES = [
    {},
    {"seeds": 1},
    {"seeds": 1, "arms": ("baseline",)},
    {"arms": MANY, "seeds": 3, "classes": 80},
    {"classes": 1, "gain": 0.0, "images": 4},
    {"draws": 2, "last": 0.0},
    {"draws": 2, "seeds": 1},
    {"arms": SEARCH},
    {"arms": ("baseline", "cwd", "mgd", "baseline_same_time"), "seeds": 3},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_and_told(shape, tmp_path):
    content = valid(comparison(**shape))
    paths = write_report(content, tmp_path, "20260101_000000")
    assert [p.name for p in paths] == [
        "comparison_20260101_000000.json",
        "comparison_20260101_000000.md",
        "kd_comparison_20260101_000000.png",
        "report_20260101_000000.html",
    ]
    assert read_comparison(paths[0]) == content
    pixels = imread(paths[2])
    assert pixels.shape[1] == 1200 and pixels[..., :3].std() > 0.05, "1,200 wide and not blank"
    assert paths[1].read_text() == markdown(content, EN)
    assert sorted(tmp_path.iterdir()) == sorted(paths), "nothing else is left behind"


@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_is_cut_off_or_collides_with_its_neighbour(shape):
    drawing = figure(comparison(**shape), EN)
    drawing.draw_without_rendering()
    width, height = drawing.bbox.size
    assert max(text.get_window_extent().x1 for text in drawing.texts) <= width + 1, "the headline or the caption"
    for axes in drawing.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, axes.get_title("left")
        rows = [t.get_window_extent() for t in axes.get_yticklabels() if t.get_text()]
        columns = [
            t.get_window_extent() for t in axes.get_xticklabels() if t.get_text() and t.get_rotation() in (0, 90)
        ]
        for labels in (rows, columns):
            assert not any(a.overlaps(b) for a, b in pairwise(labels)), axes.get_title("left")
    assert drawing.get_suptitle() and all(axes.get_title("left") for axes in drawing.axes)


def drawn(method, content, words=EN):
    """The axes of one plot."""
    axes = Figure().subplots()
    getattr(Plots(content, words), method)(axes)
    return axes


def test_a_colour_by_box_size_tells_one_difference():
    content = comparison(arms=("baseline", "cwd", "mgd", "ultralytics"))
    content.comparisons.append(structs.replace(content.comparisons[0], against="ultralytics"))
    assert len(drawn("sizes", content).containers) == 3 * 3, "three arms, three sizes"


def test_a_search_of_many_settings_can_be_read():
    drawing = figure(comparison(arms=SEARCH), EN)
    assert drawing.get_suptitle().count("\n") == 8 and drawing.get_suptitle().endswith("and 5 more")
    rows = [label.get_text() for label in drawing.axes[0].get_yticklabels()]
    assert len(set(rows)) == len(SEARCH) - 1, "what tells arms apart is shown"
    marks = {(line.get_color(), line.get_marker()) for line in drawing.axes[2].lines}
    assert len(marks) == len(SEARCH), "a mark for each arm"


def test_plots_have_their_marks():
    content = comparison(classes=80)
    axes = Figure().subplots()
    Plots(content, EN).classes(axes, content.comparisons[0], 10)
    assert len(axes.get_yticks()) == 20
    differences = drawn("differences", content)
    band = differences.patches[0].get_extents().transformed(differences.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-0.3, 0.3))
    labels = [t.get_text() for t in drawn("per_seed", content).texts]
    assert "student 30.8" in labels and not any("teacher" in label for label in labels)


def test_curves_over_orders_of_magnitude_have_plain_numbers():
    content = comparison()
    for scale, arm in zip((1.0, 0.001), content.arms.values(), strict=True):
        for run in arm.runs:
            run.curves |= {key: [scale * v for v in (7.0, 3.0, 2.0)] for key in ("ap", "kd_loss")}
            run.curves["epoch"] = [1, 2, 3]
    for key, kind in (("ap", "linear"), ("kd_loss", "log")):
        drawing = Figure()
        axes = drawing.subplots()
        with matplotlib.rc_context(STYLE):
            Plots(content, EN).curve(axes, key)
        drawing.draw_without_rendering()
        told = [tick.get_text() for tick in axes.get_yticklabels(which="both") if tick.get_text()]
        assert axes.get_yscale() == kind
        assert np.isfinite([float(text.replace("−", "-")) for text in told]).all() and len(told) > 2, told


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


def test_what_cannot_be_drawn_leaves_no_file(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"comparisons": [], "arms": {}, "references": {}}')
    with pytest.raises(UserError, match=r"some.json is not a comparison of this program"):
        report_only(path)
    assert list(tmp_path.iterdir()) == [path]


def named(letters: str) -> Comparison:
    """A comparison on data of this name."""
    content = comparison()
    content.dataset["description"] = letters
    return content


def test_letters_come_from_any_installed_font():
    usual, other = (
        FT2Font(f"{get_data_path()}/fonts/ttf/{name}").get_charmap() for name in ("DejaVuSans.ttf", "STIXGeneral.ttf")
    )
    rare = next(chr(code) for code in sorted(other.keys() - usual.keys()) if chr(code).isprintable())
    drawn = figure(named(f"class {rare}"), EN)
    assert "Boxes stand for" not in drawn.get_supxlabel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn.savefig(io.BytesIO())


def test_letters_that_no_font_has_are_said_to_be_boxes(monkeypatch, recwarn):
    usual = [font for font in fontManager.ttflist if font.name == "DejaVu Sans" or font.name.startswith("Last Resort")]
    monkeypatch.setattr(fontManager, "ttflist", usual)
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    content = named("한국어")
    assert "one seed" in figure(comparison(seeds=1), Words("ko")).axes[1].get_title("left"), "English, not boxes"
    assert "Boxes stand for letters that no font" in figure(content, EN).get_supxlabel()
    assert "Boxes" not in figure(comparison(), EN).get_supxlabel()
    draw(content, EN)
    assert not [str(warning.message) for warning in recwarn]


@pytest.mark.parametrize("alike", [(0, 1), (), (0,)])
def test_a_real_comparison_has_the_last_epoch_beside_the_best(tmp_path, monkeypatch, alike):
    """`alike`: seeds whose best epoch is the last."""
    same = alike == (0, 1)
    rng = np.random.default_rng(0)
    annotations = truth(30, rng)
    path = write(tmp_path, "truth", annotations)
    replicates = [(0, 0), (0, 1)]
    for arm, skill in (("cwd", 0.9), ("baseline", 0.4)):
        for _, seed in replicates:
            folder = tmp_path / f"{arm}{seed}"
            folder.mkdir()
            best = detections(annotations, skill, rng)
            write(folder, "predictions_best", best)
            write(folder, "predictions_last", best if seed in alike else detections(annotations, skill / 2, rng))
    evaluator = SimpleNamespace(
        truth=path,
        study=SimpleNamespace(settings=SimpleNamespace(groups=None), overlap=lambda draws: 0.0),
        judge=None,
        predictions=lambda key, epoch: tmp_path / f"{key[0]}{key[1][1]}" / f"predictions_{epoch}.json",
    )
    pair = tuple(map(coco1k_kd.study.arms.read_arm, ("cwd", "baseline")))
    runs = [(arm, r) for arm in pair for r in replicates]
    calls = []

    def counted(*args, **kwargs):
        calls.append(kwargs["in_parts"])
        return compare(*args, **kwargs)

    monkeypatch.setattr(coco1k_kd.study.comparing, "compare", counted)
    entry = coco1k_kd.study.comparing._compared(pair, runs, evaluator)
    assert calls == ([True] if same else [True, False]), "nothing is computed twice"
    sides = ({r: evaluator.predictions((arm, r), "last") for r in replicates} for arm in pair)
    own = compare(path, *sides)
    assert entry.last == Last(own.d_ap, own.d_ap50, own.mde, own.verdict)
    assert (entry.last.d_ap == entry.d_ap) is same
    content = comparison()
    content.comparisons = [entry]
    draw(valid(content), EN)
    assert "cwd against baseline" in markdown(content, EN)


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
