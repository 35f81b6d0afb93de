"""The formats that a student can be exported to, and what each needs. Ultralytics' own exporter makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from coco1k_kd.errors import UserError

PRECISIONS = ("half", "int8")


@dataclass(frozen=True)
class _Needs:
    """The packages of a format, which pip and Python name alike, and where it can be made."""

    packages: tuple[str, ...] = ()
    int8: tuple[str, ...] | None = None  # the packages of int8 besides; None: there is no int8
    gpu: bool = False  # made on a GPU only
    half_on_gpu: bool = False


_ONNX = ("onnx", "onnxruntime", "onnxslim")
FORMATS = {
    "onnx": _Needs(_ONNX, int8=()),
    "openvino": _Needs(("openvino",), int8=("nncf",)),
    "torchscript": _Needs(half_on_gpu=True),
    "engine": _Needs((*_ONNX, "tensorrt"), int8=(), gpu=True),
    "coreml": _Needs(("coremltools",), int8=()),
    "ncnn": _Needs(("ncnn", "pnnx")),
    "mnn": _Needs((*_ONNX, "MNN"), int8=()),
}


def read_format(asked: str) -> tuple[str, str]:
    """Format and precision ("" for that of the weights) of `onnx`, `onnx:half` and the like. UserError if unknown."""
    name, _, precision = asked.partition(":")
    if name not in FORMATS:
        raise UserError(f"--export {asked}: choose of {', '.join(FORMATS)}, each also as NAME:half or NAME:int8")
    known = PRECISIONS if FORMATS[name].int8 is not None else PRECISIONS[:1]
    if ":" in asked and precision not in known:
        raise UserError(f"--export {asked}: give {name} or {' or '.join(f'{name}:{word}' for word in known)}")
    return name, precision


def check_formats(asked: Sequence[str], device: str) -> None:
    """UserError if one of the formats is unknown, named twice, or cannot be made here."""
    if len(set(asked)) < len(asked):
        raise UserError(f"--export names something twice: {' '.join(asked)}")
    for text in asked:
        name, precision = read_format(text)
        needs = FORMATS[name]
        packages = needs.packages + ((needs.int8 or ()) if precision == "int8" else ())
        if missing := [package for package in packages if find_spec(package) is None]:
            raise UserError(f"--export {text}: install what it needs first: pip install {' '.join(missing)}")
        if (needs.gpu or (needs.half_on_gpu and precision == "half")) and not _on_gpu(device):
            raise UserError(f"--export {text}: made on a CUDA GPU only: give --device 0, or leave it out")


def _on_gpu(device: str) -> bool:
    import torch

    return device not in ("cpu", "mps") and (bool(device) or torch.cuda.is_available())
