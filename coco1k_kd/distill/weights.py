"""Students and teachers as they are given, loaded and checked before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coco1k_kd.data.quiet import quiet
from coco1k_kd.errors import UserError, visible
from coco1k_kd.files import sha256

if TYPE_CHECKING:
    from torch import nn


_EXPORTS = (
    ".onnx", ".engine", ".torchscript", ".mlpackage", ".tflite", ".pb", "_openvino_model", "_saved_model",
    "_ncnn_model", "_paddle_model", ".mnn",
)  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """A model as it is given: a checkpoint, or an architecture to train from scratch."""

    path: str
    sha256: str | None  # None: an architecture
    classes: tuple[str, ...]
    parameters: int
    strides: tuple[int, ...]
    task: str = "detect"

    @property
    def scratch(self) -> bool:
        """Whether there are no trained weights."""
        return self.sha256 is None


def load_model(given: Any, role: str) -> nn.Module:
    """Return the module of a student or teacher, however it is given; its weights are left alone.

    Args:
        given: path or name of a checkpoint, which Ultralytics may download; for a student also of an architecture
            (.yaml). Or a `YOLO`, or its `.model`.
        role: "student" or "teacher", for the messages.

    Raises:
        UserError: it cannot be loaded, or cannot serve.
    """
    import ultralytics
    from torch import nn

    from coco1k_kd.distill.seams import detect_head

    if isinstance(given, (str, Path)):
        given = _open(str(given), role)
    if isinstance(given, ultralytics.engine.model.Model):
        given = given.model
    if isinstance(given, str):  # what a `YOLO` of an exported file has in place of a module
        raise UserError(_exported(given, role))
    if not isinstance(given, nn.Module):
        raise UserError(
            f"the {role} is given as {type(given).__name__}: give a checkpoint (.pt), a YOLO object or its .model"
        )
    head = detect_head(given, role)
    _check_names(given, head.nc, role)
    return given


def read_weights(path: str, role: str) -> Weights:
    """Load the student or teacher of a comparison, which compares detectors. UserError if it cannot serve."""
    from coco1k_kd.distill.seams import detect_head, neck_strides

    model = load_model(path, role)
    if role == "student" and model.task != "detect":
        raise UserError(
            f"the student {path} is made for the task {model.task}, and the comparison is one of detectors: "
            "distil it with YOLO(...).train(teacher=...)"
        )
    checkpoint = Path(model.pt_path) if path.endswith(".pt") else None
    return Weights(
        path=str(checkpoint.resolve()) if checkpoint else path,
        sha256=sha256(checkpoint) if checkpoint else None,
        classes=tuple(visible(str(model.names[i])) for i in range(len(model.names))),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        strides=tuple(neck_strides(detect_head(model, role))),
        task=model.task,
    )


def _exported(path: str, role: str) -> str:
    """What to say of a model that has been exported."""
    return (
        f"the {role} {path} is an exported model, which shows neither its weights nor its features: give the "
        "checkpoint (.pt) that it was exported from"
    )


def _check_names(model: nn.Module, classes: int, role: str) -> None:
    """Whether a model has a name for each of its classes, numbered from 0, as Ultralytics trains them."""
    names = getattr(model, "names", None)
    numbers = list(names) if isinstance(names, dict) else list(range(len(names or ())))
    if sorted(numbers, key=str) == sorted(range(classes), key=str):
        return
    has = "has no names of classes" if not numbers else f"numbers its {len(numbers)} classes from {numbers[0]}"
    raise UserError(
        f"the {role} {has}, where its head has {classes} from 0: set them, as model = YOLO('...'); model.model.names "
        f"= {{0: 'cat', 1: 'dog', ...}}; model.save('named.pt'), and give that file"
    )


def _open(path: str, role: str) -> Any:
    """Open a file as Ultralytics would, or raise `UserError` with the first line of what went wrong."""
    import ultralytics

    if role == "teacher" and path.endswith((".yaml", ".yml")):
        raise UserError(f"the teacher {path} is an architecture, which has learnt nothing: give a checkpoint (.pt)")
    if path.rstrip("/").endswith(_EXPORTS):
        raise UserError(_exported(path, role))
    if not path.endswith((".pt", ".yaml", ".yml")):
        raise UserError(f"the {role} {path!r} is neither a checkpoint (.pt) nor an architecture (.yaml)")
    try:
        with quiet():  # its warnings about a missing network would bury our line
            return (ultralytics.RTDETR if "rtdetr" in Path(path).stem else ultralytics.YOLO)(path)
    except Exception as error:  # Ultralytics raises whatever its download, unpickler or parser raised
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot load the {role} {path}: {reason} (a file that exists, or a name that Ultralytics can download)"
        ) from None
