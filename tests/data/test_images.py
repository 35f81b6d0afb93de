"""What training sees of a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import Image, features
from subsets import first
from ultralytics.utils.patches import imread

from coco1k_kd.data import images
from coco1k_kd.data.alike import miniatures
from coco1k_kd.data.entries import Image as Entry
from coco1k_kd.data.images import Seen, brightest, image_fault, jpeg_damage, see, without_trailer


@pytest.mark.parametrize("name", ["rgb.png", "grey.png", "rgb.tif", "grey.tif"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_more_than_8_bits_are_seen_and_the_brightest_value_is_that_of_training(name: str, bits: int, tmp_path: Path):
    pixels = np.full((20, 30, 3), 2**bits - 1, np.uint8 if bits == 8 else np.uint16)
    cv2.imwrite(str(tmp_path / name), pixels[..., 0] if name.startswith("grey") else pixels)
    seen = see(tmp_path / name)
    assert isinstance(seen, Seen) and seen.deep == (bits > 8)
    assert brightest([tmp_path / name]) == imread(tmp_path / name).max() == {8: 255, 12: 15, 16: 255}[bits]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_pictures_of_8_bits_are_not_deep(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (30, 20)).save(tmp_path / "a.png")
    assert see(tmp_path / "a.png") == Seen(30, 20, 1)


OPENINGS: dict[str, Callable[[Path], object]] = {
    "see": see,
    "image_fault": lambda file: image_fault(file.read_bytes(), Entry(1, file.name, 16_000, 12_000)),
    "jpeg_damage": lambda file: jpeg_damage(file.read_bytes()),
    "without_trailer": lambda file: without_trailer(file.read_bytes()),
    "miniatures": lambda file: miniatures([file]),
}


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("name", ["a.png", "turned.png", "a.jpg", "a.tif", "a.webp"])
def test_a_small_file_that_would_fill_the_memory_is_refused_by_its_header(
    name: str, opening: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if name == "turned.png" else 1
    Image.new("RGB" if name.endswith("webp") else "1", (160, 120)).save(tmp_path / name, exif=exif)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"more")
    monkeypatch.setattr(images, "_MOST_PIXELS", 160 * 120 - 1)
    for module in {type(picture) for picture in [Image.open(tmp_path / name)]}:
        monkeypatch.setattr(module, "load", lambda _: pytest.fail("its pixels were decoded"))
    try:
        said = OPENINGS[opening](tmp_path / name)
    except ValueError as error:
        said = error
    if isinstance(said, str):
        assert "160x120, more than 19,199 pixels: scale it down" in said


def test_the_limit_is_that_of_pillow() -> None:
    assert images._MOST_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


def test_what_is_seen_is_what_ultralytics_sees(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8))
    for suffix in ["jpg", "png", "tiff", "webp", "bmp", *["avif"] * features.check("avif")]:
        for orientation in range(1, 9) if suffix != "bmp" else [1]:
            path, exif = tmp_path / f"{orientation}.{suffix}", Image.Exif()
            exif[0x0112] = orientation
            picture.save(path, **({"exif": exif.tobytes()} if suffix != "bmp" else {}))
            seen, pixels = see(path), imread(path)
            assert isinstance(seen, Seen)
            assert (seen.height, seen.width) == pixels.shape[:2], path
            assert seen.orientation == orientation


def test_a_jpeg_ends_at_its_own_end_marker(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))
    for kind in ({}, {"progressive": True}, {"restart_marker_blocks": 1}, {"comment": b"\xff\xd9 \xff\xd8"}):
        picture.save(tmp_path / "x.jpg", **kind)
        data = (tmp_path / "x.jpg").read_bytes()
        assert without_trailer(data + b"\0\0SEFT") == without_trailer(data + data + b"\0") == data
        assert without_trailer(data) is data
        (tmp_path / "y.jpg").write_bytes(data + b"\0")
        assert see(tmp_path / "y.jpg") == Seen(80, 80, 1, trailer=True)
        (tmp_path / "y.jpg").write_bytes(data[:-2] + b"\0" * 9)
        assert see(tmp_path / "y.jpg") == "is cut short"


def test_a_header_that_claims_a_giant_image_or_no_image_is_a_fault(coco_root: Path, monkeypatch):
    path = coco_root / "train2017" / first(coco_root / "train2017")
    data = bytearray(path.read_bytes())
    size = data.index(b"\xff\xc0") + 5
    data[size : size + 4] = b"\xff\xff\xff\xff"
    with PIL.Image.open(path) as picture:
        entry = Entry(1, path.name, *picture.size)
    monkeypatch.setattr(PIL.Image, "open", None)  # Ultralytics' own, which would install packages
    assert image_fault(path.read_bytes(), entry) is None
    assert image_fault(bytes(data), entry).startswith("cannot be decoded (it is 65535x65535, more than ")
    assert "cannot be decoded" in image_fault(b"no image", entry)
