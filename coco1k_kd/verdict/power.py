"""What a study can find: the true difference that it finds with 80% probability by its last look.

Found by simulating the noise of studies with the variances at hand: each of them finds every difference that is larger
than what its own intervals hide at one of the looks, and four of five of them must.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coco1k_kd.verdict.intervals import BAND, Estimate
from coco1k_kd.verdict.looks import Design

POWER = 0.8
PRIOR_UNIT, PRIOR_IMAGE = 0.0036, 0.05  # standard deviation between seeds, and of an image's part; AP fractions
_STUDIES = 4000


def prior(images: float, units: int = 1) -> Estimate:
    """What is expected before anything has run; the figures are those of our studies (docs/statistics.md, "Power")."""
    return Estimate(0.0, 1, units, images, PRIOR_IMAGE**2 / images, 0.0, PRIOR_UNIT**2)


def expected(now: Estimate) -> Estimate:
    """The same variances, where one unit does not tell its spread with the prior one."""
    return replace(now, spread=now.single + PRIOR_UNIT**2) if now.units == 1 else now


def found(expected: Estimate, design: Design, units: int, family: int = 1) -> float:
    """The true difference, an AP fraction, of which 80% of studies say `improves` by their last look.

    Args:
        expected: its variances, taken for the true ones; `planned` changes the number of images.
        design: its looks; of a fixed design the one after `units`.
        units: draws or seeds that the study has at most.
        family: how many comparisons share the error.
    """
    rng = np.random.default_rng(0)
    looks = [look for look in design.looks if look < units] + [units]
    of_units = rng.standard_normal((_STUDIES, units)) * expected.spread**0.5
    of_all = expected.shared, expected.spread * expected.overlap / (1 - expected.overlap)
    common = rng.standard_normal((_STUDIES, 2)) @ np.sqrt(of_all)
    least = np.full(_STUDIES, np.inf)
    for look in looks:
        seen = of_units[:, :look]
        studies = replace(expected.planned(look, expected.images), spread=seen.var(axis=1, ddof=1))
        half = studies.half_width(design.level_at(look, family))
        np.minimum(least, np.maximum(half, BAND - half) - (seen.mean(axis=1) + common), out=least)
    return float(np.quantile(least, POWER))
