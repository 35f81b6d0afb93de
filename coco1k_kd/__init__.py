"""COCO-1K KD: the quickest trustworthy answer to "does knowledge distillation help my YOLO student?"."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Resolved on first use: the sampler must not wait seconds for torch that it does not need.
_PUBLIC = {
    "YOLO": "study.api",
    "CWDLoss": "distill.losses",
    "MGDLoss": "distill.losses",
    "cwd_loss": "distill.losses",
    "UserError": "errors",
    "register_loss": "distill.registry",
}
__all__ = ["YOLO", "CWDLoss", "MGDLoss", "UserError", "cwd_loss", "register_loss"]


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
