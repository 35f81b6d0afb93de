"""COCO figures of saved predictions, computed once a file: about a second for the 5,000 images of val2017."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

import numpy as np

from coco1k_kd.data.groups import Groups
from coco1k_kd.files import state
from coco1k_kd.verdict.coco import SIZES, Detections, Ranking, Truth, rankings, read_detections, read_truth
from coco1k_kd.verdict.precision import figures

_Made = TypeVar("_Made")
_KEPT = 64  # files whose figures are remembered: 1 MB each for 450 images, 8 MB for 5,000
_MATCHED = 8  # files whose matches are remembered, those of an arm: 27 MB each for 5,000 images


@dataclass(frozen=True)
class Figures:
    """AP of one model by box size (A), IoU threshold (T) and class (C), and each image's (I) influence on it."""

    names: list[str]  # classes, in the order of their category ids
    ap: np.ndarray  # (A, T, C), NaN for a class without boxes
    influence: np.ndarray  # (A, C, I) on the mean over thresholds
    influence50: np.ndarray  # (C, I) on AP at the first threshold, of all sizes
    shown: np.ndarray  # (A, C, I) bool: the image shows a box of the class

    @property
    def images(self) -> int:
        return self.shown.shape[-1]

    def by_group(self, groups: Groups) -> Figures:
        """The same with groups of images in the place of single ones."""
        influence, influence50 = groups.sums(self.influence), groups.sums(self.influence50)
        return Figures(self.names, self.ap, influence, influence50, groups.sums(self.shown.astype(int)) > 0)


def kept(most: int | None) -> Callable[[Callable[..., _Made]], Callable[..., _Made]]:
    """Decorator: what was made of files is remembered, the last `most` (None: all), while the files stay the same."""

    def of(make: Callable[..., _Made]) -> Callable[..., _Made]:
        made = lru_cache(most)(lambda states, *given: make(*given))

        @wraps(make)
        def known_or_made(*given: object) -> _Made:
            return made(tuple(_state(one) for one in given if isinstance(one, Path)), *given)

        return known_or_made

    return of


def _state(path: Path) -> tuple[int, ...] | None:
    """Changes when the file does."""
    with contextlib.suppress(OSError):
        return state(path)
    return None


@kept(2)
def truth_of(annotations: Path) -> Truth:
    """The ground truth of a file."""
    return read_truth(annotations)


@kept(_MATCHED)
def matched(annotations: Path, predictions: Path) -> tuple[Truth, Detections, list[Ranking]]:
    """Ground truth, detections, and the matches of one to the other by class."""
    truth = truth_of(annotations)
    found = read_detections(predictions, truth)
    return truth, found, rankings(truth, found)


@kept(_KEPT)
def figures_of(annotations: Path, predictions: Path) -> Figures:
    """The figures of a file."""
    truth, _, by_class = matched(annotations, predictions)
    return of_rankings(by_class, truth.names)


@kept(None)
def coco_metrics(
    annotations: Path, predictions: Path, classes: tuple[int, ...] | None = None
) -> dict[str, float | None]:
    """COCOeval's AP, AP50, AP75 and AP by box size, as fractions; None (there -1) if there is no such box.

    Of all classes, or of those with these numbers in the order of category ids. Raises UserError if a file is missing,
    is not what it should be, or speaks of other images.
    """
    ap = figures_of(annotations, predictions).ap  # (A, T, C)
    ap = ap if classes is None else ap[..., list(classes)]
    cells = {"ap": ap[0], "ap50": ap[0, 0], "ap75": ap[0, 5]}
    cells |= {f"ap_{size}": ap[a] for a, size in enumerate(SIZES) if a}
    return {name: None if np.isnan(cell).all() else float(np.nanmean(cell)) for name, cell in cells.items()}


def of_rankings(by_class: Sequence[Ranking], names: list[str]) -> Figures:
    """The figures of one model's matches."""
    each = [figures(ranking) for ranking in by_class]
    return Figures(
        names,
        np.stack([one.ap for one in each], axis=-1),
        np.stack([one.influence for one in each], axis=1).astype(np.float32),
        np.stack([one.influence50 for one in each]).astype(np.float32),
        np.stack([ranking.boxes > 0 for ranking in by_class], axis=1),
    )
