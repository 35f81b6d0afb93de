"""Everything here is held against pycocotools' COCOeval itself."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from detections import detections, resampled, truth, write
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco1k_kd.data.groups import Groups
from coco1k_kd.errors import UserError
from coco1k_kd.verdict.compare import compare, compare_figures, decide
from coco1k_kd.verdict.entry import Needed
from coco1k_kd.verdict.matching import Figures, coco_metrics, figures_of, matched
from coco1k_kd.verdict.precision import curve


@pytest.fixture
def scene(tmp_path):
    """Annotations, and predictions of two arms with three seeds each."""
    rng = np.random.default_rng(0)
    annotations = truth(40, rng)
    files = {
        (arm, seed): write(tmp_path, f"{arm}{seed}", detections(annotations, skill, rng))
        for arm, skill in (("good", 0.95), ("poor", 0.3))
        for seed in range(3)
    }
    return write(tmp_path, "truth", annotations), files


def arm(files, name):
    return {(0, seed): path for (a, seed), path in files.items() if a == name}


def precision(annotations: Path, predictions: Path) -> np.ndarray:
    """COCOeval's own AP by IoU threshold, class and box size: (10, 4, 4), NaN where there is no box."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
        evaluation = COCOeval(coco, coco.loadRes(str(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    raw = evaluation.eval["precision"][..., -1]
    return np.where(raw[:, 0] < 0, np.nan, raw.mean(axis=1))


def ours(annotations: Path, predictions: Path) -> np.ndarray:
    """The same from ours."""
    figures = figures_of(annotations, predictions)
    return figures.ap.transpose(1, 2, 0)


def weighted(matches, weights) -> np.ndarray:
    """AP by class, size and resample from weights of images (I, B): (C, A, B)."""
    _, _, rankings = matches
    sizes, thresholds = rankings[0].hit.shape[:2]
    cells = [
        [[curve(r, t, weights, a).mean(axis=0) for t in range(thresholds)] for a in range(sizes)] for r in rankings
    ]
    return np.mean(cells, axis=2)


def without(key):
    return lambda box: box.pop(key)


@pytest.mark.parametrize(
    "change",
    [
        without("area"),
        without("iscrowd"),
        lambda box: box.update(area=None, iscrowd=None),
        lambda box: box.update(area=-1),
        lambda box: box.update(area=0),
        lambda box: box.update(area=1e12),
        lambda box: box.update(area="7"),
        lambda box: box.update(id=box["id"] - 1),
    ],
)
def test_perfect_detections_have_ap_1_whatever_the_annotations_leave_out(scene, tmp_path, change):
    content = json.loads(scene[0].read_bytes())
    content["annotations"] = [box for box in content["annotations"] if not box.get("iscrowd")]
    for number, box in enumerate(content["annotations"], 1):
        box["id"] = number
        change(box)
    detections = [
        {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": box["bbox"], "score": 0.9}
        for box in content["annotations"]
    ]
    metrics = coco_metrics(write(tmp_path, "truth", content), write(tmp_path, "found", detections))
    assert metrics["ap"] == pytest.approx(1)
    half = detections[::2]
    assert coco_metrics(tmp_path / "truth.json", write(tmp_path, "half", half))["ap"] < 0.9


def test_metrics_are_cocoevals_stats(scene):
    annotations, files = scene
    metrics, own = coco_metrics(annotations, files["good", 0]), precision(annotations, files["good", 0])
    assert metrics["ap"] == pytest.approx(np.nanmean(own[..., 0]), abs=1e-9)
    assert metrics["ap50"] == pytest.approx(np.nanmean(own[0, :, 0]), abs=1e-9)
    assert metrics["ap75"] == pytest.approx(np.nanmean(own[5, :, 0]), abs=1e-9)
    for area, size in enumerate(("small", "medium", "large"), 1):
        assert metrics[f"ap_{size}"] == pytest.approx(np.nanmean(own[..., area]), abs=1e-9)
    assert coco_metrics(annotations, files["good", 0], (1,))["ap"] == pytest.approx(np.nanmean(own[:, 1, 0]), abs=1e-9)
    assert 0.2 < metrics["ap"] < metrics["ap50"] < 1


def test_a_group_shows_what_one_of_its_images_shows(scene):
    figures = figures_of(scene[0], scene[1]["good", 0])
    groups = Groups("", np.arange(figures.images) // 4, 0, (None,) * figures.images)
    shown = figures.shown.reshape(*figures.shown.shape[:2], -1, 4)
    alone = shown.sum(axis=-1) == 1
    assert alone.any() and (figures.by_group(groups).shown == shown.any(axis=-1)).all()


def test_each_image_once_is_cocoeval(scene):
    annotations, files = scene
    for path in files.values():
        np.testing.assert_allclose(ours(annotations, path), precision(annotations, path), atol=1e-9, rtol=0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), coarse=st.booleans(), copies=st.sampled_from([1, 2, 25]))
@example(seed=14228, coarse=True, copies=1)
def test_ties_crowds_and_more_than_100_boxes_are_matched_as_cocoeval_matches_them(
    tmp_path_factory, seed, coarse, copies
):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("ties")
    annotations = truth(12, rng)
    found = detections(annotations, 0.8, rng)
    if coarse:  # equal scores and equal overlaps
        for item in [*found, *annotations["annotations"]]:
            item["bbox"] = [20.0 * round(x / 20) for x in item["bbox"]]
            item["score"] = round(item.get("score", 0), 1)
        # Of two boxes that are one and the same the truth has one, as training has; COCOeval counts both.
        places = {(box["image_id"], box["category_id"], *box["bbox"]): box for box in annotations["annotations"]}
        annotations["annotations"] = list(places.values())
    found = [item | {"score": item["score"] / copy} for copy in range(1, copies + 1) for item in found]
    paths = write(folder, "truth", annotations), write(folder, "found", found)
    np.testing.assert_allclose(ours(*paths), precision(*paths), atol=1e-9, rtol=0)


def test_weights_are_cocoeval_on_copies_of_the_images(scene, tmp_path):
    annotations, files = scene
    content, found = json.loads(annotations.read_bytes()), json.loads(files["poor", 1].read_bytes())
    matches = matched(annotations, files["poor", 1])
    for column in resamples(40, 5, 1).T:
        copies = resampled(content, found, column)
        naive = precision(write(tmp_path, "copied_truth", copies[0]), write(tmp_path, "copied", copies[1]))
        np.testing.assert_allclose(weighted(matches, column[:, None])[..., 0], naive.mean(axis=0), atol=1e-9, rtol=0)


def resamples(images: int, number: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=number).T.astype(float)


def test_influence_is_the_derivative_of_the_area_under_the_envelope(scene):
    """By finite differences, image by image."""
    annotations, files = scene
    _, _, rankings = matched(annotations, files["poor", 0])
    figures = figures_of(annotations, files["poor", 0])
    compared = 0
    for c, ranking in enumerate(rankings[:3]):
        for a in range(4):
            for i in range(0, 40, 7):
                at = [area(ranking, a, np.ones(40) + step * (np.arange(40) == i)) for step in (-1e-6, 0, 1e-6)]
                left, right = np.diff(at) / 1e-6
                if abs(left - right) < 1e-4:  # no kink
                    assert figures.influence[a, c, i] == pytest.approx(right, abs=1e-4)
                    compared += 1
    assert compared > 40


def area(ranking, size: int, weights: np.ndarray) -> float:
    """Mean over thresholds of the area under the precision envelope."""
    shown, boxes = weights[ranking.image], ranking.boxes[size] @ weights
    areas = []
    for hit, counted in zip(ranking.hit[size], ranking.counted[size], strict=True):
        precision = np.cumsum(shown * hit) / np.maximum(np.cumsum(shown * counted), 1e-9)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        areas.append(np.sum(shown * hit * envelope) / boxes if boxes else 0.0)
    return float(np.mean(areas))


def test_the_influences_variance_is_that_of_resampled_images(tmp_path):
    """The bootstrap, from copies of COCO's rules: 2,000 resamples know a standard error to 1.6%."""
    rng = np.random.default_rng(5)
    annotations = truth(300, rng)
    path = write(tmp_path, "truth", annotations)
    files = [write(tmp_path, name, detections(annotations, skill, rng)) for name, skill in (("a", 0.8), ("b", 0.7))]
    weights = resamples(300, 2000, 0)
    ap = [weighted(matched(path, file), weights)[:3, 0] for file in files]
    entry = compare(path, {(0, 0): files[0]}, {(0, 0): files[1]})
    bootstrap = np.var((ap[0] - ap[1]).mean(axis=0)) * 300 / 299
    assert entry.d_ap.variance.image**0.5 == pytest.approx(bootstrap**0.5, rel=0.08)


def test_comparison_of_clearly_different_arms(scene):
    annotations, files = scene
    entry = compare(annotations, arm(files, "good"), arm(files, "poor"))
    means = [np.mean([coco_metrics(annotations, p)["ap"] for p in arm(files, a).values()]) for a in ("good", "poor")]
    assert entry.d_ap.mean == pytest.approx(means[0] - means[1], abs=1e-9)
    assert entry.verdict == "improves" and entry.d_ap.p < 0.05
    assert entry.seeds == [0, 1, 2] and entry.images == 40 and len(entry.per_run) == 3
    assert set(entry.per_class) == {"class 2", "class 5", "class 7"}, "class 11 has no box to find"
    assert set(entry.per_size) == {"small", "medium", "large"}
    back = compare(annotations, arm(files, "poor"), arm(files, "good"))
    assert back.verdict == "hurts" and back.d_ap.mean == -entry.d_ap.mean


def test_same_input_same_figures(scene):
    annotations, files = scene
    one, two = (compare(annotations, arm(files, "good"), arm(files, "poor")) for _ in range(2))
    assert one == two


def test_equal_predictions_do_not_show_how_much_a_difference_varies(scene):
    annotations, files = scene
    entry = compare(annotations, arm(files, "good"), arm(files, "good"))
    assert entry.d_ap.mean == 0 and entry.d_ap.ci95 == (0, 0) and entry.d_ap.p == 1
    assert (entry.verdict, entry.reason) == ("inconclusive", "no_spread")


def figures_around(ap: float, seed: int) -> Figures:
    """A run of one class on 400 images, whose AP varies little over images and seeds."""
    rng = np.random.default_rng(seed)
    shares = rng.normal(0, 1e-6, (1, 1, 400)).astype(np.float32)
    return Figures(
        ["class"], np.full((1, 1, 1), ap + rng.normal(0, 1e-5)), shares, shares[0], np.ones((1, 1, 400), bool)
    )


@pytest.mark.parametrize(
    ("ap", "expected"), [(0.002, ("inconclusive", "nothing_found")), (0.2, ("no_difference", None))]
)
def test_two_arms_that_find_nothing_are_not_equally_good(ap, expected):
    keys = [(0, seed) for seed in range(3)]
    runs, against = ([figures_around(ap, first + seed) for seed in range(3)] for first in (10, 20))
    found = structs.replace(compare_figures(runs, against, keys, in_parts=False), arm="cwd", against="baseline")
    for entry in (found, *decide([found])):
        assert (entry.verdict, entry.reason) == expected


def test_one_seed_says_nothing_about_the_method(scene):
    annotations, files = scene
    entry = compare(annotations, {(0, 0): files["good", 0]}, {(0, 0): files["poor", 0]})
    assert entry.d_ap.ci95[0] > 0, "the pair of models differs for sure"
    assert (entry.verdict, entry.reason) == ("inconclusive", "one_seed")
    assert entry.d_ap.variance.seed is None
    assert decide([entry])[0].needed == Needed(seeds=3)


def test_an_arm_that_finds_nothing(scene, tmp_path):
    annotations, files = scene
    nothing = write(tmp_path, "nothing", [])
    assert coco_metrics(annotations, nothing)["ap"] == 0
    entry = compare(annotations, {(0, 0): files["good", 0]}, {(0, 0): nothing})
    assert entry.d_ap.mean == pytest.approx(coco_metrics(annotations, files["good", 0])["ap"], abs=1e-9)


def test_a_size_of_which_there_is_no_box_has_no_ap(scene, tmp_path):
    annotations, files = scene
    content = json.loads(annotations.read_bytes())
    content["annotations"] = [box for box in content["annotations"] if box["area"] < 96**2]
    metrics = coco_metrics(write(tmp_path, "no_large", content), files["good", 0])
    assert metrics["ap_large"] is None and metrics["ap_small"] > 0


def test_changed_file_is_read_again(scene):
    annotations, files = scene
    before = figures_of(annotations, files["good", 0])
    assert figures_of(annotations, files["good", 0]) is before
    write(files["good", 0].parent, "good0", [])
    assert np.nanmax(figures_of(annotations, files["good", 0]).ap) == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not valid JSON"),
        ("{}", "no JSON list of detections"),
        ('[{"image_id": 999, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 1}]', "images that"),
        ('[{"image_id": 1, "category_id": 2, "score": 1}]', "not in COCO.s results format"),
        ("[1]", "not in COCO.s results format"),
        ('[{"image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1], "score": "high"}]', "not in COCO.s results format"),
        ('[{"image_id": 1, "category_id": 2, "bbox": [0, 0], "score": 1}]', "not in COCO.s results format"),
    ],
)
def test_bad_predictions_are_one_clear_line(scene, tmp_path, content, says):
    annotations, _ = scene
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match=says) as error:
        coco_metrics(annotations, path)
    assert "\n" not in str(error.value) and "bad.json" in str(error.value)


def test_missing_files_and_seeds_are_named(scene, tmp_path):
    annotations, files = scene
    with pytest.raises(UserError, match=r"cannot read .*gone\.json"):
        coco_metrics(annotations, tmp_path / "gone.json")
    with pytest.raises(UserError, match=r"\(0, 2\)\] and \[\(0, 0\)\]"):
        compare(annotations, arm(files, "good"), {(0, 0): files["poor", 0]})


def test_annotations_without_boxes(scene, tmp_path):
    annotations, files = scene
    empty = write(tmp_path, "empty", json.loads(annotations.read_bytes()) | {"annotations": []})
    with pytest.raises(UserError, match="no boxes"):
        compare(empty, {(0, 0): files["good", 0]}, {(0, 0): files["poor", 0]})
