"""How sure a difference between two arms is, from their saved predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from coco1k_kd.errors import UserError
from coco1k_kd.study.arms import Replicate
from coco1k_kd.verdict.intervals import corrected, estimate, judge, permutation_p
from coco1k_kd.verdict.matching import SIZES, Map, Matches, match_all
from coco1k_kd.verdict.resampling import (
    Ranking,
    average_precision,
    bootstrap_weights,
    mean_over_classes,
    pool,
    swap_weights,
)


def compare(
    annotations: Path,
    runs: Mapping[Replicate, Path],
    against: Mapping[Replicate, Path],
    replicates: int = 2000,
    seed: int = 0,
    in_parts: bool = True,
    each: Map = map,
) -> dict[str, Any]:
    """Does the arm `runs` differ from the arm `against`? Both map a (draw, seed) to a predictions file.

    Returns one entry of `comparisons` (docs/comparison.schema.json) without the arms' names; AP values are fractions.
    Without `in_parts` only the overall difference: no class, no box size and no permutation test. `each`: of
    `matching.processes`, for more than one core. The method is in docs/statistics.md. Raises UserError if the arms have
    other runs, or a file is unusable.
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
) -> dict[str, Any]:
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
    entry = {
        "draws": sorted({draw for draw, _ in keys}),
        "seeds": sorted({seed for _, seed in keys}),
        "images": images,
        "replicates": replicates,
        "d_ap": overall.summary(),
        "d_ap50": overall50.summary(),
        "per_run": [
            {"draw": draw, "seed": seed, "d_ap": d}
            for (draw, seed), d in zip(keys, mean_over_classes(ap)[0].tolist(), strict=True)
        ],
        "mde": overall.mde,
        **judge(overall),
    }
    if not in_parts:
        return entry

    swapped = _swapped(runs, against, replicates, seed, each)
    for name, observed, others in zip(("d_ap", "d_ap50"), (overall, overall50), swapped, strict=True):
        entry[name]["p_images"] = permutation_p(observed.mean, others)
    boxes = {size: np.array([ranking.boxes for ranking in rankings[size]]) for size in SIZES if size in rankings}
    shown_in = np.count_nonzero(boxes["all"], axis=1).tolist()
    per_class = {n: estimate(d, draws, i) for n, d, i in zip(names, ap, shown_in, strict=True) if i}
    per_size = {
        size: estimate(mean_over_classes(difference(size)[0]), draws, int(np.count_nonzero(of_size.any(axis=0))))
        for size, of_size in boxes.items()
        if size != "all" and of_size.any()
    }
    return entry | {"per_class": corrected(per_class), "per_size": corrected(per_size)}


def resampled(models: Sequence[Sequence[Ranking]], replicates: int, seed: int = 0, each: Map = map) -> np.ndarray:
    """AP and AP50 of every class, resample and model: (2, classes, 1 + B, models).

    The first resample is the sample itself; the others depend on `seed` alone, hence are the same for every model.
    """
    jobs = [ranking for by_class in zip(*models, strict=True) for ranking in by_class]
    done = each(_resample, jobs, *_repeated(len(jobs), replicates, seed))
    figures = np.stack(list(done)).reshape(-1, len(models), 2, 1 + replicates)
    return figures.transpose(2, 0, 3, 1)


def _swapped(runs: Sequence[Matches], against: Sequence[Matches], replicates: int, seed: int, each: Map) -> np.ndarray:
    """dAP and dAP50, mean over runs, with the arms' detections swapped on images chosen by chance: (2, B)."""
    pairs = [(a.rankings["all"], b.rankings["all"]) for a, b in zip(runs, against, strict=True)]
    first, second = ([ranking for pair in pairs for ranking in pair[side]] for side in (0, 1))
    done = each(_swap, first, second, *_repeated(len(first), replicates, seed))
    differences = np.stack(list(done)).reshape(len(pairs), -1, 2, replicates)
    return mean_over_classes(differences.swapaxes(0, 1)).mean(axis=0)


def _repeated(times: int, *values: int) -> list[list[int]]:
    """The same arguments for every job."""
    return [[value] * times for value in values]


def _resample(ranking: Ranking, replicates: int, seed: int) -> np.ndarray:
    """AP and AP50 of one class: (2, 1 + B)."""
    return _both(average_precision(ranking, _bootstrap(len(ranking.boxes), replicates, seed)))


def _swap(first: Ranking, second: Ranking, replicates: int, seed: int) -> np.ndarray:
    """How much more AP and AP50 one class has with the first choice of detections than with the other: (2, B)."""
    both, weights = pool(first, second), _swaps(len(first.boxes), replicates, seed)
    other = np.roll(weights, len(first.boxes), axis=0)
    return _both(average_precision(both, weights)) - _both(average_precision(both, other))


def _both(ap: np.ndarray) -> np.ndarray:
    return np.stack([ap.mean(axis=0), ap[0]])


@lru_cache(maxsize=1)
def _bootstrap(images: int, replicates: int, seed: int) -> np.ndarray:
    """Weights (I, 1 + B): each image once, then the resamples."""
    weights = bootstrap_weights(images, replicates, np.random.default_rng(seed))
    return np.concatenate([np.ones((images, 1)), weights], axis=1)


@lru_cache(maxsize=1)
def _swaps(images: int, replicates: int, seed: int) -> np.ndarray:
    return swap_weights(images, replicates, np.random.default_rng([seed, 1]))
