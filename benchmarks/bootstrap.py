"""Time the comparison of two arms, print it, or prove its intervals by simulation. Prints JSON.

python benchmarks/bootstrap.py --annotations instances_val2017.json --runs a0.json a1.json --against b0.json b1.json
python benchmarks/bootstrap.py --coverage --studies 300
python benchmarks/bootstrap.py --coverage --against-given --studies 300
python benchmarks/bootstrap.py --coverage-normal --studies 4000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from coco1k_kd.verdict.coco import Ranking
from coco1k_kd.verdict.compare import compare, compare_figures
from coco1k_kd.verdict.entry import Entry
from coco1k_kd.verdict.intervals import estimate
from coco1k_kd.verdict.matching import Figures, of_rankings

CLASSES = 10
IOU = np.linspace(0.5, 0.95, 4)
SPREADS = (0.0, 0.01, 0.03)  # of a model's skill from seed to seed; 0.01 is 0.3 AP points
EFFECTS = (0.0, 0.05)  # of distillation on the skill


@dataclass(frozen=True)
class Scene:
    """Made-up ground truth: per class the image of every box, and how hard the box is for any model."""

    images: int
    boxes: list[tuple[np.ndarray, np.ndarray]]


def timing(annotations: Path, runs: list[Path], against: list[Path]) -> dict[str, Any]:
    """Seconds from files to verdict, matching included."""
    started, before = time.perf_counter(), time.process_time()
    sides = [{(0, seed): path for seed, path in enumerate(side)} for side in (runs, against)]
    entry = compare(annotations, *sides)
    wall, processor = time.perf_counter() - started, time.process_time() - before
    return {
        "images": entry.images,
        "classes": len(entry.per_class),
        "seeds": len(runs),
        "seconds": round(wall, 1),
        "processor_seconds": round(processor, 1),
        "d_ap": [
            round(100 * x, 2) for x in (entry.d_ap.mean, *entry.d_ap.ci95)
        ],  # AP points, 95%: one comparison alone
        "d_ap50": [round(100 * x, 2) for x in (entry.d_ap50.mean, *entry.d_ap50.ci95)],
    }


def coverage(studies: int, images: int, seeds: int, given: bool = False) -> list[dict[str, Any]]:
    """How often the interval holds the truth and how often `improves` or `hurts` is said, by effect and seed spread.

    `given`: every run is compared with one and the same model, as with the student as given.
    """
    rows = []
    with ProcessPoolExecutor() as processes:
        for effect in EFFECTS:
            truth = true_difference(effect)
            for spread in SPREADS:
                run = partial(study, images=images, seeds=seeds, spread=spread, effect=effect, given=given)
                entries = list(processes.map(run, range(studies), chunksize=4))
                means = np.array([e.d_ap.mean for e in entries])
                low, high = np.array([e.d_ap.ci95 for e in entries]).T
                rows.append(
                    {
                        "true_d_ap": round(truth, 4),
                        "seed_spread": spread,
                        "covered": float(np.mean((low <= truth) & (truth <= high))),
                        "improves_or_hurts": float(np.mean([e.verdict in ("improves", "hurts") for e in entries])),
                        "mean_d_ap": round(float(means.mean()), 4),
                        "sd_d_ap": round(float(means.std()), 4),
                        "mean_half_width": round(float(np.mean(high - low)) / 2, 4),
                    }
                )
    return rows


def coverage_normal(studies: int, images: int) -> list[dict[str, Any]]:
    """The interval's formula alone, over all mixtures of variances: differences are normal, no detection is made up.

    `own_images`: share of the images' variance that each seed has for itself. `seeds_to_images`: variance between seeds
    over that between samples of images, of one seed.
    """
    rng = np.random.default_rng(0)
    rows = []
    for seeds in (2, 3, 5, 10):
        for own in (0.0, 0.5, 1.0):
            for ratio in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0):
                held = np.empty(studies, bool)
                for i in range(studies):
                    common, single = rng.normal(size=(images, 1)), rng.normal(size=(images, seeds))
                    influence = ((1 - own) ** 0.5 * common + own**0.5 * single) / images**0.5
                    observed = influence.sum(axis=0) + ratio**0.5 * rng.normal(size=seeds)
                    low, high = estimate(observed, influence, [0] * seeds, images).interval()
                    held[i] = low <= 0 <= high
                row = {"seeds": seeds, "own_images": own, "seeds_to_images": ratio}
                rows.append(row | {"covered": float(held.mean())})
    return rows


def study(number: int, images: int, seeds: int, spread: float, effect: float, given: bool) -> Entry:
    """One made-up study: new images, and new models of both arms (`given`: the other side is one model)."""
    rng = np.random.default_rng([number, seeds, round(1000 * spread), round(1000 * effect)])
    seen = scene(images, rng)
    arms = [[model(seen, skill + rng.normal(0, spread), rng) for _ in range(seeds)] for skill in (effect, 0.0)]
    if given:
        arms[1] = [model(seen, 0.0, rng)] * seeds
    return compare_figures(*arms, [(0, seed) for seed in range(seeds)], in_parts=False)


def true_difference(effect: float, images: int = 20_000) -> float:
    """dAP on so many images that chance is gone."""
    rng = np.random.default_rng(0)
    seen = scene(images, rng)
    ap = [model(seen, skill, rng).ap.mean() for skill in (effect, 0.0)]
    return float(ap[0] - ap[1]) if effect else 0.0


def scene(images: int, rng: np.random.Generator) -> Scene:
    """Rare and common classes; some images are hard for every model."""
    hard = rng.normal(0, 0.7, images)
    boxes = []
    for share in np.geomspace(0.03, 0.5, CLASSES):
        image = np.repeat(np.arange(images), (rng.random(images) < share) * (1 + rng.poisson(1, images)))
        boxes.append((image, hard[image] + rng.normal(0, 0.7, len(image))))
    return Scene(images, boxes)


def model(seen: Scene, skill: float, rng: np.random.Generator) -> Figures:
    """What a model of this skill finds, and mistakes, on the scene."""
    rankings = []
    for image, hardness in seen.boxes:
        quality = skill - hardness + rng.normal(0, 0.5, len(image))
        false = rng.integers(0, seen.images, 3 * len(image))
        score = np.concatenate([quality + rng.normal(0, 0.5, len(image)), rng.normal(-1, 1, len(false))])
        hit = 1 / (1 + np.exp(-1 - quality)) >= IOU[:, None]
        hit = np.concatenate([hit, np.zeros((len(IOU), len(false)), bool)], axis=1)
        boxes = np.bincount(image, minlength=seen.images)
        order = np.argsort(-score, kind="stable")
        hit = hit[None, :, order]
        rankings.append(
            Ranking(score[order], np.concatenate([image, false])[order], hit, np.ones_like(hit), boxes[None])
        )
    return of_rankings(rankings, [f"class {i}" for i in range(CLASSES)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, help="COCO ground truth")
    parser.add_argument("--runs", type=Path, nargs="+", help="predictions of one arm, a file per seed")
    parser.add_argument("--against", type=Path, nargs="+", help="predictions of the other arm")
    parser.add_argument("--coverage", action="store_true", help="simulate studies instead of timing one")
    parser.add_argument("--against-given", action="store_true", help="with --coverage: all against one model")
    parser.add_argument("--coverage-normal", action="store_true", help="simulate the interval's formula alone")
    parser.add_argument("--studies", type=int, default=400, help="simulated studies per row")
    parser.add_argument("--images", type=int, default=400, help="images per simulated study")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per simulated study")
    args = parser.parse_args()
    if args.coverage:
        shape = {"studies": args.studies, "images": args.images, "seeds": args.seeds, "given": args.against_given}
        result: dict[str, Any] = shape | {"rows": coverage(**shape)}
    elif args.coverage_normal:
        rows = coverage_normal(args.studies, args.images)
        result = {"studies": args.studies, "images": args.images, "rows": rows}
    elif args.annotations and args.runs and args.against:
        result = timing(args.annotations, args.runs, args.against)
    else:
        parser.error("give --coverage, --coverage-normal, or --annotations with --runs and --against")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
