"""TIDE's decomposition, held against tidecv itself."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from detections import detections, truth, write

from coco1k_kd.verdict import precision
from coco1k_kd.verdict.coco import read_detections, read_truth
from coco1k_kd.verdict.errors_by_kind import KINDS, errors_by_kind, losses, losses_of

NAMES = dict(zip(KINDS, ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), strict=True))


def mistaken(annotations, rng):
    """Detections with every kind of error; scores are all different."""
    found = [d for d in detections(annotations, 0.6, rng) if d["category_id"] != 11]
    for box in annotations["annotations"]:
        kind, place = rng.integers(0, 6), np.array(box["bbox"])
        if kind == 0:  # of another class
            found.append({"category_id": int(rng.choice([2, 5, 7])), "bbox": place})
        elif kind == 1:  # beside it
            found.append({"category_id": box["category_id"], "bbox": place + np.array([0.45 * place[2], 0, 0, 0])})
        elif kind == 2:  # twice
            found.append({"category_id": box["category_id"], "bbox": place + np.array([1, 0, 0, 0])})
        elif kind == 3:  # both
            found.append({"category_id": int(rng.choice([2, 5, 7])), "bbox": place + np.array([50, 0, 0, 0])})
        else:
            continue
        found[-1] |= {"image_id": box["image_id"], "score": float(rng.beta(2, 2))}
    return [d | {"bbox": [float(x) for x in d["bbox"]]} for d in found]


@pytest.fixture
def scene(tmp_path):
    rng = np.random.default_rng(2)
    annotations = truth(60, rng)
    annotations["categories"] = annotations["categories"][:3]
    files = [write(tmp_path, f"found{i}", mistaken(annotations, rng)) for i in range(4)]
    return write(tmp_path, "truth", annotations), annotations, files


def test_it_is_tides(scene, monkeypatch):
    tidecv = pytest.importorskip("tidecv")
    path, annotations, files = scene
    monkeypatch.setattr(precision, "RECALLS", np.array([x / 100 for x in range(101)]))  # the last bit differs
    ours = losses(read_truth(path), read_detections(files[0], read_truth(path)))
    gt, found = tidecv.Data("truth"), tidecv.Data("found")
    for image in annotations["images"]:
        gt.add_image(image["id"], image["file_name"])
    for box in annotations["annotations"]:
        add = gt.add_ignore_region if box["iscrowd"] else gt.add_ground_truth
        add(box["image_id"], box["category_id"], box["bbox"])
    for d in json.loads(files[0].read_bytes()):
        found.add_detection(d["image_id"], d["category_id"], d["score"], d["bbox"])
    with contextlib.redirect_stdout(io.StringIO()):
        run = tidecv.TIDE().evaluate(gt, found, mode=tidecv.TIDE.BOX)
        theirs = {kind.short_name: value for kind, value in run.fix_main_errors().items()}
    assert 100 * ours.ap50 == pytest.approx(run.ap, abs=1e-9)
    for kind, lost in zip(KINDS, ours.lost, strict=True):
        assert 100 * lost == pytest.approx(theirs[NAMES[kind]], abs=1e-9), kind
        assert lost > 1e-4, f"{kind}: nothing to compare"


def test_perfect_detections_lose_nothing(scene):
    path, annotations, _ = scene
    found = [
        {"image_id": b["image_id"], "category_id": b["category_id"], "bbox": b["bbox"], "score": 0.9}
        for b in annotations["annotations"]
        if not b["iscrowd"]
    ]
    perfect = losses_of(path, write(path.parent, "perfect", found))
    assert perfect.ap50 == pytest.approx(1) and perfect.lost == pytest.approx(np.zeros(6), abs=1e-12)
    nothing = losses_of(path, write(path.parent, "nothing", []))
    assert nothing.ap50 == 0 and nothing.lost == pytest.approx(np.zeros(6))


def test_arms_are_paired_over_images_and_runs(scene):
    path, _, files = scene
    ours, theirs = ({(0, seed): files[2 * seed + side] for seed in range(2)} for side in (0, 1))
    kinds = errors_by_kind(path, ours, theirs)
    assert tuple(kinds) == KINDS
    for number, kind in enumerate(kinds.values()):
        lost = [np.mean([losses_of(path, file).lost[number] for file in side.values()]) for side in (ours, theirs)]
        assert (kind.arm.mean, kind.against.mean) == pytest.approx(lost)
        assert kind.difference.mean == pytest.approx(lost[0] - lost[1])
        assert kind.difference.ci95[0] < kind.difference.mean < kind.difference.ci95[1]
        apart = errors_by_kind(path, ours, theirs, level=0.3)[KINDS[number]].difference
        assert apart.ci == pytest.approx(apart.ci95), "at 30%, shared by six kinds, each is at 5%"
        assert kind.difference.ci[0] < kind.difference.ci95[0], "they hold all at once"
    same = errors_by_kind(path, ours, ours)["missed"].difference
    assert same.mean == 0 and same.ci95 == (0, 0)
