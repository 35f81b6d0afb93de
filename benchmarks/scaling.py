#!/usr/bin/env python3
"""Throughput of a study with 1, 2, 4 slots on this machine: one run after the other, --parallel, --ray.

    python benchmarks/scaling.py                                    # CPU: generated scenes, 4 runs of 2 epochs
    python benchmarks/scaling.py --runs 8 --slots 1 2 4 8 --train-images 1500 --val-images 400 --device 0 --imgsz 640

The same study (baseline and CWD, as many seeds as make --runs) is done in every way, the ways in turn and --rounds
times over, so that whatever else the machine does hits them alike. Prints JSON: seconds from the start of the first run
to the end of the last, images trained per second of that (processes that start and predictions included), the seconds
that a way adds before and after, and whether all ways gave the same predictions. Without ray the others are measured.
Flags of test_coco1k_kd.py go to it; by default a small student from scratch on the CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import test_coco1k_kd as program
from coco1k_kd.demo import generate_coco

ROOT = Path(__file__).resolve().parents[1]
TOY = ["--student", "yolo11n.yaml", "--epochs", "2", "--imgsz", "64", "--device", "cpu"]


def ways(slots: list[int], device: str) -> dict[str, list[str]]:
    """Flags by the name of a way. On one machine of Ray's, n slots are n-ths of its card, or of its cores."""
    found = {f"parallel {n}": ["--parallel", str(n)] for n in slots}
    if importlib.util.find_spec("ray"):
        for n in slots:
            cores = f"{(os.cpu_count() or 1) / n:g}"
            share = ["--gpus-per-run", "0" if device == "cpu" else f"{1 / n:g}", "--cpus-per-run", cores]
            chosen = [] if device == "cpu" else ["--device", ""]  # the card is Ray's choice
            found[f"ray {n}"] = ["--ray", *share, "--memory-per-run", "0", *chosen]
    return found


def study(flags: list[str], project: Path) -> dict[str, Any]:
    """Do the study once; return seconds, images trained, and a hash of all its predictions."""
    command = [sys.executable, str(ROOT / "test_coco1k_kd.py"), *flags, "--project", str(project)]
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    total = time.time() - start
    if done.returncode:
        sys.exit(done.stderr)
    results = list(project.glob("*/result.json"))
    images = sum(json.loads(path.read_bytes())["images"] for path in results)
    begun = min(path.with_name("spec.json").stat().st_mtime for path in results)
    span = max(path.stat().st_mtime for path in results) - begun
    digest = hashlib.sha256()
    for path in sorted(project.glob("*/predictions_*.json")):
        digest.update(path.read_bytes())
    shutil.rmtree(project)
    return {"seconds": span, "around": total - span, "images": images, "predictions": digest.hexdigest()}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", nargs="+", type=int, default=[1, 2, 4], metavar="N")
    parser.add_argument("--runs", type=int, default=4, metavar="N", help="half of them baselines (default: 4)")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--train-images", type=int, default=48, metavar="N")
    parser.add_argument("--val-images", type=int, default=16, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write it there")
    args, given = parser.parse_known_args()
    given = [*TOY, "--seeds", *map(str, range(args.runs // 2)), *given]
    device = program.parser().parse_args(given).device

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate_coco(root / "coco", train=2 * args.train_images, val=2 * args.val_images)
        sizes = ["--target-size", str(args.train_images), "--val-size", str(args.val_images)]
        script = [sys.executable, str(ROOT / "create_coco1k.py"), "--coco-root", str(root / "coco"), *sizes]
        subprocess.run([*script, "--output-dir", str(root / "coco1k")], check=True, capture_output=True)
        given += ["--data", str(root / "coco1k" / "coco1k.yaml")]
        if "--teacher" not in given:  # random weights are as slow as those that have learnt
            from ultralytics import YOLO

            given += ["--teacher", str(root / "teacher.pt")]
            YOLO("yolov8m.yaml").save(given[-1])
        chosen = ways(args.slots, device)
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
        for _ in range(args.rounds):
            for name, flags in chosen.items():
                measured[name].append(study([*given, *flags], root / "runs"))
                print(f"{name}: {measured[name][-1]['seconds']:.1f} s", file=sys.stderr, flush=True)

    rows = {
        name: {
            "seconds": [round(once["seconds"], 2) for once in rounds],
            "images_per_second": round(statistics.median(once["images"] / once["seconds"] for once in rounds), 2),
            "seconds_before_and_after": round(statistics.median(once["around"] for once in rounds), 2),
        }
        for name, rounds in measured.items()
    }
    first = next(iter(rows.values()))["images_per_second"]
    for row in rows.values():
        row["speedup"] = round(row["images_per_second"] / first, 2)
    hashes = {once["predictions"] for rounds in measured.values() for once in rounds}
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()}
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine,
        "ways": rows,
        "same_predictions": len(hashes) == 1,
    }
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
