"""What only the saved predictions show, as the plots take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from coco1k_kd.report.examples import Examples
    from coco1k_kd.report.words import Words


@dataclass(frozen=True)
class Curve:
    """Precision (R,) over recall (R,), mean over classes, between the ends of its 95% interval."""

    recall: np.ndarray
    precision: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """The share of right boxes by their score (bins,), between the ends of its 95% interval."""

    confidence: np.ndarray
    precision: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: float  # expected calibration error


@dataclass(frozen=True)
class Evidence:
    """Figures that need predictions. What could not be had is left out, with a sentence each."""

    left_out: Sequence[str] = ()
    against: str = ""  # the arm that errors are compared with
    errors: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)  # arm -> kind -> {mean, ci95}
    precision_recall: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)  # IoU -> arm -> curve
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    examples: Examples | None = None


def gather(comparison: Mapping[str, Any], words: Words) -> Evidence:
    """The evidence of a comparison, from the predictions that its runs have left."""
    return Evidence()
