"""Arms that are compared by what they found, and the word that comes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from detections import write
from msgspec import structs

from coco1k_kd.errors import UserError
from coco1k_kd.verdict.compare import compare, compare_figures, decide
from coco1k_kd.verdict.entry import Needed
from coco1k_kd.verdict.matching import Figures, coco_metrics


def arm(files, name):
    return {(0, seed): path for (a, seed), path in files.items() if a == name}


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
