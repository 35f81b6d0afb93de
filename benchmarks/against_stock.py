#!/usr/bin/env python3
"""The whole study against stock Ultralytics doing the same two trainings, from start of program to its end.

    python benchmarks/against_stock.py --data coco1k/coco1k.yaml --teacher yolov8m.pt --imgsz 416 --epochs 3 --device 0

Stock: `YOLO(student).train(...)` and the same with `distill_model=`, one after the other, each in a process of its own.
Ours: `test_coco1k_kd.py --arms baseline cwd --seeds 0`, which also audits, evaluates both models as they were given,
evaluates best and last of each run with pycocotools, and compares. Both train with the same settings. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.dataset import read_data
from coco1k_kd.study.hyperparameters import resolve_optimizer

PROJECT = Path(__file__).resolve().parents[1]
TRAIN = "import json, sys, ultralytics; a = json.loads(sys.argv[1]); ultralytics.YOLO(a.pop('model')).train(**a)"


def seconds(command: list[str]) -> float:
    """Run a command to its end, its output to our standard error; how long it took."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - began


def stock(args: argparse.Namespace, folder: Path, **more: Any) -> float:
    """Seconds of one stock training with the settings of the study's runs."""
    data = read_data(args.data)
    settings = {
        "model": args.student, "data": str(args.data), "imgsz": args.imgsz, "batch": args.batch, "epochs": args.epochs,
        "workers": args.workers, "device": args.device, "seed": 0, "deterministic": True, "patience": 0, "plots": False,
        "save_dir": str(folder), **resolve_optimizer(data.train.size, args.batch, args.epochs, len(data.classes)),
    }  # fmt: skip
    return seconds([sys.executable, "-c", TRAIN, json.dumps(settings | more)])


def ours(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of the study, whole, and of its parts."""
    names = ("data", "student", "teacher", "epochs", "imgsz", "batch", "workers", "device")
    flags = [word for name in names for word in (f"--{name}", str(getattr(args, name)))]
    script = [sys.executable, str(PROJECT / "test_coco1k_kd.py"), "--arms", "baseline", "cwd", "--seeds", "0"]
    whole = seconds([*script, *flags, "--project", str(folder)])
    content = json.loads(next(folder.glob("comparison_*.json")).read_bytes())
    runs = {arm: content["arms"][arm]["runs"][0] for arm in ("baseline", "cwd")}
    parts = {f"{arm}_{kind}": run[kind] for arm, run in runs.items() for kind in ("train_seconds", "val_seconds")}
    return {"whole": whole, **parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("coco1k/coco1k.yaml"), help="of create_coco1k.py")
    parser.add_argument("--student", default="yolo11n.pt")
    parser.add_argument("--teacher", default="yolo11l.pt")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--device", default="0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = stock(args, folder / "plain")
        shutil.rmtree(folder / "plain")
        distilled = stock(args, folder / "distilled", distill_model=args.teacher)
        study = ours(args, folder / "study")
    result = {
        "stock_seconds": {"baseline": plain, "distilled": distilled, "both": plain + distilled},
        "ours_seconds": study,
        "ours/stock": round(study["whole"] / (plain + distilled), 3),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
