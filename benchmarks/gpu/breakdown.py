#!/usr/bin/env python3
"""Where the time of a training goes, arm by arm: loader, teacher, student, losses, backward, optimizer, validation.

    python benchmarks/gpu/breakdown.py --data coco1k/coco1k.yaml --teacher yolov8m.pt --imgsz 416 --device 0
    python benchmarks/gpu/breakdown.py --data ... --arms cwd --workers 2 --cache ram --compile   # what does each bring?
    python benchmarks/gpu/breakdown.py --data ... --together 6 --workers 2             # six runs at once on one card

Trains for a few steps through Ultralytics' own trainer, loader and validator. First the parts, with the device waited
for at every change of part, so that they add up; then as many steps undisturbed, which give the speed; on a GPU ten
more under PyTorch's profiler, which give how long the card really works. Prints JSON, a row for each arm.

`parts` are seconds per step. `loader` is the time the step waits for a batch, `loader_images_per_second` what the
loader gives when nobody else works. `device_busy` is the share of an undisturbed step in which the card runs a kernel:
step_seconds * device_busy is the time a step would take if nothing but the card's own work were left.
"""

from __future__ import annotations

import os

os.environ["YOLO_VERBOSE"] = "False"  # before Ultralytics is imported: standard output is for our JSON

import argparse
import contextlib
import gc
import itertools
import json
import multiprocessing
import queue
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import unwrap_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from coco1k_kd.distill import registry
from coco1k_kd.distill.settings import Distillation
from coco1k_kd.distill.trainer import DistillationTrainer
from coco1k_kd.runs.record import peak_memory, student_of

ARMS = ("baseline", *registry.names(), "ultralytics")
WARM_UP = 12  # steps: cuDNN chooses, aligners are fitted in the first ten, compilation
PROFILED = 10


class Done(Exception):
    """Every step that was wanted has been taken."""


class Stopwatch:
    """Charges every moment to one part at a time, the device's work to the part that asked for it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.on, self.part = device, False, "other"
        self.seconds: dict[str, float] = defaultdict(float)
        self._since = 0.0

    def wait(self) -> float:
        """Wait for the device; the time then."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def switch(self, part: str) -> str:
        """From now on time belongs to `part`. Returns the part it belonged to."""
        before, self.part = self.part, part
        if self.on:
            now = self.wait()
            self.seconds[before] += now - self._since
            self._since = now
        return before

    def start(self) -> None:
        """Begin to charge."""
        self.on, self._since = True, self.wait()

    def inside(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time charged to `part`."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            before = self.switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(before)

        return watched


class Watched:
    """An object that is called under the stopwatch and is itself in everything else."""

    def __init__(self, inner: Any, watch: Stopwatch, part: str) -> None:
        self.__dict__.update(inner=inner, call=watch.inside(part, inner))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)


def trainer_of(arm: str, args: argparse.Namespace, folder: Path) -> DetectionTrainer:
    """The trainer of an arm with the study's settings; no warm-up of the rates, so that every step is like the rest."""
    overrides: dict[str, Any] = {
        "data": str(args.data), "model": args.student, "imgsz": args.imgsz, "batch": args.batch, "device": args.device,
        "workers": args.workers, "cache": args.cache or False, "compile": args.compile, "epochs": 10_000,
        "optimizer": "AdamW", "lr0": 0.0001, "warmup_epochs": 0, "close_mosaic": 0, "patience": 0, "val": False,
        "save": False, "plots": False, "verbose": False, "exist_ok": True, "save_dir": str(folder / arm),
    }  # fmt: skip
    if arm in registry.names():
        return DistillationTrainer.bind(Distillation(args.teacher, loss=arm))(overrides=overrides)
    return DetectionTrainer(overrides=overrides | ({"distill_model": args.teacher} if arm == "ultralytics" else {}))


def attach(trainer: Any, watch: Stopwatch) -> None:
    """Put the stopwatch at the seams of a training that is about to start."""
    model, student = unwrap_model(trainer.model), student_of(trainer)
    if model is not student:  # Ultralytics' own distillation wraps the student
        model.loss = watch.inside("distillation", model.loss)
        model.teacher_model.forward = watch.inside("teacher", model.teacher_model.forward)
    task = getattr(student, "criterion", None) or student.init_criterion()
    if model is student and hasattr(trainer, "teacher"):
        trainer.teacher, trainer.beside = Watched(trainer.teacher, watch, "teacher"), None
        task.task = Watched(task.task, watch, "loss")
        student.criterion = Watched(task, watch, "distillation")
    else:
        student.criterion = Watched(task, watch, "loss")
    student.predict = watch.inside("student", student.predict)
    trainer.preprocess_batch = watch.inside("to device", trainer.preprocess_batch)
    trainer.optimizer_step = watch.inside("optimizer", trainer.optimizer_step)
    scale = trainer.scaler.scale

    def backward_follows(loss: torch.Tensor) -> torch.Tensor:
        watch.switch("backward")
        return scale(loss)

    trainer.scaler.scale = backward_follows
    trainer.add_callback("on_train_batch_start", lambda _: watch.switch("other"))


class Measurement:
    """Drives one training through its phases, by Ultralytics' callbacks: warm-up, parts, speed, profile."""

    def __init__(self, args: argparse.Namespace, barrier: Any = None) -> None:
        self.args, self.barrier = args, barrier
        self.step, self.began, self.row = 0, 0.0, {}
        self.profiler: Any = None
        # compiled code has no seams, and beside other runs a part would be charged for theirs
        self.parts_until = WARM_UP + (0 if args.compile or barrier else args.steps)

    def on_train_start(self, trainer: Any) -> None:
        self.watch = Stopwatch(trainer.device)
        if trainer.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(trainer.device)
        trainer.args.warmup_epochs = trainer.epochs  # a few steps are no training that must prove itself alive
        self.beside = getattr(trainer, "beside", None)
        if self.parts_until > WARM_UP:
            attach(trainer, self.watch)
        trainer.add_callback("on_train_batch_end", self.on_train_batch_end)

    def on_train_batch_end(self, trainer: Any) -> None:
        self.watch.switch("loader")
        self.step += 1
        if self.step == WARM_UP and self.parts_until > WARM_UP:
            self.watch.start()
        if trainer.batch_size != self.args.batch:
            raise MemoryError(f"batch {self.args.batch} does not fit: Ultralytics went on with {trainer.batch_size}")
        if self.step == self.parts_until:
            self.watch.on, trainer.beside = False, self.beside
            if self.barrier:
                self.barrier.wait()
            self.began = self.watch.wait()
        taken = self.step - self.parts_until
        if taken > 0 and not self.profiler:
            enough = time.perf_counter() - self.began >= self.args.seconds if self.barrier else taken >= self.args.steps
            if enough:
                self.row = {"step_seconds": (self.watch.wait() - self.began) / taken, "steps": taken}
                if self.barrier or trainer.device.type != "cuda":
                    raise Done
                self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
                self.profiler.start()
                self.profiled_until = self.step + PROFILED
        elif self.profiler and self.step == self.profiled_until:
            self.watch.wait()
            self.profiler.stop()
            raise Done

    def busy(self) -> dict[str, float]:
        """How long and how often the card works in a step, by the profiler."""
        if not self.profiler:
            return {}
        averages, on_card = self.profiler.key_averages(), torch.autograd.DeviceType.CUDA
        kernels = [e for e in averages if e.device_type == on_card and not e.is_user_annotation]
        seconds = sum(e.self_device_time_total for e in kernels) / 1e6 / PROFILED
        count = sum(e.count for e in kernels) / PROFILED
        return {"device_seconds": seconds, "device_busy": seconds / self.row["step_seconds"], "kernels": count}


def measure(arm: str, args: argparse.Namespace, barrier: Any = None) -> dict[str, Any]:
    """One arm's row."""
    LOGGER.setLevel("ERROR")
    gc.collect()  # the trainer of the arm before, which holds itself and memory of the card
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(arm, args, Path(folder))
        measurement = Measurement(args, barrier)
        trainer.add_callback("on_train_start", measurement.on_train_start)
        with contextlib.suppress(Done):
            trainer.train()
        watch, row = measurement.watch, measurement.row
        peak = peak_memory(trainer.device)  # before validation, which a larger batch feeds
        trainer.epoch, trainer.metrics, trainer.fitness = 0, {}, 0.0  # what validating and saving ask for
        for _ in range(2):  # the second time everything is warm
            began = watch.wait()
            trainer.validate()
            validated = watch.wait()
            trainer.save_model()
            saved = watch.wait()
        loaded, batches = 0.0, len(trainer.train_loader)
        if not barrier:
            trainer.train_loader.reset()
            for _ in zip(trainer.train_loader, range(batches), strict=False):
                pass
            loaded = time.perf_counter() - saved
        for loader in (trainer.train_loader, trainer.test_loader):
            loader.close()
    images = len(trainer.train_loader.dataset)
    row |= {
        "arm": arm,
        "images_per_second": args.batch / row["step_seconds"],
        "parts": {part: round(seconds / args.steps, 5) for part, seconds in watch.seconds.items()},
        "steps_per_epoch": batches,
        "validation_seconds": validated - began,
        "checkpoint_seconds": saved - validated,
        "epoch_seconds": batches * row["step_seconds"] + saved - began,
        "loader_images_per_second": images / loaded if loaded else None,
        "peak_memory_bytes": peak,
        **measurement.busy(),
    }
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def _child(number: int, arm: str, args: argparse.Namespace, barrier: Any, rows: Any) -> None:
    try:
        rows.put((number, measure(arm, args, barrier)))
    except threading.BrokenBarrierError:
        sys.exit(1)  # another has failed, and says why
    except BaseException as error:
        rows.put((number, {"error": f"{arm}: {type(error).__name__}: {error}"}))
        barrier.abort()  # the others need not wait for us
        raise


def together(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of `args.together` trainings at once, the arms in turn; each in a process of its own, as in a study."""
    context = multiprocessing.get_context("spawn")
    barrier, rows = context.Barrier(args.together), context.Queue()
    arms = itertools.islice(itertools.cycle(args.arms), args.together)
    children = [context.Process(target=_child, args=(i, arm, args, barrier, rows)) for i, arm in enumerate(arms)]
    for child in children:
        child.start()
    while running := [child for child in children if child.is_alive()]:
        running[0].join(1)
        if any(child.exitcode for child in children):
            barrier.abort()  # one that was killed never comes to it
    done: list[tuple[int, dict[str, Any]]] = []
    with contextlib.suppress(queue.Empty):
        while len(done) < len(children):
            done.append(rows.get(timeout=1))
    failed = [row["error"] for _, row in done if "error" in row]
    if failed or len(done) < len(children):
        sys.exit(f"error: of {len(children)} runs at once failed {'; '.join(failed) or 'some, killed'}")
    return [row for _, row in sorted(done, key=lambda item: item[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("coco1k/coco1k.yaml"), help="of create_coco1k.py")
    parser.add_argument("--student", default="yolo11n.pt")
    parser.add_argument("--teacher", default="yolo11l.pt")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--device", default="0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cache", choices=("ram", "disk"), help="Ultralytics' cache of decoded images")
    parser.add_argument("--compile", action="store_true", help="Ultralytics' compile: student and teacher")
    parser.add_argument("--steps", type=int, default=40, help="steps measured, of each kind (default: %(default)s)")
    parser.add_argument("--together", type=int, default=0, metavar="N", help="N runs at once instead of one by one")
    parser.add_argument("--seconds", type=float, default=15, help="measured of --together (default: %(default)s)")
    args = parser.parse_args()
    rows = together(args) if args.together else [measure(arm, args) for arm in args.arms]
    result = {
        "rows": rows,
        "images_per_second": round(sum(row["images_per_second"] for row in rows), 2) if args.together else None,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "device": torch.cuda.get_device_name() if args.device != "cpu" else "cpu",
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "ultralytics": ultralytics.__version__},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
