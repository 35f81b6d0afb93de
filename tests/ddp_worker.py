"""One rank of distributed trainings over gloo on the CPU, or the single process that it must equal. See test_ddp.py.

Usage: ddp_worker.py DATA STUDENT TEACHER FOLDER, with RANK, WORLD_SIZE and the rest in the environment, and cpu_ranks/
in PYTHONPATH.
"""

import os
import sys
from concurrent.futures import Future
from functools import partial
from itertools import count
from pathlib import Path

import torch
import torch.distributed as dist

import coco1k_kd.distill.trainer as module
from coco1k_kd.distill import criterion
from coco1k_kd.distill.settings import Distillation

RANK = int(os.environ.get("RANK", -1))
DEVICE = "0,1" if RANK >= 0 else "0"  # of those in cpu_ranks/sitecustomize.py
FIT_BATCHES = criterion.FIT_BATCHES


class Done(Exception):
    """The first step is taken: enough."""


def train(case: str, settings: Distillation, data: str, student: str, out: Path, steps: int = 1) -> None:
    """Train up to a step and leave its gradients, and what led to them, in `out`."""
    taken = count(1)
    trainer = module.DistillationTrainer.bind(settings)(
        overrides={
            "data": data, "model": student, "epochs": 1, "batch": 8, "imgsz": 64, "device": DEVICE, "plots": False,
            "project": str(out), "name": f"{case}{RANK}", "nbs": 8, "mosaic": 0.0, "amp": False,
        }
    )  # fmt: skip
    trainer._setup_ddp = lambda: None  # one process group for all trainings

    def record(optimizer, *_):
        student_model = module.unwrap_model(trainer.model)
        torch.save(
            {
                "student": {n: p.grad for n, p in student_model.named_parameters() if p.grad is not None},
                "distiller": {n: p.grad for n, p in trainer.distiller.named_parameters()},
                "aligners": trainer.distiller.aligners.state_dict(),
                "weight": trainer.criterion.loss_weights,
            },
            out / f"{case}_step{RANK}.pt",
        )
        if next(taken) == steps:
            raise Done

    def on_train_start(trainer) -> None:
        trainer.optimizer.register_step_pre_hook(record)
        student_model = module.unwrap_model(trainer.model)
        if RANK >= 0:
            torch.save(student_model.state_dict(), out / f"{case}_start.pt")  # DDP has given every rank that of rank 0
            preprocess = trainer.preprocess_batch

            def keep(batch):
                batch = preprocess(batch)
                if isinstance(answer := batch.get(criterion.TARGET), Future):
                    batch[criterion.TARGET] = answer.result()
                torch.save(batch, out / f"{case}_batch{RANK}.pt")
                return batch

            trainer.preprocess_batch = keep
            return
        student_model.load_state_dict(torch.load(out / f"{case}_start.pt"))
        trainer.model.train()
        for rank in (0, 1):  # the same two batches, one after the other, in one process
            losses, _ = trainer.model(torch.load(out / f"{case}_batch{rank}.pt", weights_only=False))
            losses.sum().backward()
        trainer.optimizer_step()

    trainer.add_callback("on_train_start", on_train_start)
    try:
        trainer.train()
    except Done:
        return
    raise SystemExit("no step was taken")


def main(data: str, student: str, teacher: str, folder: str) -> None:
    torch.set_num_threads(1)
    if RANK >= 0:
        dist.init_process_group("gloo", rank=RANK, world_size=2)
    settings = partial(Distillation, teacher, mask_ratio=0.0)
    criterion.FIT_BATCHES = 0  # pooled over both batches by two ranks, over one after the other by one
    for loss in ("cwd", "mgd", "cwd+response"):
        train(loss, settings(loss=loss), data, student, Path(folder))
    if RANK >= 0:
        criterion.FIT_BATCHES = FIT_BATCHES
        train("pooled", settings(loss="cwd", weight="auto"), data, student, Path(folder))
        train("every", settings(loss="mgd", every=2), data, student, Path(folder), steps=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # a process group that is torn down in the middle of an epoch waits for its peers
