#!/usr/bin/env python3
"""How alike changed copies of pictures are, and how alike other pictures: what `data/alike.py`'s bound rests on.

python benchmarks/alike.py ../shared/coco-mini
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.alike import ALIKE, miniatures, patterns

_COPIES = 400
_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same pixels": lambda image: image,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "a third of the size": lambda image: image.resize((image.width // 3, image.height // 3)),
    "320 x 320": lambda image: image.resize((320, 320)),
    "brightness 1.3": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "contrast 0.6": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "grey": lambda image: image.convert("L"),
    "1% cut off each side": lambda image: _cropped(image, 0.01),
    "2% cut off each side": lambda image: _cropped(image, 0.02),
    "5% cut off each side": lambda image: _cropped(image, 0.05),
    "padded to a square": lambda image: ImageOps.pad(image, (416, 416), color=(114, 114, 114)),
}


def main() -> None:
    """Measure on the images of a COCO root."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="DIR", help="a folder with train2017 and val2017")
    files = sorted(parser.parse_args().root.glob("*2017/*.jpg"))
    begun, used = time.monotonic(), time.process_time()
    small = miniatures(files)
    print(f"{len(files):,} images in {time.monotonic() - begun:.1f} s, {time.process_time() - used:.1f} s of CPU time")
    rows = patterns(small)
    pairs = np.triu_indices(len(rows), 1)
    turned = {f"other images, turned {90 * turns}": np.rot90(small, turns, (1, 2)) for turns in (1, 2, 3)}
    ways = {"other images": small, **turned}
    ways |= {f"{name}, mirrored": way[:, :, ::-1] for name, way in ways.items()}
    for name, way in ways.items():
        others = patterns(way)
        highest = np.sort((rows @ others.T)[pairs])[-3:][::-1]
        print(f"{name:34} {len(pairs[0]):,} pairs, highest " + " ".join(f"{value:.3f}" for value in highest))
    some = np.random.default_rng(0).choice(len(files), _COPIES, replace=False).tolist()
    print(f"{_COPIES} copies as JPEG of quality 75: likeness to the original")
    print(f"{'':24}{'least':>8}{'2%':>8}{'median':>8}{'found':>8}")
    for name, change in _CHANGES.items():
        with TemporaryDirectory() as folder:
            copies = [_copy(files[number], Path(folder) / f"{number}.jpg", change) for number in some]
            likeness = (patterns(miniatures(copies)) * rows[some]).sum(axis=1)
        figures = (likeness.min(), np.quantile(likeness, 0.02), np.median(likeness))
        print(f"{name:24}" + "".join(f"{value:8.3f}" for value in figures) + f"{(likeness >= ALIKE).mean():8.1%}")


def _cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = share * image.width, share * image.height
    return image.crop((round(x), round(y), round(image.width - x), round(image.height - y)))


def _copy(file: Path, target: Path, change: Callable[[Image.Image], Image.Image]) -> Path:
    with Image.open(file) as image:
        change(image.convert("RGB")).save(target, quality=75)
    return target


if __name__ == "__main__":
    main()
