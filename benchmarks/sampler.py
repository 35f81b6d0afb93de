#!/usr/bin/env python3
"""How good, how fast and how large the sampler is, as JSON; and what balance costs, as a picture.

    python benchmarks/sampler.py COCO_ROOT                                # speed and quality: 2 minutes
    python benchmarks/sampler.py COCO_ROOT --picture docs/sampling.png    # and the comparison of draws

COCO_ROOT needs annotations/ only. Speed and memory are those of whole processes, each started afresh.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from coco1k_kd.data.annotations import Annotations, parse, read  # noqa: E402
from coco1k_kd.data.certify import certify  # noqa: E402
from coco1k_kd.data.sampling import BALANCES, TOLERANCE, Attempt, Pool, draw, drift, goals, level_of, priorities  # noqa: E402
from coco1k_kd.data.subset import annotation_file  # noqa: E402
from coco1k_kd.errors import run_cli  # noqa: E402

SIZES = {"train": 1500, "val": 400}


def process(*command: str) -> dict[str, float]:
    """Seconds on the clock and on the CPU, and peak memory in bytes, of a process of its own."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - start
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def speed(coco_root: Path) -> dict:
    """The whole program without images, in both ways to balance, beside what merely loads the train annotations."""
    train = str(annotation_file(coco_root, "train"))
    result = {
        "pycocotools.COCO(train)": process(sys.executable, "-c", f"from pycocotools.coco import COCO; COCO({train!r})"),
        "json.load(train)": process(sys.executable, "-c", f"import json; json.load(open({train!r}))"),
    }
    theirs = result["pycocotools.COCO(train)"]
    for balance in BALANCES:
        with tempfile.TemporaryDirectory() as folder:
            ours = process(
                sys.executable, str(PROJECT / "create_coco1k.py"), "--no-images", "--balance", balance,
                "--coco-root", str(coco_root), "--output-dir", f"{folder}/coco1k",
            )  # fmt: skip
        ratios = {f"{key}_ratio": round(ours[key] / theirs[key], 3) for key in ("seconds", "cpu_seconds")}
        result[f"create_coco1k.py --no-images --balance {balance}"] = ours | ratios
    return result


def describe(pool: Pool, ids: np.ndarray, balance: str) -> dict[str, float]:
    """Balance of a draw, and how many points its context is from the source's."""
    mask = np.isin(pool.ids, ids)
    presence, far = pool.presence[mask], drift(pool, ids)
    counts = presence.sum(axis=0)
    even = counts[pool.balanced(balance)]
    return {
        "k": level_of(counts, pool.supply),
        "cv": round(float(even.std() / even.mean()), 4),
        **{f"{key}_points": value for key, value in far.items()},
        "classes_per_image": round(float(presence.sum(axis=1).mean()), 3),
        "boxes_per_image": round(float(pool.instances[mask].sum(axis=1).mean()), 2),
    }


def uniform(pool: Pool, size: int, seed: int) -> np.ndarray:
    """Any images."""
    return pool.ids[np.argsort(priorities(pool.ids, seed))[:size]]


def per_class(pool: Pool, size: int, seed: int) -> np.ndarray:
    """The usual script: as many random images for each class, filled up with any."""
    order = np.argsort(priorities(pool.ids, seed))
    lists = [order[pool.presence[order, c]][: size // len(pool.names)] for c in range(len(pool.names))]
    picked = list(dict.fromkeys(np.concatenate([*lists, order]).tolist()))
    return pool.ids[picked[:size]]


def forced(pool: Pool, size: int, seed: int, k: int) -> np.ndarray:
    """Context at a level that the sampler would not choose; only its tolerances bound it."""
    pool, even = pool.ordered(seed), pool.balanced("context")
    attempt = Attempt.at(goals(pool, size, "context", TOLERANCE["train"]).at(k, pool.supply[even], equal=True), size)
    return pool.ids[attempt.polished()]


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits of two vectors of counts."""
    p, q = p / max(p.sum(), 1), q / max(q.sum(), 1)
    middle = (p + q) / 2
    return float(sum((x[x > 0] * np.log2(x[x > 0] / middle[x > 0])).sum() for x in (p, q)) / 2)


def co_occurrence(pool: Pool, ids: np.ndarray) -> np.ndarray:
    """(C, C) images that show both classes; 0 on the diagonal."""
    presence = pool.presence[np.isin(pool.ids, ids)].astype(np.int64)
    together = presence.T @ presence
    np.fill_diagonal(together, 0)
    return together


def occlusion(source: Annotations, ids: np.ndarray) -> dict[str, float]:
    """Shares of boxes that another box covers by half or more, and that touch the image's edge."""
    part = parse(source.extract(ids), source.path)
    covered, at_edge, total = 0, 0, 0
    order = np.flatnonzero(part.valid)[np.argsort(part.image[part.valid], kind="stable")]
    starts = np.flatnonzero(np.diff(part.image[order], prepend=-1))
    for of_image in np.split(order, starts[1:]):
        (full_width, full_height), (left, top, width, height) = (
            part.sizes[part.image[of_image[0]]],
            part.box[of_image].T,
        )
        right, bottom = left + width, top + height
        across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
        down = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
        shared = across.clip(0) * down.clip(0) / (width * height)[:, None]
        np.fill_diagonal(shared, 0)
        covered += int((shared.max(axis=1) >= 0.5).sum())
        edges = (left <= 1) | (top <= 1) | (right >= full_width - 1) | (bottom >= full_height - 1)
        at_edge += int(edges.sum())
        total += len(of_image)
    return {"covered": round(covered / total, 4), "at_edge": round(at_edge / total, 4)}


def compare(source: Annotations, pool: Pool, size: int) -> dict[str, dict]:
    """Draws of several kinds beside the source (for occlusion: beside 20,000 of its images)."""
    draws = {"uniform": uniform(pool, size, 0), "n per class": per_class(pool, size, 0)}
    draws |= {balance: draw(pool, size, 0, balance, TOLERANCE["train"]) for balance in BALANCES}
    draws |= {f"context, k={k}": forced(pool, size, 0, k) for k in (50, 55)}
    whole = co_occurrence(pool, pool.ids)
    rows = {"source": describe(pool, pool.ids, "context") | occlusion(source, uniform(pool, 20000, 1))}
    for name, ids in draws.items():
        together = co_occurrence(pool, ids)
        given = [divergence(a, b) for a, b in zip(together, whole, strict=True) if a.any() and b.any()]
        rows[name] = describe(pool, ids, "strict" if name == "strict" else "context") | occlusion(source, ids)
        rows[name] |= {"js_pairs": round(divergence(together, whole), 4), "js_given_class": round(np.mean(given), 4)}
    counts = {name: pool.presence[np.isin(pool.ids, ids)].sum(axis=0).tolist() for name, ids in draws.items()}
    return {"rows": rows, "images_per_class": counts, "supply": pool.supply.tolist()}


def picture(comparison: dict, path: Path) -> None:
    """Left: images per class. Right: what each draw keeps of the source."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {"uniform": "#8c8c8c", "n per class": "#c9a227", "context": "#1f77b4", "strict": "#9467bd"}
    order = np.argsort(-np.array(comparison["supply"]), kind="stable")
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=(3, 2), layout="constrained")
    for name, colour in shown.items():
        counts = np.array(comparison["images_per_class"][name])[order]
        left.plot(counts, color=colour, label=name, lw=2.4 if name == "context" else 1.6, drawstyle="steps-mid")
    left.set(yscale="log", xlabel="classes, the most frequent first", ylabel="images that show the class")
    left.set_title("Balance: images per class among 1,500")
    left.legend(frameon=False)
    measures = {
        "classes per image": "classes_per_image",
        "boxes per image": "boxes_per_image",
        "boxes half covered": "covered",
        "boxes at the edge": "at_edge",
    }
    source = comparison["rows"]["source"]
    shown["context, k=55"] = "#aec7e8"
    for i, (name, colour) in enumerate(shown.items()):
        values = [comparison["rows"][name][key] / source[key] for key in measures.values()]
        right.barh(np.arange(len(values)) + (i - 2) * 0.16, values, height=0.15, color=colour, label=name)
    right.axvline(1, color="black", lw=1)
    right.set(yticks=range(len(measures)), yticklabels=measures, xlabel="relative to the source")
    right.set_title("Context: what is kept of the scenes")
    right.invert_yaxis()
    right.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco_root", type=Path, metavar="COCO_ROOT", help="folder of COCO 2017's annotations/")
    parser.add_argument("--seeds", type=int, default=6, help="draws per balance and split (default: 6)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[200, 500, 2000, 5000, 20000], help="other train sizes")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="compare draws and draw the comparison")
    args = parser.parse_args()
    result = {"speed": speed(args.coco_root), "quality": {}, "sizes": {}, "certificates": {}}
    for split in ("val", "train"):
        source = read(annotation_file(args.coco_root, split))
        pool = Pool.of(source)
        for balance in BALANCES:
            drawn = [draw(pool, SIZES[split], seed, balance, TOLERANCE[split]) for seed in range(args.seeds)]
            key = f"{split} {SIZES[split]} {balance}"
            result["quality"][key] = [describe(pool, ids, balance) for ids in drawn]
            result["certificates"][key] = certify(pool, drawn[0], balance, TOLERANCE[split])
    for size in args.sizes:
        start = time.perf_counter()
        ids = draw(pool, size, 0, "context", TOLERANCE["train"])
        seconds = round(time.perf_counter() - start, 2)
        proof = certify(pool, ids, "context", TOLERANCE["train"])
        result["sizes"][size] = describe(pool, ids, "context") | {"draw_seconds": seconds, "certificate": proof}
    if args.picture:
        comparison = compare(source, pool, SIZES["train"])
        picture(comparison, args.picture)
        result["comparison"] = comparison["rows"]
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    run_cli(main)
