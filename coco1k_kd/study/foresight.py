"""What a study can find, in how many hours, and what would help most per hour: from before its first run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import fmean

from coco1k_kd.report.comparison import Power, Way
from coco1k_kd.runs.spec import EPOCHS, Result
from coco1k_kd.study.arms import Key
from coco1k_kd.study.comparing import asked_for
from coco1k_kd.study.hours import SECONDS
from coco1k_kd.study.plan import Study
from coco1k_kd.verdict.entry import BLIND, Entry
from coco1k_kd.verdict.intervals import Estimate
from coco1k_kd.verdict.looks import MAX_LOOK, Design
from coco1k_kd.verdict.power import expected, found, prior

_HELPS = 0.05  # of the difference: what a way must spare to be worth a word
_FREE = 0.02  # of the study's hours: less than this is no time


def power_of(
    study: Study, design: Design, images: int, entries: Sequence[Entry], results: Mapping[Key, Result], hours: float
) -> Power | None:
    """What the study finds, by the widest of the comparisons so far that were asked for; None with one seed.

    Args:
        study: what is done.
        design: its looks.
        images: that judge.
        entries: the comparisons.
        results: of finished runs.
        hours: that the whole study takes, as far as finished runs tell.
    """
    units, asked = study.units, len(asked_for(study))
    if units < 2 or not asked:  # one seed, or one arm alone: there is nothing to find
        return None
    seen = [entry for entry in entries if entry.reason not in BLIND]
    if seen:
        wide = max(seen, key=lambda entry: entry.d_ap.interval[1] - entry.d_ap.interval[0])
        more = judging_hours(results, wide.images, len(study.plan()))
        told = foresee(design, units, images, asked, wide, hours, more)
    else:
        told = foresee(design, units, images, asked)
    told.unit = study.unit_name
    return told


def foresee(
    design: Design,
    units: int,
    images: int,
    family: int,
    entry: Entry | None = None,
    hours: float | None = None,
    hours_of_images: float | None = None,
) -> Power:
    """What a study finds with 80% probability.

    Args:
        design: its looks.
        units: seeds or draws at most.
        images: that judge.
        family: comparisons that share the error.
        entry: the widest comparison so far; without one the spreads are those of our own studies.
        hours: that the whole study takes; with them the ways that would help are compared.
        hours_of_images: that it takes to judge all runs on as many images again.
    """
    now = Estimate.of(entry, entry.d_ap) if entry else prior(images)
    plan = expected(now)
    least = found(plan, design, units, family)
    told = Power(least, units, hours=hours, prior=now.units == 1)
    if hours is None:
        return told
    more, twice = ceil(1.5 * units), 2 * units
    if twice <= MAX_LOOK:
        looks = design.looks  # none: a fixed number has one look, whatever it is
        longer, faster = Design((*looks, more) if looks else ()), Design(tuple(2 * look for look in looks))
        told.ways += [
            Way("seeds", more, found(plan, longer, more, family), (more / units - 1) * hours),
            Way("epochs", twice, found(plan, faster, twice, family), 0.0),
        ]
    doubled = plan.planned(plan.units, 2 * plan.images)
    told.ways.append(Way("images", 2 * images, found(doubled, design, units, family), hours_of_images or 0.0))
    best = max(told.ways, key=lambda way: (least - way.finds) / max(way.hours, _FREE * hours))
    told.best = best.what if best.finds < (1 - _HELPS) * least else None
    return told


def judging_hours(results: Mapping[Key, Result], images: int, runs: int) -> float:
    """Hours to evaluate the checkpoints of so many runs on so many images, by what validation has taken."""
    each = [result.val_seconds / max(result.epochs * result.work["val_images"], 1) for result in results.values()]
    return fmean(each) * images * runs * len(EPOCHS) / SECONDS if each else 0.0
