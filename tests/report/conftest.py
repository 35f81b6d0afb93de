"""A study whose report can show pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from comparisons import change, comparison
from detections import detections, truth, write
from PIL import Image

from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import Comparison, Judged
from coco1k_kd.verdict.compare import compare


@pytest.fixture
def study(tmp_path: Path) -> Comparison:
    """A comparison with the files that a study leaves: annotations, images and predictions of two arms."""
    rng = np.random.default_rng(0)
    annotations = truth(40, rng)
    images = tmp_path / "images" / "folder"
    images.mkdir(parents=True)
    for image in annotations["images"]:
        image["file_name"] = f"folder/{image['id']}.jpg"
        Image.new("RGB", (image["width"], image["height"]), (90, 120, 60)).save(images / f"{image['id']}.jpg")
    path = write(tmp_path, "truth", annotations)
    content = comparison()
    content.judged_by = Judged(str(path), str(tmp_path / "images"), sha256(path))
    files: dict[str, dict] = {}
    for arm, skill in (("baseline", 0.4), ("cwd", 0.9)):
        for run in content.arms[arm].runs:
            folder = tmp_path / f"{arm}{run.seed}"
            folder.mkdir()
            file = write(folder, "predictions_best", detections(annotations, skill, rng))
            run.predictions = str(file)
            files.setdefault(arm, {})[run.draw, run.seed] = file
    entry = compare(path, files["cwd"], files["baseline"])
    change(content, per_run=entry.per_run, d_ap=entry.d_ap)
    return content
