"""The images in which two arms differ most, each as three panels: ground truth, one arm, the other.

A box is marked by colour, line and sign, so that no panel needs its colours.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from coco1k_kd.report.fonts import file_with
from coco1k_kd.report.words import Words
from coco1k_kd.verdict.coco import Detections, Truth, match

_TRUTH, _HIT, _FALSE, _MISSED = "#009E73", "#56B4E9", "#D55E00", "#F0E442"
_DASH = {_TRUTH: (), _HIT: (), _FALSE: (9, 5), _MISSED: (2, 4)}  # pixels drawn and left out
_SIGN = {_TRUTH: "", _HIT: "", _FALSE: "× ", _MISSED: "○ "}
_IOU = 0.5
MOST, MOST_FALSE = 15, 6  # boxes of one kind, and false ones, that a panel shows, by score: more hide the image
_PAGE, _SLIDE = 480, 620  # pixels of a panel's longer side


@dataclass(frozen=True)
class Box:
    """A box in pixels of the image: left, top, width, height. `score` is 1 and `crowd` may be true for the truth."""

    name: str
    bbox: tuple[float, float, float, float]
    score: float = 1.0
    crowd: bool = False


@dataclass(frozen=True)
class Panel:
    """One drawn panel, and what stands below it."""

    image: Image.Image
    title: str
    text: str
    alt: str


@dataclass(frozen=True)
class Example:
    """An image with its share of the difference in AP (a fraction)."""

    name: str
    share: float
    path: Path
    truth: Sequence[Box]
    found: Mapping[str, Sequence[Box]]  # by arm, the other arm first

    def panels(self, words: Words, longest: int = _PAGE) -> list[Panel]:
        """Ground truth and what each arm found. OSError if the image is gone or broken."""
        image = upright(self.path)
        scale = longest / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        font = _font([box.name for box in (*self.truth, *(b for boxes in self.found.values() for b in boxes))], longest)
        boxes = [box for box in self.truth if not box.crowd]
        number = words.count("box", len(boxes))
        drawn = _draw(image, scale, font, {_TRUTH: boxes})
        panels = [Panel(drawn, words("panel_truth"), number, words("alt_truth", image=self.name, number=number))]
        for arm, found in self.found.items():
            hits, false, missed = told_apart(found, self.truth)
            counts = words("panel_counts", hits=len(hits), false=len(false), missed=len(missed))
            drawn = _draw(image, scale, font, {_MISSED: missed, _FALSE: false, _HIT: hits})
            panels.append(Panel(drawn, arm, counts, words("alt_panel", panel=arm, image=self.name, counts=counts)))
        return panels

    def slide(self, words: Words) -> bytes:
        """The three panels beside each other with their titles, as a PNG for slides."""
        panels = self.panels(words, _SLIDE)
        gap, head = 16, 44
        width, height = panels[0].image.size
        sheet = Image.new("RGB", (len(panels) * (width + gap) + gap, height + head + gap), "white")
        draw = ImageDraw.Draw(sheet)
        font = _font([panel.title + panel.text for panel in panels], _SLIDE)
        for column, panel in enumerate(panels):
            left = gap + column * (width + gap)
            sheet.paste(panel.image, (left, head))
            draw.text((left, head // 2), f"{panel.title}: {panel.text}", "black", font, anchor="lm")
        file = io.BytesIO()
        sheet.save(file, "PNG", compress_level=3)  # a fifth larger than by default, in a third of the time
        return file.getvalue()


@dataclass(frozen=True)
class Examples:
    """The images that speak most for and most against an arm."""

    arm: str
    text: str
    won: Sequence[Example]
    lost: Sequence[Example]

    def slides(self, words: Words) -> dict[str, bytes]:
        """PNG files by name."""
        groups = (("won", self.won), ("lost", self.lost))
        return {f"{name}_{i}.png": e.slide(words) for name, group in groups for i, e in enumerate(group, 1)}


def upright(file: Path) -> Image.Image:
    """An image as it is seen, turned as its EXIF says. OSError if it is gone or broken."""
    with Image.open(file) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


def jpeg(image: Image.Image) -> str:
    """The image as a JPEG in base64."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=78, optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def legend() -> list[tuple[str, str, str]]:
    """Key of the text, colour, and dashes of each kind of box."""
    kinds = {"legend_truth": _TRUTH, "legend_hit": _HIT, "legend_false": _FALSE, "legend_missed": _MISSED}
    return [(key, colour, " ".join(f"{x / 3:.1f}" for x in _DASH[colour])) for key, colour in kinds.items()]


def told_apart(found: Sequence[Box], truth: Sequence[Box]) -> tuple[list[Box], list[Box], list[Box]]:
    """Which boxes are right, which are false, and which of the truth are missed, by COCO's rules at IoU 0.5.

    A box on a crowd is neither right nor false.
    """
    found = sorted(found, key=lambda box: -box.score)
    names = sorted({box.name for box in (*found, *truth)})

    def arrays(boxes: Sequence[Box]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        category = np.array([names.index(box.name) for box in boxes], int)
        return np.zeros(len(boxes), int), category, np.array([box.bbox for box in boxes], float).reshape(-1, 4)

    crowd, one = np.array([box.crowd for box in truth], bool), np.zeros(1, int)
    all_boxes = Truth(one, [""], np.arange(len(names)), names, *arrays(truth), np.zeros(len(truth)), crowd)
    detections = Detections(*arrays(found), np.array([box.score for box in found]))
    box_of = match(all_boxes, detections, crowd[None], np.array([_IOU]))[0, 0]
    hits = [box for box, of in zip(found, box_of, strict=True) if of >= 0 and not crowd[of]]
    false = [box for box, of in zip(found, box_of, strict=True) if of < 0]
    return hits, false, [box for i, box in enumerate(truth) if not crowd[i] and i not in box_of]


def _draw(
    image: Image.Image, scale: float, font: ImageFont.FreeTypeFont, kinds: Mapping[str, Sequence[Box]]
) -> Image.Image:
    """The image with the boxes of each kind, those of the last kind and the highest score on top.

    Of equal scores the largest boxes are shown; a name that would cover another one is left out.
    """
    image = image.copy()
    draw = ImageDraw.Draw(image)
    named: list[tuple[float, float, float, float]] = []
    shown = {}
    for colour, boxes in kinds.items():
        in_order = sorted(boxes, key=lambda box: (box.score, box.bbox[2] * box.bbox[3]))
        shown[colour] = in_order[-(MOST_FALSE if colour == _FALSE else MOST) :]
        for box in shown[colour]:
            x, y, w, h = (scale * value for value in box.bbox)
            edges = (max(x, 1), max(y, 1), min(x + w, image.width - 2), min(y + h, image.height - 2))
            if edges[2] > edges[0] and edges[3] > edges[1]:
                _outline(draw, edges, colour)
    for colour, boxes in reversed(shown.items()):
        for box in reversed(boxes):
            x, y = (scale * value for value in box.bbox[:2])
            score = f" {box.score:.2f}" if colour in (_HIT, _FALSE) else ""
            _tag(draw, image, (x, y), f"{_SIGN[colour]}{box.name}{score}", colour, font, named)
    return image


def _outline(draw: ImageDraw.ImageDraw, edges: tuple[float, float, float, float], colour: str) -> None:
    """A rectangle with a dark edge around its line, which shows on bright and on dark ground."""
    left, top, right, bottom = edges
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for paint, width in (("#000000", 4), (colour, 2)):
        for start, end in itertools.pairwise(corners):
            for piece in _dashes(start, end, _DASH[colour]):
                draw.line(piece, paint, width)


def _dashes(
    start: tuple[float, float], end: tuple[float, float], dash: tuple[int, ...]
) -> list[list[tuple[float, float]]]:
    """A line in pieces; whole without a dash."""
    if not dash:
        return [[start, end]]
    drawn, left_out = dash
    a, b = np.array(start), np.array(end)
    length = float(np.linalg.norm(b - a)) or 1.0
    starts = np.arange(0, length, drawn + left_out)
    ends = np.minimum(starts + drawn, length)
    pieces = a + (b - a) * np.stack((starts, ends), axis=1)[..., None] / length  # (n, 2 ends, x and y)
    return [[tuple(point) for point in piece] for piece in pieces]


def _tag(
    draw: ImageDraw.ImageDraw,
    image: Image.Image,
    corner: tuple[float, float],
    text: str,
    colour: str,
    font: ImageFont.FreeTypeFont,
    named: list[tuple[float, float, float, float]],
) -> None:
    """The name above a box's corner, inside the image, black on its kind's colour, unless one of `named` is there."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    width, height = right - left + 4, bottom - top + 3
    x = min(max(corner[0] - 1, 0), max(image.width - width, 0))
    y = corner[1] - height if corner[1] >= height else corner[1]
    y = min(max(y, 0), max(image.height - height, 0))
    place = (x, y, x + width, y + height)
    if any(x < right and left < x + width and y < bottom and top < y + height for left, top, right, bottom in named):
        return
    named.append(place)
    draw.rectangle(place, colour)
    draw.text((x + 2 - left, y + 1 - top), text, "black", font)


def _font(texts: Sequence[str], longest: int) -> ImageFont.FreeTypeFont:
    """A font with the letters of the texts, in a size for an image of this length."""
    return ImageFont.truetype(file_with("".join(texts)), max(11, longest // 40))
