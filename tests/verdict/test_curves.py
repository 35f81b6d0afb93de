"""Curves and each image's share, held against COCOeval and against leaving images out."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from detections import detections, truth, write
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco1k_kd.verdict.compare import compare, influence
from coco1k_kd.verdict.curves import calibration, precision_recall


@pytest.fixture
def scene(tmp_path):
    rng = np.random.default_rng(4)
    annotations = truth(60, rng)
    files = [write(tmp_path, f"found{i}", detections(annotations, skill, rng)) for i, skill in enumerate((0.9, 0.8))]
    return write(tmp_path, "truth", annotations), files


def evaluated(annotations, predictions):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
        evaluation = COCOeval(coco, coco.loadRes(str(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


@pytest.mark.parametrize(("iou", "index"), [(0.5, 0), (0.75, 5)])
def test_precision_is_cocoevals_within_its_band(scene, iou, index):
    annotations, files = scene
    curve = precision_recall(annotations, files, iou, resamples=50)
    precision = np.stack([evaluated(annotations, file).eval["precision"][index, :, :, 0, -1] for file in files])
    precision = precision[..., (precision >= 0).all(axis=(0, 1))]
    np.testing.assert_allclose(curve.precision, precision.mean(axis=(0, 2)), atol=1e-9)
    assert np.all(np.array(curve.low) <= curve.precision) and np.all(np.array(curve.high) >= curve.precision)
    assert np.max(np.subtract(curve.high, curve.low)) > 0.05


def test_the_band_holds_nineteen_of_twenty_resampled_curves(scene):
    annotations, files = scene
    band = precision_recall(annotations, files, resamples=400)
    held = []
    for seed in range(1, 201):
        one = precision_recall(annotations, files, resamples=1, seed=seed)  # its band ends at the one resampled curve
        resampled = np.where(np.array(one.low) < one.precision, one.low, one.high)
        held.append((band.low <= resampled) & (resampled <= band.high))
    assert 0.9 < np.mean(held) < 0.99


def test_calibration_counts_every_detection_once(scene):
    annotations, files = scene
    found = calibration(annotations, files[:1])
    evaluation = evaluated(annotations, files[0])
    matched, ignored, scores = [], [], []
    for result in evaluation.evalImgs:
        if result and result["aRng"] == [0, 1e10]:
            matched += list(result["dtMatches"][0] > 0)
            ignored += list(result["dtIgnore"][0])
            scores += result["dtScores"]
    hit, counted, score = np.array(matched), ~np.array(ignored), np.array(scores)
    assert sum(found.detections) == counted.sum()
    in_bin = counted & (score >= 0.6) & (score < 0.7)
    at = int(np.argmin(np.abs(np.array(found.confidence) - score[in_bin].mean())))
    assert found.precision[at] == pytest.approx(hit[in_bin].mean()) and found.detections[at] == in_bin.sum()
    weights = np.array(found.detections) / sum(found.detections)
    gap = np.abs(np.subtract(found.precision, found.confidence))
    assert found.error == pytest.approx(float(weights @ gap))


def test_an_images_share_is_the_difference_less_that_without_it(scene, tmp_path):
    annotations, files = scene
    ours, theirs = ({(0, 0): file} for file in files)
    shares = influence(annotations, ours, theirs)
    assert (
        len(shares) == 60
        and shares[0].file.endswith(".jpg")
        and sum(s.d_ap for s in shares) == pytest.approx(0, abs=1e-6)
    )
    whole = compare(annotations, ours, theirs).d_ap.mean
    content = json.loads(annotations.read_bytes())
    told, left = [], []
    for share in [*shares[:6], *shares[-6:]]:

        def others(entries, key, gone=share.image_id):
            return [entry for entry in entries if entry[key] != gone]

        rest = content | {
            "images": others(content["images"], "id"),
            "annotations": others(content["annotations"], "image_id"),
        }
        sides = [
            {(0, 0): write(tmp_path, f"rest{i}", others(json.loads(file.read_bytes()), "image_id"))}
            for i, file in enumerate(files)
        ]
        told.append(share.d_ap)
        left.append(whole - compare(write(tmp_path, "rest_truth", rest), *sides).d_ap.mean)
    assert np.corrcoef(told, left)[0, 1] > 0.95 and np.all(np.sign(told) == np.sign(left))
