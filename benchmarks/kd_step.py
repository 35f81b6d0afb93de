#!/usr/bin/env python3
"""Time one training step: plain, with Ultralytics' own distillation, with ours, and the floor that ours could reach.

    python benchmarks/kd_step.py --student yolo11n.pt --teacher yolov8m.pt --imgsz 320 --batch 8
    python benchmarks/kd_step.py --device 0 --batch 16 --imgsz 640 --rounds 50

All variants take their steps in turn, in one process and on one batch of generated images, so that whatever else the
machine does hits them alike; the median of the rounds counts. Prints JSON: seconds, their ratios, peak memory of a
process that runs one variant alone. The floor is the plain step plus the fused, headless teacher in the same precision.
`--parts` prints the processor time of the parts of a step instead, with the teacher on the training's own thread: other
programs matter less to it, and no idle core hides the teacher.
Algorithms are deterministic, as a study's are.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import autocast, init_seeds

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.demo import generate_coco
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.trainer import DistillationTrainer
from coco1k_kd.runs.record import peak_memory

EVERY = 4  # of the variants whose other steps are plain
WARM_UP = 12  # steps of each variant, all of them taught: aligners are fitted in the first ten
OURS = ("cwd", "mgd", "response", "cwd+response", "cwd_fp32", f"cwd:every={EVERY}", f"cwd+response:every={EVERY}")
VARIANTS = ("plain", "stock", *OURS, "floor", "floor_fp32")
MORE = ("cwd:every=8", "cwd+response:every=8")  # of which a round is twice as long


class Ready(Exception):
    """Everything is set up and no step taken."""


def trainer_of(variant: str, args: argparse.Namespace, data: Path) -> DetectionTrainer:
    """Set up the trainer of a variant, exactly as `YOLO.train` would, up to its first step."""
    overrides: dict[str, Any] = {
        "data": str(data), "model": args.student, "imgsz": args.imgsz, "batch": args.batch, "device": args.device,
        "epochs": 100, "plots": False, "verbose": False, "workers": 0, "nbs": args.batch, "optimizer": "AdamW",
        "exist_ok": True, "project": str(data.parent / "runs"), "name": variant, "save": False, "val": False,
    }  # fmt: skip
    kind: type[DetectionTrainer] = DetectionTrainer
    if variant == "stock":
        overrides["distill_model"] = args.teacher
    elif variant not in ("plain", "floor", "floor_fp32"):
        variant, *every = variant.split(":every=")
        loss, _, precision = variant.partition("_")
        settings = Distillation(args.teacher, loss=loss, precision=precision or "auto", every=every[0] if every else 1)
        kind = DistillationTrainer.bind(settings)
    trainer = kind(overrides=overrides)

    def ready(_: DetectionTrainer) -> None:
        raise Ready

    trainer.add_callback("on_train_start", ready)
    try:
        trainer.train()
    except Ready:
        trainer.model.train()
    init_seeds(trainer.args.seed, deterministic=True)  # Ultralytics unsets it where a training ends
    return trainer


def step_of(variant: str, args: argparse.Namespace, data: Path) -> Callable[[], None]:
    """A function that takes one optimizer step of the variant."""
    trainer = trainer_of(variant, args, data)
    raw = next(iter(trainer.train_loader))
    teacher = None
    if variant.startswith("floor"):
        teacher = trainer_of("cwd" if variant == "floor" else "cwd_fp32", args, data).teacher

    every, steps = getattr(trainer, "every", 1), itertools.count()

    def step() -> None:
        trainer.every = every if next(steps) >= WARM_UP else 1
        with autocast(trainer.amp, device=trainer.device.type):
            batch = trainer.preprocess_batch(dict(raw))
            if teacher:
                teacher(batch["img"])
            losses, _ = trainer.model(batch)
        trainer.scaler.scale(losses.sum()).backward()
        trainer.optimizer_step()
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()

    return step


def parts_of(variant: str, args: argparse.Namespace, data: Path) -> dict[str, dict[str, float]]:
    """Median processor time of the parts of a plain and of a taught step of a variant."""
    trainer, clock = trainer_of(variant, args, data), time.thread_time
    raw = next(iter(trainer.train_loader))
    trainer.beside = None
    every, found = getattr(trainer, "every", 1), {}
    inside: dict[str, float] = {}

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*given: Any) -> Any:
            start = clock()
            result = call(*given)
            inside[part] = clock() - start
            return result

        return measured

    if variant != "plain":
        trainer.preprocess_batch = timed("teacher", trainer.preprocess_batch)
        trainer.distiller.forward = timed("distiller", trainer.distiller.forward)
    for number in range(WARM_UP + every * args.rounds):
        trainer.every = every if number >= WARM_UP else 1
        inside.clear()
        times = [clock()]
        with autocast(trainer.amp, device=trainer.device.type):
            batch = trainer.preprocess_batch(dict(raw))
            losses, _ = trainer.model(batch)
        times.append(clock())
        trainer.scaler.scale(losses.sum()).backward()
        times.append(clock())
        trainer.optimizer_step()
        times.append(clock())
        if number >= WARM_UP:
            forward, backward, step = (later - earlier for earlier, later in itertools.pairwise(times))
            told = {"forward": forward - sum(inside.values()), **inside, "backward": backward, "optimizer": step}
            kind = "taught" if "distiller" in inside else "plain"
            found.setdefault(kind, []).append({**told, "all": times[-1] - times[0]})
    return {
        kind: {part: round(statistics.median(step[part] for step in steps), 4) for part in steps[0]}
        for kind, steps in found.items()
    }


def typical(variant: str, seconds: list[float]) -> float:
    """The median step; where only some are taught, the mean of the medians of each place among them."""
    places = int(variant.partition(":every=")[2] or 1)
    return statistics.mean(statistics.median(seconds[place::places]) for place in range(places))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="yolo11n.yaml")
    parser.add_argument("--teacher", default="yolov8m.yaml")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--variants", nargs="+", choices=(*VARIANTS, *MORE), default=list(VARIANTS))
    parser.add_argument("--parts", action="store_true", help="of plain steps and of ours")
    parser.add_argument(
        "--memory-of", choices=(*VARIANTS, *MORE), help=argparse.SUPPRESS
    )  # what a child process measures
    args = parser.parse_args()
    LOGGER.setLevel("ERROR")

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate_coco(root / "coco", train=4 * args.batch, val=8)
        command = ["create_coco1k.py", "--coco-root", root / "coco", "--target-size", 2 * args.batch, "--val-size", 4]
        script = [sys.executable, *map(str, command), "--output-dir", str(root / "coco1k")]
        subprocess.run(script, check=True, cwd=Path(__file__).resolve().parents[1], stdout=subprocess.DEVNULL)
        data = root / "coco1k/coco1k.yaml"

        if args.memory_of:
            step = step_of(args.memory_of, args, data)
            for _ in range(3):
                step()
            print(peak_memory(torch.device("cpu" if args.device == "cpu" else "cuda")))
            return

        if args.parts:
            print(json.dumps({variant: parts_of(variant, args, data) for variant in args.variants}, indent=2))
            return

        memory = {}
        for variant in args.variants:
            child = subprocess.run([sys.executable, *sys.argv, "--memory-of", variant], capture_output=True, text=True)
            if child.returncode:
                sys.exit(f"{variant} failed:\n{child.stderr}")
            memory[variant] = int(child.stdout.split()[-1])
        steps = {variant: step_of(variant, args, data) for variant in args.variants}
        times: dict[str, list[float]] = {variant: [] for variant in steps}
        for round_ in range(args.rounds + WARM_UP):
            for variant, step in steps.items():
                start = time.perf_counter()
                step()
                if round_ >= WARM_UP:
                    times[variant].append(time.perf_counter() - start)

    seconds = {variant: typical(variant, values) for variant, values in times.items()}
    pairs = [(a, b) for a in (*OURS, *MORE) for b in ("plain", "stock", "floor", "floor_fp32")]
    result = {
        "seconds": {k: round(v, 4) for k, v in seconds.items()},
        "ratios": {f"{a}/{b}": round(seconds[a] / seconds[b], 3) for a, b in pairs if a in seconds and b in seconds},
        "peak_memory_bytes": memory,
        "settings": {k: v for k, v in vars(args).items() if k not in ("memory_of", "variants")},
        "versions": {"torch": torch.__version__, "ultralytics": ultralytics.__version__},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
