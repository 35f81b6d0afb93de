"""The pool of a subset: further train images, blind to classes, checked as the rest of the subset is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import create_coco1k
from coco1k_kd.data.annotations import read
from coco1k_kd.data.outside import draw_pool
from coco1k_kd.data.pool import accept_pool
from coco1k_kd.data.verify import verify
from coco1k_kd.errors import UserError

SMALL = ("--target-size", "40", "--val-size", "20", "--workers", "2")


def make(root: Path, output: Path, *flags: str) -> dict:
    command = ["--coco-root", str(root), "--output-dir", str(output), *SMALL, *flags]
    create_coco1k.create(create_coco1k.parser().parse_args(command))
    return json.loads((output / "manifest.json").read_bytes())


@pytest.fixture
def copy(coco_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(coco_root, tmp_path / "coco"))


def test_a_pool_lies_beside_the_subset_and_changes_nothing_of_it(coco_root: Path, tmp_path: Path) -> None:
    without, folder = make(coco_root, tmp_path / "without"), tmp_path / "made"
    manifest = make(coco_root, folder, "--pool", "30")
    pool = manifest.pop("pool")
    assert manifest == without and len(set(pool["image_ids"])) == 30
    assert not set(pool["image_ids"]) & set(manifest["train"]["image_ids"])
    images = sorted((folder / "images" / "pool2017").iterdir())
    assert len(images) == 30 and not (folder / "labels" / "pool2017").exists()
    truth = json.loads((folder / "annotations" / "instances_pool2017.json").read_bytes())
    assert sorted(image["file_name"] for image in truth["images"]) == [image.name for image in images]
    assert verify(folder) == []
    splits = {split: sorted((folder / "images" / f"{split}2017").iterdir()) for split in ("train", "val")}
    accepted = accept_pool(folder / "pool2017", splits)  # what a study makes of it
    assert len(accepted.images) == 30 and accepted.notes() == []
    again = make(coco_root, tmp_path / "again", "--from-manifest", str(folder / "manifest.json"))
    assert again["pool"] == pool
    whole = make(coco_root, folder, "--pool", "rest", "--force")["pool"]
    assert len(whole["image_ids"]) == 120 and set(pool["image_ids"]) < set(whole["image_ids"])
    assert "pool" not in make(coco_root, folder, "--force") and not (folder / "pool2017").is_symlink()


def test_a_pool_is_drawn_blind_and_by_seed(coco_root: Path) -> None:
    source = read(coco_root / "annotations" / "instances_train2017.json")
    taken, small = source.image_ids[:40].tolist(), draw_pool(source, source.image_ids[:40], 20, 0)
    assert set(small) < set(draw_pool(source, taken, 60, 0)) and not set(small) & set(taken)
    assert set(small) != set(draw_pool(source, taken, 20, 1))
    times = np.zeros(len(source.image_ids))
    for seed in range(300):
        times += np.isin(source.image_ids, draw_pool(source, taken, 20, seed))
    assert times[:40].sum() == 0 and abs(times[40:] - 50).max() < 35  # 300 x 20 / 120, standard deviation 6.5
    with pytest.raises(UserError, match="--pool 121: only 120 train images are left beside the subset; ask for rest"):
        draw_pool(source, taken, 121, 0)


def test_what_the_splits_hold_is_left_out_of_the_pool(copy: Path, tmp_path: Path, capsys) -> None:
    before = make(copy, tmp_path / "before", "--pool", "rest")
    entries = json.loads((copy / "annotations" / "instances_train2017.json").read_bytes())["images"]
    sizes = {path: Image.open(path).size for path in sorted((copy / "val2017").iterdir())}
    val, one = next(
        (path, entry)
        for entry in entries
        if entry["id"] in before["pool"]["image_ids"]
        for path, size in sizes.items()
        if size == (entry["width"], entry["height"])
    )
    file = copy / "train2017" / one["file_name"]
    file.unlink()
    shutil.copy(val, file)
    manifest = make(copy, tmp_path / "made", "--pool", "rest")
    assert f"{file} is left out: the same image as {val}" in capsys.readouterr().out
    assert one["id"] not in manifest["pool"]["image_ids"] and len(manifest["pool"]["image_ids"]) == 119


@pytest.mark.parametrize("fault", ["missing", "more", "broken", "of val", "annotations", "label"])
def test_verify_names_the_fault(coco_root: Path, tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "made"
    make(coco_root, folder, "--pool", "10", "--link", "copy")
    image = min((folder / "images" / "pool2017").iterdir())
    name = image.relative_to(folder).as_posix()
    if fault == "missing":
        image.unlink()
    elif fault == "more":
        shutil.copy(image, image.with_name("more.jpg"))
    elif fault == "broken":
        image.write_bytes(image.read_bytes()[:-50])
    elif fault == "of val":
        shutil.copy(min((folder / "images" / "val2017").iterdir()), image)
    elif fault == "annotations":
        (folder / "annotations" / "instances_pool2017.json").unlink()
    else:
        label = folder / "labels" / "pool2017" / f"{image.stem}.txt"
        label.parent.mkdir()
        label.write_text("0 0.5 0.5 0.1 0.1\n")
    wanted = {
        "missing": f"{name}: missing",
        "more": "images/pool2017/more.jpg: not in the manifest",
        "broken": f"{name} is cut short",
        "of val": f"{name}: the same image as images/val2017/",
        "annotations": "annotations/instances_pool2017.json: missing",
        "label": f"labels/pool2017/{image.stem}.txt: not in the manifest",
    }
    assert any(wanted[fault] in line for line in verify(folder)), verify(folder)


def test_no_images_and_bad_sizes(coco_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    manifest = make(coco_root, folder, "--pool", "10", "--no-images")
    assert list(manifest["pool"]["files"]) == ["annotations/instances_pool2017.json"] and verify(folder) == []
    for size in ("0", "-1", "all"):
        with pytest.raises(UserError, match=f"^--pool: .*{size}"):
            create_coco1k.parser().parse_args(["--pool", size])


def test_a_pool_is_fetched_with_the_subset(copy: Path, tmp_path: Path, monkeypatch) -> None:
    asked = []

    def fetch_images(images: list[tuple[str, Path]], workers: int) -> None:
        asked.extend(path for _, path in images)
        for path in asked:
            shutil.copy(store / path.name, path)

    store = (copy / "train2017").rename(tmp_path / "store")
    (copy / "train2017").mkdir()
    monkeypatch.setattr("coco1k_kd.data.download.fetch_images", fetch_images)
    manifest = make(copy, tmp_path / "made", "--download", "--pool", "25")
    assert len(asked) == 65 and len(manifest["pool"]["image_ids"]) == 25 and verify(tmp_path / "made") == []
