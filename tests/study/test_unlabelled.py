"""What a study's unlabelled images must not hold: whatever is trained on with labels, chooses an epoch, or judges."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from coco1k_kd.data.given import check, open_data
from coco1k_kd.errors import UserError
from coco1k_kd.study.judge import find_judge
from coco1k_kd.study.unlabelled import check_unlabelled, kept_out


@pytest.fixture
def pool(coco_root: Path, subset: Path, tmp_path: Path) -> Path:
    """Ten images of the source that the subset does not hold."""
    own = {path.name for path in (subset / "images" / "train2017").iterdir()}
    folder = tmp_path / "pool"
    folder.mkdir()
    for path in [path for path in sorted((coco_root / "train2017").iterdir()) if path.name not in own][:10]:
        shutil.copy(path, folder)
    return folder


def test_all_splits_and_what_judges_are_kept_out(coco_root: Path, subset: Path, tmp_path: Path) -> None:
    data = open_data(subset / "coco1k.yaml", tmp_path)
    judge = find_judge("full", data, coco_root)
    found = kept_out([data, data], judge)
    assert {name: len(files) for name, files in found.items()} == {"train": 48, "val": 24, "judge": 60 - 24}
    assert "judge" not in kept_out([data], None)


@pytest.mark.parametrize("split", ["train", "val", "judge"])
def test_check_names_what_leaks(coco_root: Path, subset: Path, pool: Path, capsys, split: str) -> None:
    further = partial(check_unlabelled, pool, judge="full", coco_root=coco_root)
    if split == "judge":
        own = {path.name for path in (subset / "images" / "val2017").iterdir()}
        leak = next(path for path in sorted((coco_root / "val2017").iterdir()) if path.name not in own)
    else:
        leak = min((subset / "images" / f"{split}2017").iterdir())
    with Image.open(leak) as image:
        image.resize((300, 240)).save(pool / "leak.png")
    check(subset / "coco1k.yaml", further)
    said = capsys.readouterr().out
    assert f"note: unlabelled: 10 images of {pool} can be learnt from" in said
    assert f"leak.png is left out: it looks like {leak.name}" in said.replace(f"{leak.parent}/", "")
    shutil.copy(leak, pool / "leak.jpg")
    with pytest.raises(UserError, match=rf"--unlabelled .*: 1 image also in {split} .*leak.jpg"):
        check(subset / "coco1k.yaml", further)
