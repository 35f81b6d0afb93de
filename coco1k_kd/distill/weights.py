"""Students and teachers as they are given, loaded and checked before anything is trained."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256


@dataclass(frozen=True)
class Weights:
    """A model as it is given: a checkpoint, or an architecture to train from scratch."""

    path: str
    sha256: str | None  # None: an architecture
    classes: tuple[str, ...]
    parameters: int
    strides: tuple[int, ...]

    @property
    def scratch(self) -> bool:
        """Whether there are no trained weights."""
        return self.sha256 is None


def read_weights(path: str, role: str) -> Weights:
    """Load a student or teacher as Ultralytics would, which may download it. UserError if it cannot serve."""
    import ultralytics

    from coco1k_kd.distill.teacher import detect_head

    if not path.endswith((".pt", ".yaml", ".yml")):
        raise UserError(f"the {role} {path} is neither a checkpoint (.pt) nor an architecture (.yaml)")
    if role == "teacher" and not path.endswith(".pt"):
        raise UserError(f"the teacher {path} is an architecture: it has learnt nothing; give a checkpoint (.pt)")
    logger = logging.getLogger("ultralytics")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # its warnings about a missing network would bury our line
        model = ultralytics.YOLO(path)
    except Exception as error:  # Ultralytics raises whatever its download, unpickler or parser raised
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot load the {role} {path}: {reason} (a file that exists, or a name that Ultralytics can download)"
        ) from None
    finally:
        logger.setLevel(level)
    head = detect_head(model.model, role)
    if model.task != "detect":
        raise UserError(f"the {role} {path} is made for the task {model.task}: give a detector")
    checkpoint = Path(model.ckpt_path) if path.endswith(".pt") and model.ckpt_path else None
    return Weights(
        path=str(checkpoint.resolve()) if checkpoint else path,
        sha256=sha256(checkpoint) if checkpoint else None,
        classes=tuple(model.names[i] for i in range(len(model.names))),
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        strides=tuple(int(stride) for stride in head.stride),
    )
