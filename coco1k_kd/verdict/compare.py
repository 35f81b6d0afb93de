"""How sure a difference between two arms is, from their saved predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from msgspec import structs

from coco1k_kd.errors import UserError
from coco1k_kd.verdict.entry import Difference, Entry, Last, Replicate, RunDifference
from coco1k_kd.verdict.intervals import Estimate, corrected, estimate, needed, verdict
from coco1k_kd.verdict.looks import FIXED, Design
from coco1k_kd.verdict.matching import SIZES, Map, Matches, match_all
from coco1k_kd.verdict.resampling import Ranking, average_precision, bootstrap_weights, mean_over_classes


def compare(
    annotations: Path,
    runs: Mapping[Replicate, Path],
    against: Mapping[Replicate, Path],
    replicates: int = 2000,
    seed: int = 0,
    in_parts: bool = True,
    each: Map = map,
) -> Entry:
    """Does the arm `runs` differ from the arm `against`? Both map a (draw, seed) to a predictions file.

    Returns one entry of `comparisons` (docs/comparison.schema.json) without the arms' names, judged alone and by plain
    95% intervals; `decide` judges it among others. Without `in_parts` only the overall difference: no class and no box
    size. `each`: of `matching.processes`, for more than one core. The method is in docs/statistics.md. Raises UserError
    if the arms have other runs, or a file is unusable.
    """
    if not runs or runs.keys() != against.keys():
        raise UserError(
            "arms are compared run by run, but have the (draw, seed) "
            f"{sorted(runs)} and {sorted(against)}: run the missing ones"
        )
    keys = sorted(runs)
    files = [side[key] for side in (runs, against) for key in keys]
    matches = match_all(annotations, files, each)
    sides = matches[: len(keys)], matches[len(keys) :]
    return compare_matches(*sides, keys, replicates, seed, in_parts, each)


def compare_matches(
    runs: Sequence[Matches],
    against: Sequence[Matches],
    keys: Sequence[Replicate],
    replicates: int,
    seed: int = 0,
    in_parts: bool = True,
    each: Map = map,
) -> Entry:
    """`compare` on matches, one of each arm per (draw, seed) of `keys`."""
    draws = [draw for draw, _ in keys]
    images, names, rankings = runs[0].images, runs[0].names, runs[0].rankings
    if not any(ranking.boxes.any() for ranking in rankings["all"]):
        raise UserError("the validation images hold no boxes: nothing to compare")

    def difference(size: str) -> np.ndarray:
        """AP and AP50: (2, classes, 1 + B, runs)."""
        one, other = (resampled([m.rankings[size] for m in side], replicates, seed, each) for side in (runs, against))
        return one - other

    ap, ap50 = difference("all")
    overall, overall50 = (estimate(mean_over_classes(d), draws, images) for d in (ap, ap50))
    per_run = zip(keys, mean_over_classes(ap)[0].tolist(), strict=True)
    word, reason = verdict(overall)
    entry = Entry(
        draws=sorted({draw for draw, _ in keys}),
        seeds=sorted({seed for _, seed in keys}),
        images=images,
        replicates=replicates,
        d_ap=overall.summary(),
        d_ap50=overall50.summary(),
        per_run=[RunDifference(draw, seed, d) for (draw, seed), d in per_run],
        mde=overall.mde(),
        verdict=word,
        reason=reason,
        needed=needed(overall) if word == "inconclusive" else None,
    )
    if not in_parts:
        return entry

    boxes = {size: np.array([ranking.boxes for ranking in rankings[size]]) for size in SIZES if size in rankings}
    shown_in = np.count_nonzero(boxes["all"], axis=1).tolist()
    per_class = {n: estimate(d, draws, i) for n, d, i in zip(names, ap, shown_in, strict=True) if i}
    per_size = {
        size: estimate(mean_over_classes(difference(size)[0]), draws, int(np.count_nonzero(of_size.any(axis=0))))
        for size, of_size in boxes.items()
        if size != "all" and of_size.any()
    }
    return structs.replace(entry, per_class=corrected(per_class), per_size=corrected(per_size))


def decide(
    entries: Sequence[Entry], design: Design = FIXED, unplanned: bool = False, family: str = "baseline"
) -> list[Entry]:
    """The entries with verdicts that hold all at once, at every look of the design.

    Those against `family` share the 5% of false verdicts (Holm's steps: what is settled at a level leaves its share to
    the rest); every other comparison is a question of its own. `unplanned`: seeds were added to a study that had ended.
    An entry that was settled at an earlier look stands as it was compared there, with the seeds of that look.
    """
    together = [i for i, entry in enumerate(entries) if entry.against == family]
    groups = [together, *([i] for i in range(len(entries)) if i not in together)]
    decided: dict[int, Entry] = {}
    for group in groups:
        left = group
        while left:
            judged = {i: _judged(entries[i], design, len(left), unplanned) for i in left}
            still = [i for i in left if judged[i].verdict == "inconclusive"]
            decided |= judged
            if len(still) == len(left):
                break
            left = still
    return [decided[i] for i in range(len(entries))]


def _judged(entry: Entry, design: Design, family: int, unplanned: bool) -> Entry:
    seeds = len(entry.seeds)
    level = design.level_at(seeds, family)
    overall, overall50 = (_estimate(entry, difference) for difference in (entry.d_ap, entry.d_ap50))
    word, reason = verdict(overall, level)
    last = entry.last
    if last:
        of_last, of_last50 = (_estimate(entry, difference) for difference in (last.d_ap, last.d_ap50))
        last = Last(of_last.summary(level), of_last50.summary(level), of_last.mde(level), verdict(of_last, level)[0])
    return structs.replace(
        entry,
        level=level,
        family=family,
        unplanned=unplanned,
        d_ap=overall.summary(level),
        d_ap50=overall50.summary(level),
        p_holm=min(1.0, family * design.overall(overall.p, seeds)),
        mde=overall.mde(level),
        verdict=word,
        reason=reason,
        needed=needed(overall, level) if word == "inconclusive" else None,
        last=last,
    )


def _estimate(entry: Entry, difference: Difference) -> Estimate:
    """What the entry's difference was summarised from."""
    parts = structs.asdict(difference.components)
    return Estimate(difference.mean, len(entry.draws), len(entry.seeds), entry.images, **parts)


def resampled(models: Sequence[Sequence[Ranking]], replicates: int, seed: int = 0, each: Map = map) -> np.ndarray:
    """AP and AP50 of every class, resample and model: (2, classes, 1 + B, models).

    The first resample is the sample itself; the others depend on `seed` alone, hence are the same for every model.
    """
    jobs = [ranking for by_class in zip(*models, strict=True) for ranking in by_class]
    done = each(_resample, jobs, *_repeated(len(jobs), replicates, seed))
    figures = np.stack(list(done)).reshape(-1, len(models), 2, 1 + replicates)
    return figures.transpose(2, 0, 3, 1)


def _repeated(times: int, *values: int) -> list[list[int]]:
    """The same arguments for every job."""
    return [[value] * times for value in values]


def _resample(ranking: Ranking, replicates: int, seed: int) -> np.ndarray:
    """AP and AP50 of one class: (2, 1 + B)."""
    return _both(average_precision(ranking, _bootstrap(len(ranking.boxes), replicates, seed)))


def _both(ap: np.ndarray) -> np.ndarray:
    return np.stack([ap.mean(axis=0), ap[0]])


@lru_cache(maxsize=1)
def _bootstrap(images: int, replicates: int, seed: int) -> np.ndarray:
    """Weights (I, 1 + B): each image once, then the resamples."""
    weights = bootstrap_weights(images, replicates, np.random.default_rng(seed))
    return np.concatenate([np.ones((images, 1)), weights], axis=1)
