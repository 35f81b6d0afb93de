"""A teacher that the trainings of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from coco1k_kd.runs.train import random_teacher


@pytest.fixture(scope="session")
def teacher_file(subset, once) -> Path:
    """A wider teacher of another family, with random weights and 80 classes: the data have 12."""
    images = sorted((subset / "images" / "train2017").iterdir())[:8]
    return (
        once("wider", lambda folder: random_teacher("yolov8s.yaml", images, 64, 1, folder / "teacher.pt"))
        / "teacher.pt"
    )
