"""What only the saved predictions show, as the plots take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
