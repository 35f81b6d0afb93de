"""The teacher: any Ultralytics detector, frozen, fused and without its head, giving neck features and nothing else."""

from __future__ import annotations

import hashlib
from copy import deepcopy

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect
from ultralytics.utils.torch_utils import attempt_compile

from coco1k_kd.distill.seams import detect_head, neck_channels, neck_strides

_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")  # modes of torch.compile whose outputs the next graph overwrites


def weights_sha256(model: nn.Module) -> str:
    """Hex SHA-256 of a model's weights (names, shapes, float32 values): the same in fp16 file and in memory."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        array = value.detach().cpu().float().contiguous().numpy()
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class Teacher:
    """A frozen copy of a detector that maps images to its neck features.

    Convolution and batch norm are fused and the head is gone: nobody reads its boxes. It lives outside the trained
    model, so that no `train()`, optimizer, EMA, checkpoint or pickle can reach it.

    Args:
        model: an Ultralytics detection model; copied, never changed.
        device: where it runs.
        dtype: of its weights. Casting them once beats autocast, which casts them again at every step.
        compile_mode: Ultralytics' `compile=` argument.
    """

    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype, compile_mode: bool | str) -> None:
        head = detect_head(model, "teacher")
        self.channels = neck_channels(head)
        self.strides = neck_strides(head)
        self.image_channels = next(model.parameters()).shape[1]
        network = deepcopy(model).float().eval().fuse(verbose=False)
        network.model[-1] = _Neck(network.model[-1])
        network.requires_grad_(False)
        self.network = network.to(device, memory_format=torch.channels_last)
        self._forward = attempt_compile(self.network, device=device, mode=compile_mode)
        self._graphs = device.type == "cuda" and compile_mode in _CUDA_GRAPHS
        self.cast(dtype)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) images in [0, 1] to a list of (N, C, H/stride, W/stride) features, finest level first."""
        with torch.autocast(images.device.type, enabled=False):
            features = self._forward(images.to(self.dtype, memory_format=torch.channels_last))
        return [level.clone() for level in features] if self._graphs else features

    def cast(self, dtype: torch.dtype) -> None:
        """Run in another precision from now on."""
        self.dtype = dtype
        self.network.to(dtype)
        self._checksum = self.checksum()

    def checksum(self) -> int:
        """Sum of the bit patterns of all weights: changes if any weight does."""
        weights = (v.flatten().contiguous() for v in self.network.state_dict().values())
        return sum(int(v.view(torch.uint8).sum(dtype=torch.int64)) for v in weights)

    def unchanged(self) -> bool:
        """Whether the weights are, bit for bit, those of the start."""
        return self.checksum() == self._checksum


class _Neck(nn.Module):
    """Stands in for the Detect head and returns the features that it was given."""

    def __init__(self, head: Detect) -> None:
        super().__init__()
        self.f, self.i, self.type = head.f, head.i, "Neck"

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return list(features)


def teacher_dtype(device: torch.device, amp: bool | str, precision: str) -> torch.dtype:
    """Dtype of the teacher's forward for `precision` "auto", "fp32", "fp16" or "bf16"; auto is the fastest safe one.

    On a GPU that is the training's own autocast precision; on a CPU with instructions for it, bfloat16, which costs
    about 1% of relative error in the features (docs/method.md).
    """
    named = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision != "auto":
        return named[precision]
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch < 2.10 cannot tell: stay safe
        fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        return torch.bfloat16 if fast else torch.float32
    if amp == "bf16":
        return torch.bfloat16
    return torch.float16 if amp and device.type == "cuda" else torch.float32
