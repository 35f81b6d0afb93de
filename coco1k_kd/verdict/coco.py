"""COCO ground truth and detections as arrays, and COCOeval's matches of one to the other for all images at once.

COCOeval walks through images, classes, sizes and thresholds in Python. Only pairs of a detection and a box with an IoU
of 0.5 or more can become matches, and they are few; here the n-th such detections of all images take their boxes at the
same time. The rules (crowds, boxes of other sizes, ties, 100 detections an image and class) are those of
https://github.com/cocodataset/cocoapi/blob/master/PythonAPI/pycocotools/cocoeval.py; tests hold both to each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from coco1k_kd.data.annotations import MEDIUM, SMALL, read
from coco1k_kd.errors import UserError
from coco1k_kd.files import NOT_JSON

SIZES = ("all", "small", "medium", "large")
THRESHOLDS = np.linspace(0.5, 0.95, 10)
_LIMITS = np.array([[0, 1e10], [0, SMALL], [SMALL, MEDIUM], [MEDIUM, 1e10]])  # square pixels, both ends included
_MOST = 100  # detections of one image and class that count


@dataclass(frozen=True)
class Truth:
    """G boxes of I images and C classes. Boxes are left, top, width, height in pixels."""

    image_ids: np.ndarray  # (I,) ascending
    files: list[str]  # (I,) paths of the images within the split's folder
    category_ids: np.ndarray  # (C,) ascending
    names: list[str]  # of the classes
    image: np.ndarray  # (G,) position among the images
    category: np.ndarray  # (G,) position among the classes
    box: np.ndarray  # (G, 4)
    area: np.ndarray  # (G,) of the object, not of its box
    crowd: np.ndarray  # (G,) bool

    def __getitem__(self, chosen: np.ndarray) -> Truth:
        """The same images and classes with these boxes alone."""
        parts = {name: getattr(self, name)[chosen] for name in ("image", "category", "box", "area", "crowd")}
        return replace(self, **parts)


@dataclass(frozen=True)
class Detections:
    """D detections, in the order of their file."""

    image: np.ndarray  # (D,)
    category: np.ndarray  # (D,)
    box: np.ndarray  # (D, 4)
    score: np.ndarray  # (D,)

    def __getitem__(self, chosen: np.ndarray) -> Detections:
        return Detections(self.image[chosen], self.category[chosen], self.box[chosen], self.score[chosen])


@dataclass(frozen=True)
class Ranking:
    """What one model found of one class, best score first, for A ranges of box sizes and T IoU thresholds."""

    score: np.ndarray  # (D,)
    image: np.ndarray  # (D,) position of the detection's image among the I images
    hit: np.ndarray  # (A, T, D) bool: matches a box that counts
    counted: np.ndarray  # (A, T, D) bool: hit or false alarm; the rest is ignored (crowd, other size)
    boxes: np.ndarray  # (A, I) ground-truth boxes that count


class _Found(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


def read_truth(path: Path) -> Truth:
    """What judges, of COCO annotations (`Annotations.truth`). Raises UserError where they are unusable."""
    content = read(path).truth()
    images = sorted(content["images"], key=lambda image: image["id"])
    categories = sorted(content["categories"], key=lambda category: category["id"])
    boxes = content["annotations"]
    image_ids, category_ids = (np.array([one["id"] for one in found], int) for found in (images, categories))
    return Truth(
        image_ids,
        [image["file_name"] for image in images],
        category_ids,
        [category["name"] for category in categories],
        np.searchsorted(image_ids, [box["image_id"] for box in boxes]),
        np.searchsorted(category_ids, [box["category_id"] for box in boxes]),
        np.array([box["bbox"] for box in boxes], float).reshape(-1, 4),
        np.array([box["area"] for box in boxes], float),
        np.array([box["iscrowd"] for box in boxes], bool),
    )


def read_detections(path: Path, truth: Truth) -> Detections:
    """Read detections in COCO's results format; those of other classes than the truth's do not count.

    Raises UserError if the file is missing, is not what it should be, or speaks of other images.
    """
    found = _decoded(path)
    image_ids = np.array([one.image_id for one in found], int)
    if not np.isin(image_ids, truth.image_ids).all():
        raise UserError(
            f"{path} holds detections on images that the annotations do not have: evaluate on the same split"
        )
    wanted = np.array([one.category_id for one in found], int)
    detections = Detections(
        np.searchsorted(truth.image_ids, image_ids),
        np.searchsorted(truth.category_ids, wanted),
        np.array([one.bbox for one in found], float).reshape(-1, 4),
        np.array([one.score for one in found], float),
    )
    return detections[np.isin(wanted, truth.category_ids)]


def of_images(tables: Iterable[np.ndarray | None]) -> Detections:
    """What was found in each image, in the order of the truth's images: (n, 6) class, score, left, top, width, height.

    None, or an empty table, for an image in which there is nothing.
    """
    found = [(i, table) for i, table in enumerate(tables) if table is not None and len(table)]
    rows = np.concatenate((np.zeros((0, 7)), *(np.column_stack((np.full(len(of), i), of)) for i, of in found)))
    return Detections(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 3:], rows[:, 2])


def pairs(image: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with `image[i] == other[j]`: ascending in i, then in j."""
    order = np.argsort(other, kind="stable")
    first, last = (np.searchsorted(other[order], image, side=side) for side in ("left", "right"))
    number = last - first
    before = np.repeat(np.cumsum(number) - number, number)
    i = np.repeat(np.arange(len(image)), number)
    return i, order[np.arange(len(i)) - before + first[i]]


def overlap(box: np.ndarray, of: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU of N pairs of boxes (N, 4), for a crowd the share of `box` that lies in it: pycocotools' bbIou."""
    width = np.minimum(box[:, 0] + box[:, 2], of[:, 0] + of[:, 2]) - np.maximum(box[:, 0], of[:, 0])
    height = np.minimum(box[:, 1] + box[:, 3], of[:, 1] + of[:, 3]) - np.maximum(box[:, 1], of[:, 1])
    both = np.where((width > 0) & (height > 0), width * height, 0.0)
    area = box[:, 2] * box[:, 3]
    whole = np.where(crowd, area, area + of[:, 2] * of[:, 3] - both)
    return np.divide(both, whole, out=np.zeros_like(both), where=both > 0)


def best_first(truth: Truth, found: Detections) -> Detections:
    """The detections that count, by image, class and falling score; where scores are equal, as they come."""
    order = np.lexsort((-found.score, found.category, found.image))
    cell = (found.image * len(truth.names) + found.category)[order]
    return found[order[rank_within(cell) < _MOST]]


def rankings(truth: Truth, found: Detections) -> list[Ranking]:
    """COCOeval's matches: one ranking a class."""
    found = best_first(truth, found)
    ignored = truth.crowd | (truth.area < _LIMITS[:, :1]) | (truth.area > _LIMITS[:, 1:])  # (A, G)
    box = match(truth, found, ignored, THRESHOLDS)
    matched = box >= 0
    to_ignore = matched & [out[of] for out, of in zip(ignored, box, strict=True)] if len(truth.image) else matched
    area = found.box[:, 2] * found.box[:, 3]
    outside = (area < _LIMITS[:, :1]) | (area > _LIMITS[:, 1:])
    counted = ~(to_ignore | (~matched & outside[:, None]))
    hit = matched & counted
    by_class = []
    for category in range(len(truth.names)):
        of_class = np.flatnonzero(found.category == category)
        order = of_class[np.argsort(-found.score[of_class], kind="stable")]
        ours = truth.category == category
        boxes = [np.bincount(truth.image[ours & ~out], minlength=len(truth.image_ids)) for out in ignored]
        score, image = found.score[order], found.image[order]
        by_class.append(Ranking(score, image, hit[..., order], counted[..., order], np.array(boxes)))
    return by_class


def match(truth: Truth, found: Detections, ignored: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The box that each detection takes, -1 for none: (A, T, D), for A choices of boxes to ignore (A, G).

    The detections of an image and class take their boxes by falling score, equal ones as they come. Each takes, among
    the boxes that are left and overlap enough, one that counts before one to ignore, then the one with the larger IoU,
    then the later. Crowds can be taken any number of times.
    """
    classes = len(truth.names)
    cell = found.image * classes + found.category
    d, g = pairs(cell, truth.image * classes + truth.category)
    iou = overlap(found.box[d], truth.box[g], truth.crowd[g])
    near = iou >= thresholds[0]
    order = np.lexsort((g[near], iou[near], d[near]))  # within a detection the best is last
    d, g, iou = d[near][order], g[near][order], iou[near][order]
    shape = (len(ignored), len(thresholds))
    box_of = np.full((len(found.score), *shape), -1)
    taken = np.zeros((len(truth.image), *shape), bool)
    ours, of_detection = np.unique(d, return_inverse=True)
    by_turn = np.lexsort((ours, -found.score[ours], cell[ours]))
    turn = np.empty(len(ours), int)  # of each detection within its image and class
    turn[by_turn] = rank_within(cell[ours][by_turn])
    reached = iou[:, None] >= thresholds
    value = rank_within(d) + 1 + ~ignored[:, g] * (1 + len(g))  # (A, N): what is preferred
    for number in range(turn.max(initial=-1) + 1):
        now = np.flatnonzero(turn[of_detection] == number)
        detection, box = d[now], g[now]
        free = reached[now, None] & (~taken[box] | truth.crowd[box, None, None])
        worth = np.where(free, value.T[now, :, None], 0)
        starts = np.flatnonzero(np.r_[True, detection[1:] != detection[:-1]])
        best = np.maximum.reduceat(worth, starts)
        chosen = (worth > 0) & (worth == np.repeat(best, np.diff(np.r_[starts, len(now)]), axis=0))
        np.logical_or.at(taken, box, chosen)
        box_of[detection[starts]] = np.maximum.reduceat(np.where(chosen, box[:, None, None], -1), starts)
    return box_of.transpose(1, 2, 0)


def rank_within(group: np.ndarray) -> np.ndarray:
    """Position of each element within its run of equal neighbours."""
    if not len(group):
        return np.zeros(0, int)
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    return np.arange(len(group)) - np.repeat(starts, np.diff(np.r_[starts, len(group)]))


def _decoded(path: Path) -> list[_Found]:
    try:
        data = Path(path).read_bytes()
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.json.decode(data, type=list[_Found])
        content = msgspec.json.decode(data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except NOT_JSON as error:
        raise UserError(f"{path} is not valid JSON ({error}): write it anew") from None
    if not isinstance(content, list):
        raise UserError(f"{path} holds no JSON list of detections: is it the right file?")
    try:
        return msgspec.convert(content, list[_Found])
    except msgspec.ValidationError as error:
        raise UserError(f"{path} is not in COCO's results format ({error}): write it anew") from None
