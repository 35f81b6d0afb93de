"""COCO figures of saved predictions, and how sure a difference between two arms is."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco1k_kd.arms import Replicate
from coco1k_kd.errors import UserError
from coco1k_kd.resampling import (
    Ranking,
    average_precision,
    bootstrap_weights,
    mean_over_classes,
    pool,
    rank,
    swap_weights,
)
from coco1k_kd.statistics import corrected, estimate, judge, permutation_p

SIZES = ("all", "small", "medium", "large")  # in the order of COCOeval's areaRng
_METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # in the order of COCOeval's stats


@dataclass(frozen=True)
class Matches:
    """One model's detections matched to the ground truth by COCOeval, to be counted under any image weights."""

    images: int
    names: list[str]  # classes, in the order of their category ids
    rankings: dict[str, list[Ranking]]  # box size -> one ranking per class


def coco_metrics(annotations: Path, predictions: Path) -> dict[str, float]:
    """pycocotools' COCOeval AP, AP50, AP75 and AP by box size, as fractions; -1 where there is no such box.

    Raises UserError if a file is missing, is not what it should be, or speaks of other images.
    """
    evaluation = _evaluate(annotations, predictions)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(_METRICS, map(float, evaluation.stats), strict=False))


def match(annotations: Path, predictions: Path) -> Matches:
    """COCOeval's own matches, so that its crowd, ignore and box-size rules hold. Kept while the files stay the same."""
    return _match(annotations, predictions, _state(annotations), _state(predictions))


def compare(
    annotations: Path,
    runs: Mapping[Replicate, Path],
    against: Mapping[Replicate, Path],
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Does the arm `runs` differ from the arm `against`? Both map a (draw, seed) to a predictions file.

    Returns one entry of `comparisons` (docs/comparison.schema.json) without the arms' names; AP values are fractions.
    The method is in docs/statistics.md. Raises UserError if the arms have other runs, or a file is unusable.
    """
    if not runs or runs.keys() != against.keys():
        raise UserError(
            "arms are compared run by run, but have the (draw, seed) "
            f"{sorted(runs)} and {sorted(against)}: run the missing ones"
        )
    keys = sorted(runs)
    sides = [[match(annotations, side[key]) for key in keys] for side in (runs, against)]
    return compare_matches(*sides, keys, replicates, np.random.default_rng(seed))


def compare_matches(
    runs: Sequence[Matches],
    against: Sequence[Matches],
    keys: Sequence[Replicate],
    replicates: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """`compare` on matches, one of each arm per (draw, seed) of `keys`."""
    draws = [draw for draw, _ in keys]
    images, names, rankings = runs[0].images, runs[0].names, runs[0].rankings
    # The first column is the sample itself, each image once: the point estimate.
    weights = np.concatenate([np.ones((images, 1)), bootstrap_weights(images, replicates, rng)], axis=1)
    sizes = [size for size in SIZES if size in rankings and any(ranking.boxes.any() for ranking in rankings[size])]
    if not sizes:
        raise UserError("the validation images hold no boxes: nothing to compare")
    ap, ap50 = {}, {}  # box size -> (classes, 1 + B, runs)
    for size in sizes:
        ap[size], ap50[size] = _figures([m.rankings[size] for m in runs], weights) - _figures(
            [m.rankings[size] for m in against], weights
        )
    overall, overall50 = (estimate(mean_over_classes(d), draws, images) for d in (ap["all"], ap50["all"]))
    swapped = _swapped(runs, against, swap_weights(images, replicates, rng))

    boxes = {size: np.array([ranking.boxes for ranking in rankings[size]]) for size in sizes}  # (classes, images)
    shown_in = np.count_nonzero(boxes["all"], axis=1).tolist()
    per_class = {n: estimate(d, draws, i) for n, d, i in zip(names, ap["all"], shown_in, strict=True) if i}
    per_size = {
        size: estimate(mean_over_classes(ap[size]), draws, int(np.count_nonzero(boxes[size].any(axis=0))))
        for size in sizes
        if size != "all"
    }
    return {
        "draws": sorted({draw for draw, _ in keys}),
        "seeds": sorted({seed for _, seed in keys}),
        "images": images,
        "replicates": replicates,
        "d_ap": overall.summary() | {"p_images": permutation_p(overall.mean, swapped[0])},
        "d_ap50": overall50.summary() | {"p_images": permutation_p(overall50.mean, swapped[1])},
        "per_run": [
            {"draw": draw, "seed": seed, "d_ap": d}
            for (draw, seed), d in zip(keys, mean_over_classes(ap["all"])[0].tolist(), strict=True)
        ],
        "mde": overall.mde,
        **judge(overall),
        "per_class": corrected(per_class),
        "per_size": corrected(per_size),
    }


def _figures(models: Sequence[Sequence[Ranking]], weights: np.ndarray) -> np.ndarray:
    """AP and AP50 of every class, resample and model: (2, classes, B, models)."""

    def both(ranking: Ranking) -> np.ndarray:
        ap = average_precision(ranking, weights)
        return np.stack([ap.mean(axis=0), ap[0]])

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # numpy and scipy let go of the interpreter while they work
        by_class = list(zip(*models, strict=True))
        done = threads.map(both, (ranking for rankings in by_class for ranking in rankings))
        figures = np.stack(list(done)).reshape(len(by_class), len(models), 2, weights.shape[1])
    return figures.transpose(2, 0, 3, 1)


def _swapped(runs: Sequence[Matches], against: Sequence[Matches], weights: np.ndarray) -> np.ndarray:
    """dAP and dAP50, mean over seeds, with the arms' detections swapped on the images that `weights` choose: (2, B)."""
    pooled = [
        [pool(x, y) for x, y in zip(a.rankings["all"], b.rankings["all"], strict=True)]
        for a, b in zip(runs, against, strict=True)
    ]
    other = np.roll(weights, len(weights) // 2, axis=0)
    differences = _figures(pooled, weights) - _figures(pooled, other)
    return np.stack([mean_over_classes(d).mean(axis=-1) for d in differences])


def _state(path: Path) -> tuple[int, int] | None:
    """Changes when the file does."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns, path.stat().st_size
    return None


@lru_cache(maxsize=64)
def _match(annotations: Path, predictions: Path, *_states: tuple[int, int] | None) -> Matches:
    evaluation = _evaluate(annotations, predictions)
    images, classes = evaluation.params.imgIds, evaluation.params.catIds
    cells = iter(range(0, len(evaluation.evalImgs), len(images)))  # evalImgs is classes x sizes x images, flat
    by_class = [
        [_ranking(evaluation.evalImgs[cell : cell + len(images)]) for _, cell in zip(SIZES, cells, strict=False)]
        for _ in classes
    ]
    names = [category["name"] for category in evaluation.cocoGt.loadCats(classes)]
    return Matches(len(images), names, {size: [c[i] for c in by_class] for i, size in enumerate(SIZES)})


def _ranking(per_image: Sequence[dict[str, Any] | None]) -> Ranking:
    """COCOeval's results of one class and box size, image by image, as one ranking."""
    thresholds = 10
    boxes = np.zeros(len(per_image))
    score, image, hit, counted = (
        [np.zeros(0)],
        [np.zeros(0, int)],
        [np.zeros((thresholds, 0), bool)],
        [np.zeros((thresholds, 0), bool)],
    )
    for position, result in enumerate(per_image):
        if result is None:
            continue
        boxes[position] = np.count_nonzero(result["gtIgnore"] == 0)
        score.append(np.array(result["dtScores"], dtype=float))
        image.append(np.full(len(result["dtScores"]), position))
        counted.append(~result["dtIgnore"])
        hit.append((result["dtMatches"] != 0) & counted[-1])
    return rank(*(np.concatenate(x, axis=-1) for x in (score, image, hit, counted)), boxes)


def _evaluate(annotations: Path, predictions: Path) -> COCOeval:
    """COCOeval after `evaluate`, without its printing."""
    truth, found = _load(annotations, dict), _load(predictions, list)
    with contextlib.redirect_stdout(io.StringIO()):
        coco, detected = COCO(), COCO()
        coco.dataset = truth
        try:
            coco.createIndex()
            if found:
                detected = coco.loadRes(found)
            else:  # loadRes looks at the first detection; a model that finds nothing has an AP of 0
                detected.dataset = {k: truth[k] for k in ("images", "categories")} | {"annotations": []}
                detected.createIndex()
            evaluation = COCOeval(coco, detected, "bbox")
            evaluation.evaluate()
        except AssertionError:
            raise UserError(
                f"{predictions} holds detections on images that {annotations} does not have: evaluate on the same split"
            ) from None
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"{annotations} or {predictions} is not in COCO format ({type(error).__name__}: {error}): write it anew"
            ) from None
    return evaluation


def _load(path: Path, kind: type) -> Any:
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): write it anew") from None
    if not isinstance(content, kind):
        raise UserError(
            f"{path} holds no JSON {'list of detections' if kind is list else 'object'}: is it the right file?"
        )
    return content
