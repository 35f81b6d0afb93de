"""Two GPUs that are the CPU: lets what Ultralytics has for GPUs alone, its DDP, run anywhere, over gloo.

Python imports this at its start where PYTHONPATH names this folder, which tests alone do; so every process of a study
or of Ultralytics' own spawning has it. What is replaced is the choice of a device and the process group's backend.
"""

import atexit
import os
import sys
from types import SimpleNamespace

import torch
from torch import distributed, nn
from ultralytics.engine import trainer, validator
from ultralytics.utils import LOCAL_RANK, RANK

GPUS = 2
CPU = torch.device("cpu")


def select_cpu(*_: object, **__: object) -> torch.device:
    return CPU


def choose_devices(self: trainer.BaseTrainer, *args: object, **kwargs: object) -> None:
    """What `BaseTrainer.__init__` finds out of the device, found in its name alone."""
    begin(self, *args, **kwargs)
    number = len(self.args.device.split(","))
    self.world_size = number if number > 1 else 0
    self.ddp = number > 1 and LOCAL_RANK == -1


def join(self: trainer.BaseTrainer) -> None:
    distributed.init_process_group("gloo", rank=RANK, world_size=self.world_size)


def backend(model: object, device: torch.device, **kwargs: object) -> object:
    """Ranks validate the best checkpoint on the GPU that is current."""
    return autobackend(model=model, device=CPU, **kwargs)


@atexit.register
def refuse_an_open_group() -> None:
    """Gloo aborts, now and then, where a process ends with its group open; a rank of ours must never."""
    if distributed.is_initialized() and sys.argv[-1] == "--tied":
        print(f"rank {RANK} ends with its process group open", file=sys.stderr, flush=True)
        os._exit(77)


torch.cuda.device_count = lambda: GPUS
torch.cuda.get_device_name = lambda _: "the CPU"
trainer.select_device = validator.select_device = select_cpu
begin, trainer.BaseTrainer.__init__ = trainer.BaseTrainer.__init__, choose_devices
trainer.BaseTrainer._setup_ddp = join
ddp = nn.parallel.DistributedDataParallel
nn.parallel.DistributedDataParallel = lambda model, device_ids, **kwargs: ddp(model, **kwargs)
autobackend, validator.AutoBackend = validator.AutoBackend, backend
validator.get_torch_device_backend = lambda _: SimpleNamespace(current_device=lambda: 0)
