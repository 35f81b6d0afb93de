"""What this package reads of Ultralytics' models beyond their documented interface.

What is relied on of a model's neck, predictions and loss stands here, and `tests/distill/test_seams.py` fails, by name,
when it changes. Elsewhere: the methods that `trainer.DistillationTrainer` overrides, the head that `teacher.py` takes
apart, the assigner that `doubt.py` wraps, the data set that `pool.py` extends.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from ultralytics.nn.modules.head import Detect

from coco1k_kd.distill.distiller import Answer
from coco1k_kd.distill.response import BRANCHES, Response
from coco1k_kd.errors import UserError

TASKS = ("detect", "segment", "pose", "obb")  # those whose head stands on the levels of a neck
# Heads that are refused, and what the model is that has one.
_UNFIT = {
    "Classify": "a classifier, which has no neck to distil",
    "SemanticSegment": "a model for semantic segmentation, whose head has no levels to distil",
    "Depth": "a depth estimator, whose head has no levels to distil",
    "RTDETRDecoder": "an RT-DETR, which is trained on queries and not on the levels of a neck",
    "WorldDetect": "a YOLO-World, whose features depend on text",
    "YOLOEDetect": "a YOLOE, whose head depends on prompts",
}


def detect_head(model: nn.Module, role: str) -> Detect:
    """Return the Detect head (also a Segment, Pose or OBB head) that ends `model`.

    Raises:
        UserError: there is none; the message names the `role` ("teacher", "student") and the kind of model.
    """
    layers = getattr(model, "model", None)
    head = layers[-1] if isinstance(layers, nn.Sequential) and len(layers) else None
    unfit = next((_UNFIT[kind.__name__] for kind in type(head).__mro__ if kind.__name__ in _UNFIT), None)
    if unfit is None and not isinstance(head, Detect):
        unfit = f"a {type(model).__name__} without a Detect head"
    if unfit:
        raise UserError(f"the {role} is {unfit}: distillation takes YOLO models for {', '.join(TASKS)}")
    if head.cv2 is None:
        raise UserError(
            f"the {role} is fused: load it from its .pt file, since fusing drops the head it was trained with"
        )
    return head


def neck_channels(head: Detect) -> list[int]:
    """Widths of the feature maps that enter a Detect head, finest level first."""
    return [branch[0].conv.in_channels for branch in head.cv2]


def neck_strides(head: Detect) -> list[int]:
    """Strides of the feature maps that enter a Detect head, finest level first."""
    return [int(stride) for stride in head.stride]


def branches_of(head: Detect) -> list[str]:
    """Which of `response.BRANCHES` a Detect head has: an end-to-end head has both."""
    return [name for name in BRANCHES if name == BRANCHES[0] or getattr(head, "one2one_cv2", None) is not None]


def student_answer(preds: dict[str, Any], respond: bool = True) -> Answer:
    """A student's raw training predictions as what is distilled; without responses if nobody compares them."""
    branches = preds if BRANCHES[0] in preds else {BRANCHES[0]: preds}
    responses = {
        name: Response(branches[name]["boxes"], branches[name]["scores"])
        for name in BRANCHES
        if respond and name in branches
    }
    return Answer(branches[BRANCHES[0]]["feats"], responses)


def branch_gains(task: Any) -> dict[str, float]:
    """What Ultralytics' criterion multiplies the task loss of each branch by: not 1 for an end-to-end head's two.

    It lowers the one-to-many branch's during training, through which all of the body's gradient comes.
    """
    return {BRANCHES[0]: getattr(task, "o2m", 1.0), BRANCHES[1]: getattr(task, "o2o", 1.0)}
