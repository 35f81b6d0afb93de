"""Pictures that look alike, on generated scenes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from coco1k_kd.data.alike import ALIKE, alike, miniatures, patterns

CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "another size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "another shape": lambda image: image.resize((320, 320)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "grey": lambda image: image.convert("L"),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned and mirrored": lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    "cropped": lambda image: image.crop((2, 2, image.width - 2, image.height - 2)),
}


@pytest.fixture(scope="module")
def scenes(coco_root: Path) -> list[Path]:
    return sorted((coco_root / "train2017").glob("*.jpg"))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_changed_copy_is_found(scenes: list[Path], tmp_path: Path, change: str, suffix: str) -> None:
    copies = []
    for number, scene in enumerate(scenes[:10]):
        copies.append(tmp_path / f"{number}.{suffix}")
        with Image.open(scene) as image:
            CHANGES[change](image.convert("RGB")).save(copies[-1])
    assert alike(miniatures(copies), miniatures(scenes)) == {number: number for number in range(10)}


@pytest.mark.parametrize(("bits", "suffix"), [(16, "png"), (12, "png"), (16, "tiff")])
def test_a_copy_in_more_bits_is_found(scenes: list[Path], tmp_path: Path, bits: int, suffix: str) -> None:
    copies = []
    for number, scene in enumerate(scenes[:5]):
        copies.append(tmp_path / f"{number}.{suffix}")
        with Image.open(scene) as image:
            grey = np.asarray(image.convert("L"), np.uint16) << (bits - 8)
        Image.fromarray(grey).save(copies[-1])
    assert alike(miniatures(copies), miniatures(scenes)) == {number: number for number in range(5)}


def test_other_scenes_are_not_alike(scenes: list[Path]) -> None:
    small = miniatures(scenes)
    assert alike(small[:80], small[80:]) == {}
    rows = patterns(small)
    likeness = rows @ rows.T
    assert np.allclose(np.diagonal(likeness), 1, atol=1e-5)
    assert likeness[~np.eye(len(rows), dtype=bool)].max() < ALIKE


def test_what_shows_nothing_is_like_nothing(scenes: list[Path], tmp_path: Path) -> None:
    for name in ("black", "black again"):
        Image.new("RGB", (200, 100)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    small = miniatures(sorted(tmp_path.iterdir()))
    assert alike(small, np.concatenate((small, miniatures(scenes[:3])))) == {}
    assert alike(small, small[:0]) == {} and miniatures([]).shape == (0, 16, 16)


def test_a_turned_picture_is_compared_upright(scenes: list[Path], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(scenes[0]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    assert alike(miniatures([tmp_path / "turned.jpg"]), miniatures(scenes)) == {0: 0}
