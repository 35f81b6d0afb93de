"""The teacher: any Ultralytics detector, frozen and fused, giving what is distilled and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect
from ultralytics.utils.torch_utils import attempt_compile

from coco1k_kd.distill.distiller import Answer
from coco1k_kd.distill.response import Response
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
    """A frozen copy of a detector that maps images to its neck features and, where asked to, its head's responses.

    Convolution and batch norm are fused, boxes are not decoded, and a head that nobody asks is gone. It lives outside
    the trained model, so that no `train()`, optimizer, EMA, checkpoint or pickle can reach it.

    Args:
        model: an Ultralytics detection model; copied, never changed.
        device: where it runs.
        dtype: of its weights. Casting them once beats autocast, which casts them again at every step.
        compile_mode: Ultralytics' `compile=` argument.
        branches: of its head, by `branches_of`, those that answer; none for features alone.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        compile_mode: bool | str,
        branches: Sequence[str] = (),
    ) -> None:
        head = detect_head(model, "teacher")
        self.channels = neck_channels(head)
        self.strides = neck_strides(head)
        self.image_channels = next(model.parameters()).shape[1]
        network = deepcopy(model).float().eval()
        network.model[-1] = _Undecoded(network.model[-1], branches)  # before fusing, which would drop a branch
        network.fuse(verbose=False)
        network.requires_grad_(False)
        self.network = network.to(device, memory_format=torch.channels_last)
        self._forward = attempt_compile(self.network, device=device, mode=compile_mode)
        self._graphs = device.type == "cuda" and compile_mode in _CUDA_GRAPHS
        self.cast(dtype)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Answer:
        """What the teacher makes of (N, 3, H, W) images in [0, 1]: features, finest level first, and responses."""
        with torch.autocast(images.device.type, enabled=False):
            features, responses = self._forward(images.to(self.dtype, memory_format=torch.channels_last))
        if self._graphs:
            features = [level.clone() for level in features]
            responses = {name: Response(*(part.clone() for part in each)) for name, each in responses.items()}
        return Answer(features, responses)

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


class _Undecoded(nn.Module):
    """Stands in for the Detect head: returns the features that it was given and what `branches` of it make of them."""

    def __init__(self, head: Detect, branches: Sequence[str]) -> None:
        super().__init__()
        self.f, self.i, self.type = head.f, head.i, "Undecoded"
        parts = {name: getattr(head, name) for name in branches}
        self.branches = nn.ModuleDict(
            {name: nn.ModuleList([part["box_head"], part["cls_head"]]) for name, part in parts.items()}
        )

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], dict[str, Response]]:
        responses = {
            name: Response(
                *(
                    torch.cat([convolve(x).flatten(2) for convolve, x in zip(part, features, strict=True)], -1)
                    for part in parts
                )
            )
            for name, parts in self.branches.items()
        }
        return list(features), responses


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
