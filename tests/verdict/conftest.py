"""What these tests judge."""

from __future__ import annotations

import numpy as np
import pytest
from detections import detections, truth, write


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
