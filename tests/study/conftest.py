"""Images without labels that the studies of this folder share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coco1k_kd.data.dataset import read_data


@pytest.fixture(scope="session")
def unlabelled(coco_root: Path, subset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images that are in no split."""
    folder = tmp_path_factory.mktemp("photos")
    used = {Path(name).name for name in read_data(subset / "coco1k.yaml").train.names}
    for file in [file for file in sorted((coco_root / "train2017").iterdir()) if file.name not in used][:12]:
        shutil.copy(file, folder)
    return folder
