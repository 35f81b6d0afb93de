"""What training sees of a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from ultralytics.utils.patches import imread

from coco1k_kd.data.images import Seen, brightest, see


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


def test_a_small_file_that_would_fill_the_memory_is_refused_by_its_header(tmp_path: Path) -> None:
    Image.new("1", (16_000, 12_000)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 100_000
    assert see(tmp_path / "a.png").startswith("is 16000x12000, more than")
