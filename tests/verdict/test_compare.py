"""Everything here is held against pycocotools' COCOeval itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from detections import detections, resampled, truth, write
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from coco1k_kd.errors import UserError
from coco1k_kd.verdict.compare import compare
from coco1k_kd.verdict.entry import Needed
from coco1k_kd.verdict.matching import SIZES, check_truth, coco_metrics, match
from coco1k_kd.verdict.resampling import (
    _recalls_reached,
    average_precision,
    bootstrap_weights,
    mean_over_classes,
)


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


def counted(matches, weights) -> np.ndarray:
    """The same from ours."""
    by_size = [[average_precision(r, weights)[:, 0] for r in matches.rankings[size]] for size in SIZES]
    return np.moveaxis(np.array(by_size), -1, 0).swapaxes(1, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda box: box.update(iscrowd=1), "are crowd regions"),
        (lambda box: box["bbox"].__setitem__(2, 0), "hold no boxes"),
    ],
)
def test_what_cocoeval_could_not_judge_by_is_said_beforehand(scene, tmp_path, change, says):
    annotations, _ = scene
    check_truth(annotations)
    content = json.loads(annotations.read_bytes())
    for box in content["annotations"]:
        change(box)
    with pytest.raises(UserError, match=says):
        check_truth(write(tmp_path, "changed", content))


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
    assert metrics["ap_small"] == pytest.approx(np.nanmean(own[..., 1]), abs=1e-9)
    assert 0.2 < metrics["ap"] < metrics["ap50"] < 1


def test_each_image_once_is_cocoeval(scene):
    annotations, files = scene
    for path in files.values():
        ours = counted(match(annotations, path), np.ones((40, 1)))
        np.testing.assert_allclose(ours, precision(annotations, path), atol=1e-12, rtol=0)


def test_weights_are_cocoeval_on_copies_of_the_images(scene, tmp_path):
    annotations, files = scene
    content, found = json.loads(annotations.read_bytes()), json.loads(files["poor", 1].read_bytes())
    matches = match(annotations, files["poor", 1])
    for column in bootstrap_weights(40, 5, np.random.default_rng(1)).T:
        copies = resampled(content, found, column)
        naive = precision(write(tmp_path, "copied_truth", copies[0]), write(tmp_path, "copied", copies[1]))
        np.testing.assert_allclose(counted(matches, column[:, None]), naive, atol=1e-9, rtol=0)


def test_a_class_missing_from_a_resample_is_left_out(scene):
    annotations, files = scene
    matches = match(annotations, files["good", 0])
    rare = matches.rankings["all"][2]
    weights = (rare.boxes == 0).astype(float)[:, None]
    assert np.isnan(average_precision(rare, weights)).all()
    means = [average_precision(r, weights).mean(axis=0) for r in matches.rankings["all"]]
    assert mean_over_classes(means)[0] == pytest.approx((means[0][0] + means[1][0]) / 2)


def test_recall_thresholds_are_read_as_searchsorted_reads_them():
    thresholds, boxes = Params("bbox").recThrs, np.arange(1.0, 400)
    table, offset = _recalls_reached(boxes, 400, np.dtype(float))
    for number, start in zip(boxes, offset, strict=True):
        hits = np.arange(number + 1)
        expected = np.searchsorted(thresholds, hits / number, side="right")
        np.testing.assert_array_equal(table[start : start + len(hits)], expected)


def test_interval_agrees_with_cocoeval_on_every_resample(scene, tmp_path):
    """The naive way: COCOeval anew on copied images, with the same resamples."""
    annotations, files = scene
    content = json.loads(annotations.read_bytes())
    replicates = 40
    ours = compare(annotations, {(0, 0): files["good", 0]}, {(0, 0): files["poor", 0]}, replicates, seed=3)
    weights = bootstrap_weights(40, replicates, np.random.default_rng(3))
    naive = []
    for column in weights.T:
        ap = []
        for name in ("good", "poor"):
            copies = resampled(content, json.loads(files[name, 0].read_bytes()), column)
            ap.append(coco_metrics(write(tmp_path, "t", copies[0]), write(tmp_path, "p", copies[1]))["ap"])
        naive.append(ap[0] - ap[1])
    assert ours.d_ap.variance.image == pytest.approx(np.var(naive) * 40 / 39, abs=1e-9)


def test_comparison_of_clearly_different_arms(scene):
    annotations, files = scene
    entry = compare(annotations, arm(files, "good"), arm(files, "poor"), replicates=300)
    means = [np.mean([coco_metrics(annotations, p)["ap"] for p in arm(files, a).values()]) for a in ("good", "poor")]
    assert entry.d_ap.mean == pytest.approx(means[0] - means[1], abs=1e-9)
    assert entry.verdict == "improves" and entry.d_ap.p < 0.05
    assert entry.seeds == [0, 1, 2] and entry.images == 40 and len(entry.per_run) == 3
    assert set(entry.per_class) == {"class 2", "class 5", "class 7"}, "class 11 has no box to find"
    assert set(entry.per_size) == {"small", "medium", "large"}
    back = compare(annotations, arm(files, "poor"), arm(files, "good"), replicates=300)
    assert back.verdict == "hurts" and back.d_ap.mean == -entry.d_ap.mean


def test_same_input_same_figures(scene):
    annotations, files = scene
    one, two = (compare(annotations, arm(files, "good"), arm(files, "poor"), replicates=50, seed=7) for _ in range(2))
    assert one == two


def test_equal_predictions_do_not_show_how_much_a_difference_varies(scene):
    annotations, files = scene
    entry = compare(annotations, arm(files, "good"), arm(files, "good"), replicates=50)
    assert entry.d_ap.mean == 0 and entry.d_ap.ci95 == (0, 0) and entry.d_ap.p == 1
    assert (entry.verdict, entry.reason) == ("inconclusive", "no_spread")


def test_one_seed_says_nothing_about_the_method(scene):
    annotations, files = scene
    entry = compare(annotations, {(0, 0): files["good", 0]}, {(0, 0): files["poor", 0]}, replicates=100)
    assert entry.d_ap.ci95[0] > 0, "the pair of models differs for sure"
    assert (entry.verdict, entry.reason) == ("inconclusive", "one_seed")
    assert entry.d_ap.variance.seed is None
    assert entry.needed == Needed(seeds=3)


def test_an_arm_that_finds_nothing(scene, tmp_path):
    annotations, files = scene
    nothing = write(tmp_path, "nothing", [])
    assert coco_metrics(annotations, nothing)["ap"] == 0
    entry = compare(annotations, {(0, 0): files["good", 0]}, {(0, 0): nothing}, replicates=20)
    assert entry.d_ap.mean == pytest.approx(coco_metrics(annotations, files["good", 0])["ap"], abs=1e-9)


def test_a_size_of_which_there_is_no_box_has_no_ap(scene, tmp_path):
    annotations, files = scene
    content = json.loads(annotations.read_bytes())
    content["annotations"] = [box for box in content["annotations"] if box["area"] < 96**2]
    metrics = coco_metrics(write(tmp_path, "no_large", content), files["good", 0])
    assert metrics["ap_large"] is None and metrics["ap_small"] > 0


def test_changed_file_is_read_again(scene):
    annotations, files = scene
    before = match(annotations, files["good", 0])
    assert match(annotations, files["good", 0]) is before
    write(files["good", 0].parent, "good0", [])
    assert match(annotations, files["good", 0]).rankings["all"][0].score.size == 0


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


IN_PROCESSES = """
import os, time, sys
from pathlib import Path
from coco1k_kd.verdict import matching
from coco1k_kd.errors import run_cli
def main():
    matching._WORTH_PROCESSES, os.cpu_count = 0, lambda: 2
    with matching.processes([]) as each:
        print("begun", flush=True)
        list(each({work}))
if __name__ == "__main__":
    run_cli(main)
"""


def in_processes(folder: Path, work: str) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(IN_PROCESSES.replace("{work}", work))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, str(folder / "program.py")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, env=environment, start_new_session=True)


@pytest.mark.parametrize("moment", [0, 4])
def test_an_interrupt_ends_all_processes_at_once(tmp_path, moment):
    program = in_processes(tmp_path, "time.sleep, [0.1, 0.1, 300, 300]")
    assert program.stdout.readline() == "begun\n"
    time.sleep(moment)  # they start, they work
    os.killpg(program.pid, signal.SIGINT)
    _, said = program.communicate(timeout=60)  # until all that hold the pipes are gone
    assert (program.returncode, said) == (130, "interrupted\n")


def test_a_killed_process_is_told_in_a_line(tmp_path):
    program = in_processes(tmp_path, "os._exit, [9]")
    _, said = program.communicate(timeout=120)
    assert program.returncode == 2 and said.count("\n") == 1 and "memory ran out" in said
