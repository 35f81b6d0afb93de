from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from detections import detections, truth, write
from matplotlib import get_data_path
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.image import imread

import coco1k_kd.study.collect
from coco1k_kd.errors import UserError
from coco1k_kd.report import markdown
from coco1k_kd.report.picture import figure
from coco1k_kd.report.words import sources
from coco1k_kd.study.study import report_only
from coco1k_kd.verdict import matching
from coco1k_kd.verdict.compare import compare
from coco1k_kd.verdict.intervals import Estimate, corrected, judge, verdict

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "comparison.schema.json").read_text())


def valid(comparison):
    jsonschema.validate(comparison, SCHEMA)
    return comparison


def run(draw, seed, ap, distilled):
    epochs = list(range(1, 11))
    curves = {"epoch": epochs, "ap": [ap * e / 10 for e in epochs]}
    return {
        "draw": draw,
        "seed": seed,
        "dir": f"runs/{seed}",
        **{"ap": ap, "ap50": ap + 0.15, "ap_last": ap - 0.002, "ap50_last": ap + 0.148},
        "ultralytics": {"map50": ap + 0.16, "map50_95": ap + 0.01},
        **{
            "train_seconds": 600.0 + seed,
            "val_seconds": 30.0,
            "images_per_second": 40.0,
            "peak_memory_bytes": 3 * 2**30,
        },
        **{"effective_batch": 16, "epochs": 10, "batch_hash": "b", "init_hash": "i"},
        "curves": curves | ({"kd_loss": [3 / e for e in epochs]} if distilled else {}),
    }


def comparison(arms=("baseline", "cwd"), seeds=2, classes=12, gain=0.006, images=400, draws=1, last=None):
    """A comparison with made-up figures; every arm but the first is compared with the first."""
    replicates = [(draw, seed) for draw in range(draws) for seed in range(seeds)]
    repeated = len(replicates) > 1
    estimate = Estimate(gain, draws, seeds, images, 2e-6, 1e-6, 9e-6 if repeated else 0.0, 2e-6 if draws > 1 else 0.0)
    of_last = replace(estimate, mean=gain if last is None else last)
    names = [f"a class with quite a long name, number {i}" for i in range(classes)]
    parts = {n: Estimate((i - classes / 2) / 100, 1, seeds, 3 + i, 1e-4) for i, n in enumerate(names)}
    sizes = {n: Estimate(gain, 1, seeds, images, 1e-4) for n in ("small", "medium", "large")}
    entry = {
        **{"draws": list(range(draws)), "seeds": list(range(seeds)), "images": images, "replicates": 2000},
        **{name: estimate.summary() | {"p_images": 0.1} for name in ("d_ap", "d_ap50")},
        **{
            "per_run": [{"draw": d, "seed": s, "d_ap": gain} for d, s in replicates],
            "mde": estimate.mde,
            **judge(estimate),
        },
        **{"per_class": corrected(parts), "per_size": corrected(sizes)},
        "last": {
            **{name: of_last.summary() for name in ("d_ap", "d_ap50")},
            **{"mde": of_last.mde, "verdict": verdict(of_last)},
        },
    }
    return {
        "schema_version": 1,
        "command": "test_coco1k_kd.py --epochs 10",
        "versions": {"python": "3.11.7", "ultralytics": "8.4.190"},
        "git": None,
        "hardware": {"device": "cpu", "cores": 2},
        "dataset": {"manifest_sha256": "0" * 64, "train_images": 1500, "val_images": 400},
        "arms": {
            arm: {
                "runs": [run(d, s, 0.3 + gain * (i > 0) + 0.002 * s + 0.004 * d, i > 0) for d, s in replicates],
                "mean": {"ap": 0.3, "ap50": 0.45},
                "std": {"ap": None, "ap50": None},
            }
            for i, arm in enumerate(arms)
        },
        "references": {"student": {"ap": 0.308, "ap50": 0.449}, "teacher": {"ap": None, "ap50": None}},
        "comparisons": [{"arm": arm, "against": arms[0], **entry} for arm in arms[1:]],
        "audit": {"passed": True},
        "controls": None,
    }


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
    paths = markdown.write_report(content, tmp_path, "20260101_000000")
    assert [p.name for p in paths] == [
        "comparison_20260101_000000.json",
        "kd_comparison_20260101_000000.png",
        "comparison_20260101_000000.md",
    ]
    assert json.loads(paths[0].read_text()) == content
    pixels = imread(paths[1])
    assert pixels.shape[1] == 1200 and pixels[..., :3].std() > 0.05, "1,200 wide and not blank"
    assert paths[2].read_text() == markdown.markdown(content)
    assert len(list(tmp_path.iterdir())) == 3, "nothing else is left behind"


@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_is_cut_off_or_collides_with_its_neighbour(shape):
    drawing = figure(comparison(**shape))
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


def test_a_colour_by_box_size_tells_one_difference():
    content = comparison(arms=("baseline", "cwd", "mgd", "ultralytics"))
    content["comparisons"].append(content["comparisons"][0] | {"against": "ultralytics"})
    (sizes,) = (a for a in figure(content).axes if a.get_title("left").startswith("Against baseline, by box size"))
    assert len(sizes.containers) == 3 * 3, "three arms, three sizes"


def test_a_search_of_many_settings_can_be_read():
    drawing = figure(comparison(arms=SEARCH))
    assert drawing.get_suptitle().count("\n") == 8 and drawing.get_suptitle().endswith("and 3 more")
    (curves,) = (a for a in drawing.axes if a.get_title("left").startswith("AP over epochs"))
    marks = {(line.get_color(), line.get_marker()) for line in curves.lines}
    assert len(marks) == len(SEARCH), "a mark for each arm"


def test_panels_have_their_marks():
    axes = {a.get_title("left"): a for a in figure(comparison(classes=80)).axes}
    assert len(axes["cwd against baseline: best and worst ten classes"].get_yticks()) == 20
    band = (
        axes["Difference in AP, 95% interval"]
        .patches[0]
        .get_extents()
        .transformed(axes["Difference in AP, 95% interval"].transData.inverted())
    )
    assert (band.x0, band.x1) == pytest.approx((-0.3, 0.3))
    labels = [t.get_text() for t in axes["AP of every seed, mean as a line"].texts]
    assert "student 30.8" in labels and not any("teacher" in label for label in labels)


def test_markdown_says_the_verdict_first_and_the_figures_in_points():
    content = comparison(classes=80)
    text = markdown.markdown(content)
    sentence = content["comparisons"][0]["sentence"]
    assert text.splitlines()[2] == f"- **cwd against baseline**: {sentence}"
    for part in ("+0.6", "30.8", "30.1 ± 0.1", "30.7 ± 0.1", "10.0 ± 0.0", "3.00 ± 0.00", "ultralytics 8.4.190"):
        assert part in text, part
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables if "ΔAP50" in line or "cwd against" in line}) == 1
    assert "None" not in text and "nan" not in text


def test_all_of_val2017_is_told_and_drawn_beside_the_subset():
    content = comparison()
    content["comparisons"][0]["full_val"] = comparison(gain=0.2, images=5000)["comparisons"][0]
    content["arms"]["cwd"]["runs"][0]["full_val"] = {"ap": 0.255}
    text = markdown.markdown(valid(content))
    assert "- **cwd against baseline, all of val2017**: Improves: +20.0" in text and "25.5" in text
    markdown.draw(content)


def test_certain_classes_are_named():
    content = comparison()
    classes = content["comparisons"][0]["per_class"]
    for row in classes.values():
        row["p_holm"] = 1.0
    assert "No class differs with certainty, corrected for 12 looks (Holm)." in markdown.markdown(content)
    name = list(classes)[-1]
    classes[name]["p_holm"] = 0.001
    assert f"Certain, corrected for 12 looks (Holm): {name} (+5.0)." in markdown.markdown(content)


def test_what_cannot_be_drawn_leaves_no_file(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"comparisons": [], "arms": {}, "references": {}}')
    with pytest.raises(UserError, match=r"some.json is not a comparison of this program"):
        report_only(path)
    assert list(tmp_path.iterdir()) == [path]


def named(letters: str) -> dict[str, object]:
    """A comparison whose first class has another name."""
    content = comparison()
    classes = content["comparisons"][0]["per_class"]
    content["comparisons"][0]["per_class"] = {letters: classes.pop(next(iter(classes))), **classes}
    return content


def test_letters_come_from_any_installed_font():
    usual, other = (
        FT2Font(f"{get_data_path()}/fonts/ttf/{name}").get_charmap() for name in ("DejaVuSans.ttf", "STIXGeneral.ttf")
    )
    rare = next(chr(code) for code in sorted(other.keys() - usual.keys()) if chr(code).isprintable())
    drawn = figure(named(f"class {rare}"))
    assert "Boxes stand for" not in drawn.get_supxlabel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn.savefig(io.BytesIO())


def test_letters_that_no_font_has_are_said_to_be_boxes(monkeypatch, recwarn):
    usual = [font for font in fontManager.ttflist if font.name == "DejaVu Sans" or font.name.startswith("Last Resort")]
    monkeypatch.setattr(fontManager, "ttflist", usual)
    content = named("한국어")
    assert "Boxes stand for letters that no font" in figure(content).get_supxlabel()
    assert "Boxes" not in figure(comparison()).get_supxlabel()
    markdown.draw(content)
    assert not [str(warning.message) for warning in recwarn]


@pytest.mark.parametrize("same", [True, False])
def test_a_real_comparison_has_the_last_epoch_beside_the_best(tmp_path, monkeypatch, same):
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
            write(folder, "predictions_last", best if same else detections(annotations, skill / 2, rng))
    study = SimpleNamespace(
        data=SimpleNamespace(val=SimpleNamespace(annotations=path)),
        replicates=replicates,
        predictions=lambda key, epoch: tmp_path / f"{key[0]}{key[1][1]}" / f"predictions_{epoch}.json",
        full_val=None,
    )
    calls = []

    def counted(*args, **kwargs):
        calls.append(kwargs)
        return compare(*args, **kwargs, replicates=50)

    monkeypatch.setattr(coco1k_kd.study.collect, "compare", counted)
    monkeypatch.setattr(matching, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr(matching, "ProcessPoolExecutor", None)  # the whole report's are handed down, no more are begun
    entry = coco1k_kd.study.collect._compared(study, "cwd", "baseline", {}, map)
    whole = {"each": map}
    assert calls == ([whole] if same else [whole, whole | {"in_parts": False}]), "nothing is computed twice"
    sides = ({r: study.predictions((arm, r), "last") for r in replicates} for arm in ("cwd", "baseline"))
    own = compare(path, *sides, replicates=50)
    for key in ("mean", "ci95", "p", "variance"):
        assert entry["last"]["d_ap"][key] == own["d_ap"][key] and entry["last"]["d_ap50"][key] == own["d_ap50"][key]
    assert (entry["last"]["mde"], entry["last"]["verdict"]) == (own["mde"], own["verdict"])
    assert (entry["last"]["d_ap"] == entry["d_ap"]) is same
    content = comparison()
    content["comparisons"] = [entry]
    markdown.draw(valid(content))
    assert entry["sentence"] in markdown.markdown(content)


def test_a_last_epoch_that_says_otherwise_is_told():
    agreed = markdown.markdown(comparison(seeds=3))
    assert "says otherwise" not in agreed
    content = comparison(seeds=3, gain=0.02, last=0.0)
    text = markdown.markdown(content)
    assert content["comparisons"][0]["verdict"] == "improves"
    assert "**The last epoch says otherwise: inconclusive, +0.0 (" in text.splitlines()[2]
    assert "\n    but by the last epoch: inconclusive, +0.0 (" in figure(content).get_suptitle()


@pytest.mark.parametrize(
    ("ap", "student", "told"),
    [
        (0.3, 0.308, "- **The student as given has 30.8 AP**, more than any arm"),
        (0.3, 0.299, ""),
        (0.004, 0.308, "- **Little was learned**: no arm reaches 1 AP"),
    ],
)
def test_a_comparison_of_what_is_worse_than_nothing_says_so(ap, student, told):
    content = comparison()
    content["references"]["student"]["ap"] = student
    for arm in content["arms"].values():
        arm["mean"]["ap"] = ap
    line = markdown.markdown(content).splitlines()[3]
    assert line.startswith(told) if told else line == ""


def test_where_the_variance_comes_from_is_told():
    content = comparison()
    content["comparisons"][0]["d_ap"]["variance"] = {"seed": 7e-6, "draw": None, "image": 3e-6}
    assert "- cwd against baseline: 70% from seeds, 30% from images\n" in markdown.markdown(content)
    drawn = {text.get_text() for axes in figure(content).axes for text in axes.texts}
    assert "70% from seeds, 30% from images" in drawn
    assert sources({"seed": None, "draw": None, "image": 0.1}) == "100% from images, of seeds nothing is known"
    assert sources({"seed": None, "draw": 3.0, "image": 1.0}) == "75% from draws and their seeds, 25% from images"
    assert sources({"seed": 1.0, "draw": 2.0, "image": 1.0}) == "25% from seeds, 50% from draws, 25% from images"
    assert sources({"seed": 0.0, "draw": None, "image": 0.0}) == ""


def test_draws_and_runs_at_once_are_told():
    content = comparison(draws=2)
    plain = markdown.markdown(content) + figure(content).get_supxlabel()
    assert "under way at once" not in plain and "standard deviation over 2 draws of 2 seeds" in plain
    assert "400 validation images, 2 draws of 2 seeds (0, 1)" in plain
    titles = {axes.get_title("left"): axes for axes in figure(content | {"at_once": 3}).axes}
    assert "AP of every run, mean as a line" in titles
    assert "up to 3 runs at once" in titles["Training time, validation not counted"].get_xlabel()
    assert "Up to 3 runs were under way at once" in markdown.markdown(content | {"at_once": 3})
