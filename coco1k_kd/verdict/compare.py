"""How sure a difference between two arms is, from their saved predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import structs

from coco1k_kd.data.groups import Groups, equal_groups, groups_of
from coco1k_kd.errors import UserError
from coco1k_kd.verdict.coco import SIZES
from coco1k_kd.verdict.entry import BLIND, Entry, ImageInfluence, Last, Reason, Replicate, RunDifference
from coco1k_kd.verdict.intervals import (
    BAND,
    MIN_CLASS_IMAGES,
    MIN_IMAGES,
    Estimate,
    corrected,
    estimate,
    needed,
    verdict,
)
from coco1k_kd.verdict.looks import FIXED, Design
from coco1k_kd.verdict.matching import Figures, figures_of, truth_of


def compare(
    annotations: Path,
    runs: Mapping[Replicate, Path],
    against: Mapping[Replicate, Path],
    in_parts: bool = True,
    groups: str | None = None,
    overlap: float = 0.0,
) -> Entry:
    """Does the arm `runs` differ from the arm `against`? Both map a (draw, seed) to a predictions file.

    Returns one entry of `comparisons` (docs/comparison.schema.json) without the arms' names, judged alone and by plain
    95% intervals; `decide` judges it among others, and says what an open question needs. Without `in_parts` only the
    overall difference: no class and no box size. `groups` is a pattern that finds in the images' file names which of
    them are one sample (`data/groups.py`), `overlap` the share of the train images that two draws have in common.
    The method is in docs/statistics.md. Raises UserError if the arms have other runs, or a file is unusable.
    """
    if not runs or runs.keys() != against.keys():
        raise UserError(
            "arms are compared run by run, but have the (draw, seed) "
            f"{sorted(runs)} and {sorted(against)}: run the missing ones"
        )
    keys = sorted(runs)
    sides = ([figures_of(annotations, side[key]) for key in keys] for side in (runs, against))
    found = groups_of(groups, truth_of(annotations).files) if groups else None
    return compare_figures(*sides, keys, in_parts, found, overlap)


def compare_figures(
    runs: Sequence[Figures],
    against: Sequence[Figures],
    keys: Sequence[Replicate],
    in_parts: bool = True,
    groups: Groups | None = None,
    overlap: float = 0.0,
) -> Entry:
    """`compare` on figures, one of each arm per (draw, seed) of `keys`."""
    draws = [draw for draw, _ in keys]
    first = runs[0]
    shown, images = first.shown, first.images
    if groups:
        runs, against = ([figures.by_group(groups) for figures in side] for side in (runs, against))
    if not shown[0].any():
        raise UserError("the validation images hold no boxes: nothing to compare")

    def difference(figure: Callable[[Figures], np.ndarray]) -> np.ndarray:
        """The runs' differences in a figure, runs last."""
        return np.stack([figure(one) - figure(other) for one, other in zip(runs, against, strict=True)], axis=-1)

    def samples(chosen: np.ndarray) -> np.ndarray:
        """How many independent samples the `chosen` (..., I) images are."""
        return equal_groups(groups.sums(chosen.astype(int))) if groups else chosen.sum(axis=-1)

    def of_size(a: int) -> tuple[np.ndarray, np.ndarray]:
        """AP (C, R) and influence (C, I, R) in a range of box sizes."""
        return difference(lambda f: f.ap[a].mean(axis=0)), difference(lambda f: f.influence[a])

    ap, influence = of_size(0)
    ap50, influence50 = difference(lambda f: f.ap[0, 0]), difference(lambda f: f.influence50)
    of_runs, of_runs50 = (mean_over_classes(*of, shown[0]) for of in ((ap, influence), (ap50, influence50)))
    independent = float(samples(np.ones(images, bool)))
    overall, overall50 = (estimate(*of, draws, independent, overlap) for of in (of_runs, of_runs50))
    present = shown[0].any(axis=-1)
    best = max(float(np.mean([of.ap[0][:, present] for of in side])) for side in (runs, against))
    reason = blind(float(samples(shown[0].any(axis=0))), samples(shown[0]), len(keys), best)
    word, reason = ("inconclusive", reason) if reason else verdict(overall)
    entry = Entry(
        draws=sorted({draw for draw, _ in keys}),
        seeds=sorted({seed for _, seed in keys}),
        images=images,
        groups=groups.count if groups else None,
        samples=independent if groups else None,
        d_ap=overall.summary(),
        d_ap50=overall50.summary(),
        per_run=[RunDifference(draw, seed, d) for (draw, seed), d in zip(keys, of_runs[0].tolist(), strict=True)],
        mde=overall.mde(),
        verdict=word,
        reason=reason,
    )
    if not in_parts:
        return entry
    of_class, carriers = samples(shown[0]), shown[0].sum(axis=-1)
    by_class = {name: c for c, name in enumerate(first.names) if carriers[c]}
    by_size = {size: a for a, size in enumerate(SIZES[: len(shown)]) if a and shown[a].any()}
    per_class = {
        name: estimate(ap[c], influence[c], draws, float(of_class[c]), overlap) for name, c in by_class.items()
    }
    per_size = {
        size: estimate(*mean_over_classes(*of_size(a), shown[a]), draws, float(samples(shown[a].any(axis=0))), overlap)
        for size, a in by_size.items()
    }
    return structs.replace(
        entry,
        per_class=corrected(per_class, {name: int(carriers[c]) for name, c in by_class.items()}),
        per_size=corrected(per_size, {size: int(shown[a].any(axis=0).sum()) for size, a in by_size.items()}),
    )


def influence(
    annotations: Path, runs: Mapping[Replicate, Path], against: Mapping[Replicate, Path]
) -> list[ImageInfluence]:
    """Each image's own share of the difference in AP, averaged over runs: what the arm gains most from comes first.

    The share is the image's influence (`precision.py`): the difference less what it would be without the image.
    """
    keys = sorted(runs)
    truth = truth_of(annotations)
    sides = ([figures_of(annotations, side[key]) for key in keys] for side in (runs, against))
    changes = [
        mean_over_classes(o.ap[0, 0], o.influence[0] - a.influence[0], o.shown[0])[1]
        for o, a in zip(*sides, strict=True)
    ]
    shares = np.mean(changes, axis=0)
    order = np.lexsort((truth.image_ids, -shares))
    return [ImageInfluence(int(truth.image_ids[i]), truth.files[i], float(shares[i])) for i in order]


def mean_over_classes(values: np.ndarray, influence: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of (C, R) values and (C, I, R) influences over the classes that have boxes, by `shown` (C, I)."""
    present = shown.any(axis=-1)
    return values[present].mean(axis=0), influence[present].mean(axis=0)


def blind(images: float, of_classes: np.ndarray, units: int, best: float) -> Reason | None:
    """Why images cannot tell how sure a difference is: of any class there are `images`, of each (C,) `of_classes`.

    `best`: AP of the better arm. Two arms that find nothing differ by nothing, whatever they would learn.
    """
    if units == 1:
        return None
    if images < MIN_IMAGES:
        return "few_images"
    if np.median(of_classes[of_classes > 0]) < MIN_CLASS_IMAGES:
        return "no_spread"
    return "nothing_found" if best < BAND else None


def decide(
    entries: Sequence[Entry],
    design: Design = FIXED,
    unplanned: bool = False,
    family: int | None = None,
    found: bool = True,
) -> list[Entry]:
    """The entries with verdicts that hold all at once, at every look of the design.

    They share the 5% of false verdicts in equal parts, and so do their intervals. Nothing that is settled leaves its
    part to the rest: the intervals would then not hold together (docs/statistics.md, "Several arms").

    Args:
        entries: comparisons of one family.
        design: of the looks.
        unplanned: whether something was changed after a verdict.
        family: how many comparisons share the error; those of `entries` by default.
        found: False for comparisons that nobody asked for in a study whose own found no effect: they have intervals,
            but neither `improves` nor `hurts`, so that a report without effects has no further chance of a false word.
    """
    shared_by = max(family or 0, len(entries))
    decided = [_judged(entry, design, shared_by, unplanned) for entry in entries]
    return decided if found else [_without_effect(entry) for entry in decided]


def decide_families(
    asked: Sequence[Entry],
    *others: Sequence[Entry],
    design: Design = FIXED,
    unplanned: bool = False,
    family: int | None = None,
) -> list[list[Entry]]:
    """The verdicts of the comparisons that were asked for, then those of others: each family has 5% of its own.

    The others have a word only where one of the first found an effect. So a report of a study without effects has a
    false word in at most 5% of studies, however much it compares. The other arguments are those of `decide`.
    """
    first = decide(asked, design, unplanned, family)
    effect = any(map(has_effect, first))
    return [first, *(decide(entries, design, unplanned, found=effect) for entries in others)]


def has_effect(entry: Entry | Last) -> bool:
    """Whether the verdict says that the arms differ."""
    return entry.verdict in ("improves", "hurts")


def _without_effect(entry: Entry) -> Entry:
    """The entry without a word that says that the arms differ."""
    if has_effect(entry):
        entry = structs.replace(entry, verdict="inconclusive", reason="gate", needed=None)
    return _same_gate(entry)


def _same_gate(entry: Entry) -> Entry:
    """The entry whose last epoch has no word for a difference where the best one has none."""
    if entry.last is None or has_effect(entry) or not has_effect(entry.last):
        return entry
    return structs.replace(entry, last=structs.replace(entry.last, verdict="inconclusive", reason="gate"))


def _judged(entry: Entry, design: Design, family: int, unplanned: bool) -> Entry:
    level = design.level_at(entry.units, family)
    overall, overall50 = (Estimate.of(entry, difference) for difference in (entry.d_ap, entry.d_ap50))
    known = entry.reason not in BLIND
    word, reason = verdict(overall, level) if known else ("inconclusive", entry.reason)
    last = entry.last
    if last:
        of_last, of_last50 = (Estimate.of(entry, difference) for difference in (last.d_ap, last.d_ap50))
        of_last_word = verdict(of_last, level)[0] if known else "inconclusive"
        last = Last(
            structs.replace(last.d_ap, ci=of_last.interval(level)),
            structs.replace(last.d_ap50, ci=of_last50.interval(level)),
            of_last.mde(level),
            of_last_word,
        )
    judged = structs.replace(
        entry,
        level=level,
        family=family,
        unplanned=unplanned,
        d_ap=structs.replace(entry.d_ap, ci=overall.interval(level)),
        d_ap50=structs.replace(entry.d_ap50, ci=overall50.interval(level)),
        p_holm=min(1.0, family * design.overall(overall.p, entry.units)),
        mde=overall.mde(level),
        verdict=word,
        reason=reason,
        needed=needed(overall, reason, level, entry.images / overall.images) if word == "inconclusive" else None,
        last=last,
    )
    return _same_gate(judged)
