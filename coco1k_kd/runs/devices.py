"""The devices that a run is given."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

from coco1k_kd.errors import UserError


def read_devices(device: str) -> list[str]:
    """The devices of one run: the numbers of several GPUs, or one of any kind. UserError for what can be neither."""
    devices = device.split(",")
    if len(devices) > 1 and len({int(number) for number in devices if number.isdecimal()}) < len(devices):
        raise UserError(f"--device {device}: several GPUs are given by their numbers, each once: 0,1")
    return devices


def check_device(device: str) -> None:
    """UserError if a GPU that is asked for is not there."""
    import torch

    numbers = ["0" if name == "cuda" else name.removeprefix("cuda:") for name in read_devices(device)]
    if all(number.isdecimal() for number in numbers):
        count = torch.cuda.device_count()
        if max(map(int, numbers)) >= count:
            raise UserError(f"--device {device}: there are {count} CUDA GPUs here; give another, or --device cpu")
    elif device == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: there is no Apple GPU here; give --device cpu")
    elif device not in ("", "cpu", "mps"):
        raise UserError(f"--device {device}: give cpu, mps, the number of a GPU, or those of several, as 0,1")


def on_cpu(device: str) -> bool:
    """Whether a run on `device` computes on the processor."""
    import torch

    first = read_devices(device)[0]
    return first == "cpu" or not (first or torch.cuda.is_available())


def machine(device: str) -> dict[str, str]:
    """What of this machine computes a run on `device`: the model of its GPU, or of the processor, and its threads.

    These are the threads that Ultralytics trains with on a processor, whatever this process has.
    """
    import torch
    from ultralytics.utils import NUM_THREADS

    if on_cpu(device):
        return {"processor": processor(), "threads": str(NUM_THREADS)}
    number = read_devices(device)[0].removeprefix("cuda").removeprefix(":") or "0"
    there = number.isdecimal() and int(number) < torch.cuda.device_count()
    return {"GPU": torch.cuda.get_device_name(int(number))} if there else {}


def processor() -> str:
    """The CPU's model, as far as the system says it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
