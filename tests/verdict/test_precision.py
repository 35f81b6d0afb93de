"""AP and each image's influence on it, held against COCOeval on copies, finite differences and the bootstrap."""

from __future__ import annotations

import json

import numpy as np
import pytest
from detections import cocoeval_ap, detections, resampled, truth, write

from coco1k_kd.verdict.compare import compare
from coco1k_kd.verdict.matching import figures_of, matched
from coco1k_kd.verdict.precision import curve


def weighted(matches, weights) -> np.ndarray:
    """AP by class, size and resample from weights of images (I, B): (C, A, B)."""
    _, _, rankings = matches
    sizes, thresholds = rankings[0].hit.shape[:2]
    cells = [
        [[curve(r, t, weights, a).mean(axis=0) for t in range(thresholds)] for a in range(sizes)] for r in rankings
    ]
    return np.mean(cells, axis=2)


def test_weights_are_cocoeval_on_copies_of_the_images(scene, tmp_path):
    annotations, files = scene
    content, found = json.loads(annotations.read_bytes()), json.loads(files["poor", 1].read_bytes())
    matches = matched(annotations, files["poor", 1])
    for column in resamples(40, 5, 1).T:
        copies = resampled(content, found, column)
        naive = cocoeval_ap(write(tmp_path, "copied_truth", copies[0]), write(tmp_path, "copied", copies[1]))
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
