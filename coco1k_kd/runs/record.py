"""What one training really did: its work, its time, its memory; and when it has a snapshot (`snapshot.py`).

Ultralytics' own resume starts again from half-precision weights, forgets gradients that it had accumulated and draws
the random augmentations of the first epoch once more: a resumed run would be a different run. Here each epoch's data
depend on (seed, epoch, rank) alone and a snapshot holds the full-precision state, so that a run killed at any moment
ends in the same weights as one left alone.

On several GPUs each rank has a recorder; that of rank 0 speaks for all.
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from coco1k_kd.data.lesson import Cost
from coco1k_kd.errors import RunError
from coco1k_kd.runs.devices import processor
from coco1k_kd.runs.ranks import gathered
from coco1k_kd.runs.snapshot import SNAPSHOT_SECONDS, average_outside, parameters, restore, save_snapshot
from coco1k_kd.runs.spec import Figures

_FIRST_BATCHES = 3
_NEVER = 10**9


class Recorder:
    """Watches one training through Ultralytics' callbacks.

    Args:
        folder: the run folder; `weights/resume.pt` in it is the snapshot.
        batch: the batch size asked for.
        seed: the run's seed.
        snapshot: what `read_snapshot` returned, when the run continues.
    """

    def __init__(self, folder: Path, batch: int, seed: int, snapshot: dict[str, Any] | None = None) -> None:
        self.folder, self.batch, self.seed, self.snapshot = folder, batch, seed, snapshot
        self.work: dict[str, Any] = {}
        self.figures = Figures(**snapshot["figures"]) if snapshot else Figures()
        if snapshot:
            self.figures.earlier_seconds = self.figures.train_seconds + self.figures.val_seconds
            self.figures.resumed_after_epochs = [*self.figures.resumed_after_epochs, snapshot["epoch"] + 1]
        self._clock = self._val_clock = self._cpu_clock = 0.0
        self._saved_at = -SNAPSHOT_SECONDS  # the first epoch has a snapshot, whenever it ends
        self._batch_index = 0
        self._stepped_at = snapshot["stepped_at"] if snapshot else -1
        self._accumulate: int | None = None  # set while a resumed run waits for its first optimizer step

    def attach(self, model: Any) -> None:
        """Register with an Ultralytics `YOLO` object before `train`."""
        for event in (name for name in vars(type(self)) if name.startswith("on_")):
            model.add_callback(event, getattr(self, event))

    # The callbacks, by Ultralytics' names of its events, in the order in which it calls them.

    def on_train_start(self, trainer: Any) -> None:
        if self.snapshot:
            restore(trainer, self.snapshot)
        else:
            self.figures.init_hash = state_hash(student_of(trainer))
        self.figures.world_size = world = max(trainer.world_size, 1)
        self.figures.effective_batch = trainer.batch_size // world * world
        self.work = _describe(trainer)
        self.figures.pool_images = getattr(trainer, "pool_images", 0)
        self.figures.pool_boxes = getattr(trainer, "pool_boxes", 0)
        cost = getattr(trainer, "labelling", Cost())
        self.figures.labelling_seconds, self.figures.labelling_cpu_seconds = cost.seconds, cost.cpu_seconds
        preprocess, step = trainer.preprocess_batch, trainer.optimizer_step

        def watched_preprocess(batch: dict[str, Any]) -> dict[str, Any]:
            batch = preprocess(batch)
            self._see(trainer, batch)
            return batch

        def watched_step() -> None:
            step()
            self._stepped_at, self._accumulate = self._iteration(trainer), None

        trainer.preprocess_batch, trainer.optimizer_step = watched_preprocess, watched_step
        trainer.optimizer.register_step_post_hook(self._count_step)

    def on_train_epoch_start(self, trainer: Any) -> None:
        if trainer.batch_size != self.batch:
            raise RunError(
                f"out of memory: Ultralytics cut the batch from {self.batch} to {trainer.batch_size}, which would make "
                f"the arms unequal; start again with --batch {trainer.batch_size} or a smaller --imgsz"
            )
        if self.snapshot:
            for parameter, gradient in zip(parameters(trainer), self.snapshot["gradients"], strict=True):
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
            self._accumulate, self.snapshot = trainer.accumulate, None
        self._batch_index = -1
        _seed_epoch(trainer.train_loader, self.seed, trainer.epoch)
        self._cpu_clock, self._clock = _cpu_seconds(), time.perf_counter()

    def on_train_epoch_end(self, trainer: Any) -> None:
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        else:
            self.figures.cpu_seconds = (self.figures.cpu_seconds or 0.0) + _cpu_seconds() - self._cpu_clock
        self.figures.train_seconds += time.perf_counter() - self._clock
        self.figures.epochs = trainer.epoch + 1
        self.figures.images += len(trainer.train_loader.sampler) * self.figures.world_size
        bad = [name for name, value in (trainer.tloss or {}).items() if not torch.isfinite(value).all()]
        if bad:
            raise RunError(
                f"the loss became NaN or infinite in epoch {trainer.epoch + 1} ({', '.join(bad)}); "
                "lower --distillation-weight, or look for broken labels"
            )

    def on_val_start(self, _: Any) -> None:
        self._val_clock = time.perf_counter()

    def on_val_end(self, _: Any) -> None:
        self.figures.val_seconds += time.perf_counter() - self._val_clock

    def on_fit_epoch_end(self, trainer: Any) -> None:
        if trainer.epoch >= trainer.epochs:
            return  # Ultralytics calls this once more, after its last validation of the best checkpoint
        peak = max(gathered(peak_memory(trainer.device)))
        self.figures.peak_memory_bytes = max(self.figures.peak_memory_bytes, peak)
        if trainer.epoch + 1 < trainer.epochs:  # a kill after the last epoch repeats that one: it ends the run properly
            average_outside(trainer)
            ends = trainer.stop  # by its patience, as after the last epoch
            if RANK in {-1, 0} and not ends and time.monotonic() - self._saved_at >= SNAPSHOT_SECONDS:
                save_snapshot(trainer, self.folder, self.figures, self._stepped_at)
                self._saved_at = time.monotonic()

    def on_train_end(self, trainer: Any) -> None:
        due, taken = trainer.ema.updates, steps_taken(trainer.optimizer, self.figures.steps_taken)
        self.work |= {"optimizer_steps_due": due, "optimizer_steps": taken}
        if taken < due / 2:
            raise RunError(
                f"the optimizer took {taken} of {due} steps, the others had infinite gradients in half precision; "
                "train in full precision with --train amp=False"
            )

    def _count_step(self, *_: object) -> None:
        self.figures.steps_taken += 1

    def _see(self, trainer: Any, batch: dict[str, Any]) -> None:
        """Hash what the model is fed; hold back a resumed run's first step until it is due."""
        started = time.perf_counter()
        self._batch_index += 1
        if trainer.epoch == 0 and self._batch_index < _FIRST_BATCHES:
            self.figures.batch_hash = _over_ranks(batch_hash(batch, self.figures.batch_hash))
        if self._batch_index == 0:
            self.figures.stream_hash = _over_ranks(batch_hash(batch, self.figures.stream_hash))
        self._clock += time.perf_counter() - started  # the audit's work is not the training's time
        if self._accumulate is not None:
            # Ultralytics forgets on resume when it last stepped, and would step at the first batch.
            if trainer.accumulate != _NEVER:  # the warm-up has set it anew
                self._accumulate = trainer.accumulate
            due = self._iteration(trainer) - self._stepped_at >= self._accumulate
            trainer.accumulate = self._accumulate if due else _NEVER

    def _iteration(self, trainer: Any) -> int:
        return trainer.epoch * len(trainer.train_loader) + self._batch_index


def student_of(trainer: Any) -> nn.Module:
    """The student inside whatever the trainer trains."""
    model = unwrap_model(trainer.model)
    return getattr(model, "student_model", model)


def steps_taken(optimizer: torch.optim.Optimizer, tried: int) -> int:
    """Steps that moved the weights: the gradient scaler skips those whose gradients overflow.

    Adam's kind counts its own; `tried` stands for optimizers that do not.
    """
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=tried)


def state_hash(module: nn.Module) -> str:
    """Hex SHA-256 over names, types, shapes and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def batch_hash(batch: dict[str, Any], previous: str = "") -> str:
    """Hex SHA-256 over `previous` and a batch's images (N, 3, H, W), boxes (M, 4), classes and image numbers."""
    digest = hashlib.sha256(previous.encode())
    for key in ("img", "bboxes", "cls", "batch_idx"):
        digest.update(_bytes(batch[key]))
    return digest.hexdigest()


def _over_ranks(digest: str) -> str:
    """One hash of the hashes of all ranks, in their order."""
    digests = gathered(digest)
    return digest if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def peak_memory(device: torch.device) -> int:
    """Most bytes this process has held: allocated on the GPU where it trains on one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would include what the parent held when it forked
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _describe(trainer: Any) -> dict[str, Any]:
    """What the audit compares: settings in effect, not settings asked for."""
    own = {id(parameter) for parameter in student_of(trainer).parameters()}
    compared = ("param_group", "initial_lr", "betas", "weight_decay", "nesterov", "use_muon")
    groups = [
        {key: group[key] for key in compared if key in group} | {"tensors": tensors}
        for group in trainer.optimizer.param_groups
        if (tensors := sum(id(parameter) in own for parameter in group["params"]))
    ]
    on_cpu = trainer.device.type == "cpu"  # elsewhere neither the processor nor its threads compute
    return {
        "optimizer": {"name": type(trainer.optimizer).__name__, "groups": groups},
        "accumulate": max(round(trainer.args.nbs / trainer.batch_size), 1),
        "amp": bool(trainer.amp),
        "device": " and ".join(dict.fromkeys(gathered(_device_name(trainer.device)))),
        "processor": processor() if on_cpu else None,
        "threads": torch.get_num_threads() if on_cpu else None,
        "train_images": getattr(trainer.train_loader.sampler, "labelled", len(trainer.train_loader.dataset)),
        "val_images": len(trainer.test_loader.dataset),
        "checkpoint_rule": {
            "best": "highest Ultralytics fitness on val",
            "last": "after the last epoch",
            "patience": trainer.args.patience,
            "val_every_epoch": bool(trainer.args.val),
        },
        "train_args": {key: value for key, value in sorted(vars(trainer.args).items()) if _plain(value)},
    }


def _seed_epoch(loader: Any, seed: int, epoch: int) -> None:
    """Make the epoch's order and augmentations a function of (seed, epoch, rank), here and in the workers.

    Ultralytics fills mosaics with the images that it has read last; where it has no workers these would be those of
    the epoch before, which a resumed run has not read. The order of ranks is the sampler's, by seed and epoch.
    """
    dataset = loader.dataset
    if isinstance(dataset.buffer, list):  # else all images are in memory, and mosaics draw from the same ones always
        for index in dataset.buffer:
            dataset.ims[index] = dataset.im_hw0[index] = dataset.im_hw[index] = None
        dataset.buffer.clear()
    entropy = int(np.random.SeedSequence([seed, epoch, max(RANK, 0)]).generate_state(1)[0])
    random.seed(entropy)
    np.random.seed(entropy)
    torch.manual_seed(entropy)
    loader.generator.manual_seed(entropy)
    loader.reset()


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, tuple))


def _cpu_seconds() -> float:
    """Seconds of all cores that this process and its data loaders have used."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(part.user + part.system for part in times)
