"""Generated scenes in COCO's format: what the demo and the tests run on where there is no COCO and no network.

The data has COCO's awkward sides on purpose: gaps in the category ids, a long tail of classes, people in about half of
the images, overlap, crowds as RLE, tiny objects and images without any. Figures on it say nothing about COCO.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from coco1k_kd.errors import UserError, run_cli
from coco1k_kd.files import write_json

INFO = {
    "description": "GENERATED scenes in COCO's format, by coco1k_kd.demo: figures on them say nothing about COCO",
    "version": "1",
}
SIZES = ((128, 96), (96, 128), (128, 128), (128, 104), (112, 128))  # width, height in pixels
EMPTY, CROWD = 25, 16  # every so many images there is one without an object, and one with a crowd
PERSON_SHARE = 0.5  # COCO: 0.54


def _regular(corners: int, inner: float = 1.0) -> np.ndarray:
    """A regular polygon in the unit circle; with `inner` < 1 every second corner is drawn in (a star)."""
    angles = 2 * np.pi * np.arange(corners) / corners - np.pi / 2
    radius = np.where(np.arange(corners) % 2, inner, 1.0)[:, None]
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _box(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


_DISC, _SQUARE = _regular(24), _box(-0.8, -0.8, 0.8, 0.8)
_PERSON = (
    _regular(16) * 0.27 + [0, -0.72],
    _box(-0.3, -0.42, 0.3, 0.25),
    _box(-0.28, 0.25, -0.04, 1),
    _box(0.04, 0.25, 0.28, 1),
)


@dataclass(frozen=True)
class Kind:
    """A category: its parts in the unit square, hue in OpenCV's 0..179, saturation 0..255, texture."""

    id: int
    name: str
    supercategory: str
    parts: tuple[np.ndarray, ...]
    hue: int
    saturation: int
    texture: str


# Commonest first. Several share a shape or a colour, so that a larger model has something to know that a smaller lacks.
KINDS = (
    Kind(1, "person", "person", _PERSON, 115, 170, "plain"),
    Kind(37, "ball", "toy", (_DISC,), 10, 210, "plain"),
    Kind(3, "crate", "container", (_SQUARE,), 15, 170, "stripes"),
    Kind(13, "stop sign", "outdoor", (_regular(8),), 0, 220, "plain"),
    Kind(38, "kite", "toy", (_regular(4) * [0.7, 1],), 95, 190, "checks"),
    Kind(25, "star", "decoration", (_regular(10, 0.45),), 28, 210, "plain"),
    Kind(42, "striped ball", "toy", (_DISC,), 10, 210, "stripes"),
    Kind(52, "leaf", "plant", (_DISC * [0.5, 1],), 60, 170, "stripes"),
    Kind(62, "door", "furniture", (_box(-0.45, -1, 0.45, 1),), 15, 170, "plain"),
    Kind(74, "tile", "furniture", (_SQUARE,), 95, 190, "checks"),
    Kind(77, "cone", "outdoor", (np.array([[0, -1], [0.75, 0.9], [-0.75, 0.9]]),), 5, 220, "stripes"),
    Kind(90, "coin", "decoration", (_DISC,), 28, 210, "checks"),
)
OLD = KINDS[:8]  # what the demo's models know before they are given the rest, as published ones know COCO's classes


def generate_coco(root: Path, train: int, val: int, seed: int = 0, kinds: Sequence[Kind] = KINDS) -> None:
    """Write `train` and `val` generated images of `kinds` with annotations to `root`, in the layout of COCO 2017.

    The same arguments give the same bytes on one machine. The annotation files come last: where they are, all is.
    """
    for split, (name, count) in enumerate((("train2017", train), ("val2017", val))):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            image_id = 10 * index + 3 * split + 5  # gaps, and no id in both splits
            pixels, objects = _scene(np.random.default_rng([seed, split, index]), index, kinds)
            file_name = f"{image_id:012d}.jpg"
            if not cv2.imwrite(str(folder / file_name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92]):
                raise OSError(f"cannot write {folder / file_name}")
            images.append(_image(image_id, name, file_name, pixels))
            first = 1_000_000 * split + len(annotations) + 1
            annotations += [{**value, "id": first + i, "image_id": image_id} for i, value in enumerate(objects)]
        categories = [
            {"supercategory": kind.supercategory, "id": kind.id, "name": kind.name}
            for kind in sorted(kinds, key=lambda kind: kind.id)
        ]
        document = {
            "info": INFO,
            "licenses": [{"id": 1, "name": "generated, no rights reserved", "url": ""}],
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        write_json(root / "annotations" / f"instances_{name}.json", document)


def _image(image_id: int, split: str, file_name: str, pixels: np.ndarray) -> dict[str, Any]:
    height, width = pixels.shape[:2]
    return {
        "license": 1,
        "file_name": file_name,
        "coco_url": f"http://generated.invalid/{split}/{file_name}",
        "height": height,
        "width": width,
        "date_captured": "2026-01-01 00:00:00",
        "id": image_id,
    }


def _scene(rng: np.random.Generator, index: int, kinds: Sequence[Kind]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """One image (H, W, 3) and its annotations, without ids. Later objects hide earlier ones, as in a photograph."""
    width, height = SIZES[rng.integers(len(SIZES))]
    pixels = _background(rng, width, height)
    owner = np.zeros((height, width), np.int32)  # which object a pixel shows; 0 is background
    shown: list[Kind] = []
    crowd = 0
    if index % EMPTY != EMPTY - 1:
        if index % CROWD == CROWD - 1:
            shown.append(KINDS[0])
            crowd = 1
            _crowd(rng, pixels, owner)
        chosen = [1 + index // 2 % (len(kinds) - 1)] if index % 2 else []  # so that a small pool has every class
        weights = 1 / np.arange(1, len(kinds)) ** 0.8  # of the kinds other than person
        chosen += list(1 + rng.choice(len(weights), size=rng.integers(1, 5), p=weights / weights.sum()))
        chosen += [0] * int(rng.integers(1, 3)) if rng.random() < PERSON_SHARE else []
        for kind in rng.permutation(chosen):
            shown.append(kinds[kind])
            radius = float(np.exp(rng.uniform(np.log(6), np.log(36))))
            centre = rng.uniform((0, 0), (width, height))
            _draw(rng, pixels, owner, kinds[kind], len(shown), centre, radius)
    noise = rng.normal(0, 6, pixels.shape)
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    objects = [_annotation(owner == number, kind, number == crowd) for number, kind in enumerate(shown, 1)]
    return pixels, [value for value in objects if value]


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Soft clutter: random colours on a coarse grid, enlarged. Returns float (H, W, 3) in 0..255."""
    coarse = rng.uniform(60, 190, (5, 5, 1)) + rng.normal(0, 18, (5, 5, 3))
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)


def _draw(
    rng: np.random.Generator,
    pixels: np.ndarray,
    owner: np.ndarray,
    kind: Kind,
    number: int,
    centre: np.ndarray,
    radius: float,
) -> None:
    """Paint one object of `kind` into `pixels` and write `number` into `owner` where it shows."""
    angle, stretch = rng.uniform(-0.35, 0.35), rng.uniform(0.85, 1.15)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    mask = np.zeros(owner.shape, np.uint8)
    for part in kind.parts:
        corners = (part * [radius * stretch, radius / stretch]) @ turn + centre
        cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 1, shift=4)
    shown = mask.astype(bool)
    hue = (kind.hue + rng.integers(-5, 6)) % 180
    value = rng.uniform(120, 250)
    colours = np.array([[[hue, kind.saturation, value], [hue, kind.saturation * 0.35, value * 0.55]]], np.uint8)
    light, dark = cv2.cvtColor(colours, cv2.COLOR_HSV2BGR)[0].astype(float)
    y, x = np.nonzero(shown)
    u, v = turn @ (np.stack([x, y]) - centre[:, None]) / radius  # the object's own axes, so that textures turn with it
    cells = {"plain": 0 * u, "stripes": np.floor(3 * v), "checks": np.floor(2 * u) + np.floor(2 * v)}[kind.texture]
    pixels[shown] = np.where((cells % 2 == 0)[:, None], light, dark)
    owner[shown] = number


def _crowd(rng: np.random.Generator, pixels: np.ndarray, owner: np.ndarray) -> None:
    """A row of small people, one annotation for all (number 1)."""
    height, width = owner.shape
    start = rng.uniform((0.1 * width, 0.2 * height), (0.4 * width, 0.8 * height))
    for step in range(int(rng.integers(6, 11))):
        centre = start + np.array([step * 7.0, rng.uniform(-3, 3)])
        _draw(rng, pixels, owner, KINDS[0], 1, centre, rng.uniform(7, 10))


def _annotation(mask: np.ndarray, kind: Kind, crowd: bool) -> dict[str, Any] | None:
    """COCO's annotation of what shows of an object, or None where it is all but hidden. `mask` is bool (H, W)."""
    if mask.sum() < 12:
        return None
    if crowd:
        # COCO's uncompressed RLE: lengths of runs in column order, the first one of zeros
        flat = np.concatenate([[False], mask.ravel(order="F")])
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
        segmentation: Any = {"counts": counts, "size": list(mask.shape)}
    else:
        # Contours run through pixel centres: at four times the size they lie within an eighth of a pixel of the edge
        large = np.kron(mask.astype(np.uint8), np.ones((4, 4), np.uint8))
        contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        outer = [contour for contour in contours if len(contour) >= 3]
        segmentation = [((contour.reshape(-1) + 0.5) / 4).tolist() for contour in outer]
        filled = cv2.drawContours(np.zeros_like(large), outer, -1, 1, cv2.FILLED)  # polygons have no holes
        mask = filled[::4, ::4].astype(bool)
    y, x = np.nonzero(mask)
    left, top = int(x.min()), int(y.min())
    return {
        "segmentation": segmentation,
        "area": float(mask.sum()),
        "iscrowd": int(crowd),
        "bbox": [float(left), float(top), float(x.max() + 1 - left), float(y.max() + 1 - top)],
        "category_id": kind.id,
    }


def main() -> None:
    """Write the demo's COCO root."""
    parser = argparse.ArgumentParser("python -m coco1k_kd.demo", description="Write generated scenes as COCO 2017.")
    parser.add_argument("root", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--train", type=int, default=800, metavar="N", help="train images (default: %(default)s)")
    parser.add_argument("--val", type=int, default=150, metavar="N", help="val images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other scenes (default: 0)")
    parser.add_argument("--old", action="store_true", help="scenes of the classes that the demo's models know at first")
    args = parser.parse_args()
    if min(args.train, args.val, args.seed + 1) < 1:
        raise UserError("--train and --val must be at least 1, --seed at least 0")
    try:
        generate_coco(args.root, args.train, args.val, args.seed, OLD if args.old else KINDS)
    except OSError as error:
        raise UserError(f"cannot write {args.root}: {error.strerror or error}") from None
    print(f"wrote {args.train} train and {args.val} val images, GENERATED and not COCO, to {args.root}")


if __name__ == "__main__":
    run_cli(main)
