"""COCOeval's matches and figures, held against pycocotools itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detections import cocoeval_ap, detections, truth, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coco1k_kd.errors import UserError
from coco1k_kd.verdict.matching import coco_metrics, figures_of


def ours(annotations: Path, predictions: Path) -> np.ndarray:
    """AP by IoU threshold, class and box size."""
    figures = figures_of(annotations, predictions)
    return figures.ap.transpose(1, 2, 0)


def test_each_image_once_is_cocoeval(scene):
    annotations, files = scene
    for path in files.values():
        np.testing.assert_allclose(ours(annotations, path), cocoeval_ap(annotations, path), atol=1e-9, rtol=0)


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
    np.testing.assert_allclose(ours(*paths), cocoeval_ap(*paths), atol=1e-9, rtol=0)


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
