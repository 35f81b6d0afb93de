"""Subsets of anybody's data: COCO files wherever they lie, and data in Ultralytics' format."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from programs import call

from coco1k_kd.data import scan
from coco1k_kd.data.dataset import Split
from coco1k_kd.data.manifest import read_manifest
from coco1k_kd.data.source import drawn_from, from_root, is_official

PROGRAM = Path(__file__).resolve().parents[2] / "create_coco1k.py"


def create(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *map(str, flags)]
    return call(command)


def refused(*flags: object) -> str:
    """The one line with which the program ends."""
    done = create(*flags)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stdout + done.stderr
    return done.stderr


def official(coco: Path, root: Path) -> None:
    shutil.copytree(coco, root)


def in_images(coco: Path, root: Path) -> None:
    """As Ultralytics keeps COCO, with shorter names of the annotations."""
    for split in ("train", "val"):
        shutil.copytree(coco / f"{split}2017", root / "images" / f"{split}2017")
        move(coco, split, root / f"annotations/instances_{split}.json")


def one_folder(coco: Path, root: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(coco / f"{split}2017", root / "images", dirs_exist_ok=True)
        move(coco, split, root / f"{split}.json")


def roboflow(coco: Path, root: Path) -> None:
    for split, name in (("train", "train"), ("val", "valid")):
        shutil.copytree(coco / f"{split}2017", root / name)
        move(coco, split, root / name / "_annotations.coco.json")


def move(coco: Path, split: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(coco / f"annotations/instances_{split}2017.json", place)


@pytest.mark.parametrize("layout", [official, in_images, one_folder, roboflow])
def test_a_root_with_coco_files_is_recognised(layout: Callable[[Path, Path], None], coco_root: Path, tmp_path: Path):
    layout(coco_root, tmp_path / "root")
    for split in ("train", "val"):
        source = from_root(tmp_path / "root", split)
        assert source.content.sha256 == from_root(coco_root, split).content.sha256
        assert all(file.is_file() for file in source.files)
        assert is_official(source) == (layout is official)


def test_the_same_images_are_drawn_from_files_that_are_named(coco_root: Path, tmp_path: Path):
    files = []
    for split in ("train", "val"):
        shutil.copytree(coco_root / f"{split}2017", tmp_path / f"my {split}")
        move(coco_root, split, tmp_path / f"{split}_labels.json")
        files += [f"--{split}-annotations", tmp_path / f"{split}_labels.json"]
        files += [f"--{split}-images", tmp_path / f"my {split}"]
    size = ("--target-size", 30, "--val-size", 12)
    one, other = tmp_path / "one", tmp_path / "other"
    for source, folder in ((files, one), (["--coco-root", coco_root], other)):
        done = create(*source, *size, "--output-dir", folder)
        assert done.returncode == 0, done.stdout + done.stderr
    assert read_manifest(one / "manifest.json").files == read_manifest(other / "manifest.json").files


def test_all_takes_every_image(coco_root: Path, tmp_path: Path):
    everything = ("--target-size", "all", "--val-size", "all")
    done = create("--coco-root", coco_root, *everything, "--output-dir", tmp_path / "all")
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = read_manifest(tmp_path / "all/manifest.json")
    assert (len(manifest.train.image_ids), len(manifest.val.image_ids)) == (160, 60)
    assert len(list((tmp_path / "all/images/train2017").iterdir())) == 160


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 train and 40 val images in two folders each; six classes, none of them person, the later the rarer."""
    root = tmp_path_factory.mktemp("yolo")
    rng = np.random.default_rng(3)
    for split, size in (("train", 120), ("val", 40)):
        for i in range(size):
            part = ("day", "night")[i % 2]
            image = root / part / "images" / split / f"{i // 2:03}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 48, 3), np.uint8)).save(image)
            classes = np.flatnonzero(rng.random(6) < [0.9, 0.6, 0.4, 0.3, 0.2, 0.15])
            text = "".join(f"{c} 0.5 0.5 {0.1 + 0.1 * c:.2f} 0.5\n" for c in classes)
            label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    content = {"names": list("abcdef")} | {s: [f"{p}/images/{s}" for p in ("day", "night")] for s in ("train", "val")}
    (root / "my.yaml").write_text(yaml.safe_dump(content))
    return root / "my.yaml"


@pytest.fixture(scope="module")
def pilot(yolo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pilot") / "pilot"
    done = create("--data", yolo, "--target-size", 40, "--val-size", "all", "--output-dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "person" not in done.stdout
    return folder


def boxes_by_file(split: Split) -> dict[Path, np.ndarray]:
    return {split.images / name: boxes for name, boxes in split.content.label_rows().items()}


def test_a_pilot_of_own_data_is_balanced_and_has_their_labels(yolo: Path, pilot: Path):
    manifest = read_manifest(pilot / "manifest.json")
    assert (len(manifest.train.image_ids), len(manifest.val.image_ids)) == (40, 40)
    counts, supply = manifest.train.images_per_class, manifest.train.supply_per_class
    assert manifest.train.person_share is None and min(counts.values()) == manifest.train.k
    assert counts["f"] > 1.5 * supply["f"] * 40 / 120 and counts["a"] < supply["a"] * 40 / 120, (
        "as many as can be equal"
    )
    for split in ("train", "val"):
        own, read = (boxes_by_file(scan.read(data)[0].splits[split]) for data in (yolo, pilot / "coco1k.yaml"))
        by_pixels = {file.read_bytes(): boxes for file, boxes in own.items()}
        for file, boxes in read.items():
            assert np.allclose(boxes, by_pixels[file.read_bytes()], atol=1e-4)
    done = create("--verify", pilot)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_pilot_can_be_drawn_again_from_its_manifest(yolo: Path, pilot: Path, tmp_path: Path):
    again = tmp_path / "again"
    done = create("--data", yolo, "--from-manifest", pilot / "manifest.json", "--output-dir", again)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (again / "manifest.json").read_bytes() == (pilot / "manifest.json").read_bytes()


def test_further_draws_come_from_own_data(yolo: Path, pilot: Path, tmp_path: Path):
    from coco1k_kd.data.given import open_data
    from coco1k_kd.study.redraw import further_draws

    data = open_data(pilot / "coco1k.yaml", tmp_path)
    (further,) = further_draws(data, 2, None, tmp_path)  # the pilot's YAML says what it was drawn from
    assert drawn_from(pilot / "coco1k.yaml") == drawn_from(further.yaml) == yolo
    assert further.train.size == 40 and further.val.names == data.val.names
    assert Counter(further.train.names) != Counter(data.train.names)


def test_what_cannot_be_drawn_speaks_of_the_users_files(yolo: Path, coco_root: Path, tmp_path: Path):
    out = ("--output-dir", tmp_path / "out")
    line = refused("--data", yolo, "--target-size", 40, "--val-size", 60, *out)
    assert "--val-size 60: only " in line and " images of val have a valid box; ask for fewer or all" in line
    assert "COCO" not in line and "download" not in line
    assert "nope.yaml does not exist" in refused("--data", tmp_path / "nope.yaml", *out)
    assert "--download fetches COCO" in refused("--data", yolo, "--download", *out)
    assert "two sources" in refused("--data", yolo, "--train-images", tmp_path, *out)
    assert "--val-images" in refused("--train-images", tmp_path, *out)
    (tmp_path / "own").mkdir()
    line = refused("--coco-root", tmp_path / "own", *out)
    assert "no annotations of train (looked for annotations/instances_train2017.json" in line and "download" not in line
    one_folder(coco_root, tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine/images")
    line = refused("--coco-root", tmp_path / "mine", "--target-size", 20, "--val-size", 10, *out)
    assert "images are missing" in line and "--download" not in line
    files = [f"--{split}-{what}" for split in ("train", "val") for what in ("annotations", "images")]
    places = [tmp_path / "mine/train.json", tmp_path / "none"] * 2
    line = refused(*[part for pair in zip(files, places, strict=True) for part in pair], *out)
    assert f"{tmp_path / 'none'} is not a folder" in line
    assert not (tmp_path / "out").exists()
