"""How large a model is, and how long an image takes in it on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import torch
from torch import nn
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils.torch_utils import get_flops, select_device

_WARM_UP, _LEAST, _MOST, _SECONDS = 3, 5, 30, 2.0  # passes; seconds after which no further one begins


def parameters(model: nn.Module) -> int:
    """How many there are, batch norms not yet folded into convolutions."""
    return sum(parameter.numel() for parameter in model.parameters())


def gflops(model: nn.Module, imgsz: int) -> float:
    """Billions of operations for an image of `imgsz` pixels a side, as Ultralytics counts them."""
    return float(get_flops(model, imgsz))


def milliseconds(model: nn.Module | str | Path, imgsz: int, device: str, half: bool = False) -> float:
    """Median time of one image in the network alone, without reading it and without suppressing double boxes.

    Args:
        model: a module, whose layers are fused here, or an exported file.
        imgsz: pixels of both sides.
        device: as Ultralytics names it.
        half: whether the file takes half-precision images.
    """
    place = select_device(device, verbose=False)
    model = str(model) if isinstance(model, Path) else model  # of a Path that is a folder it asks for a suffix
    network = AutoBackend(model, device=place, fp16=half, verbose=False)
    network.eval()
    image = torch.rand(1, 3, imgsz, imgsz, device=place)
    image = image.half() if network.fp16 else image
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(_WARM_UP):
            network(image)
        while len(times) < _LEAST or (len(times) < _MOST and sum(times) < _SECONDS):
            times.append(_timed(network, image, place))
    return 1000 * median(times)


def _timed(network: nn.Module, image: torch.Tensor, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    network(image)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
