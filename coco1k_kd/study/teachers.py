"""The teachers of a study: that of --teacher, and those of arms that have their own, as `cwd:teacher=big.pt`."""

from __future__ import annotations

from coco1k_kd.distill.weights import Weights, read_weights
from coco1k_kd.errors import UserError
from coco1k_kd.study.arms import distilled
from coco1k_kd.study.settings import Settings


def read_teachers(settings: Settings, student: Weights) -> tuple[Weights | None, dict[str, Weights]]:
    """The teacher of --teacher, None where nobody learns from it, and those of single arms by the names of their files.

    UserError if an arm cannot learn from its teacher, or two teachers are the same.
    """
    arms = distilled(settings.arms or [])
    given = [settings.teacher] if settings.controls or not all(arm.teacher for arm in arms) else []
    teachers = {name: read_weights(name, "teacher") for name in [*given, *(arm.teacher for arm in arms if arm.teacher)]}
    for weights in teachers.values():
        if settings.fit_teacher and weights.task != "detect":
            raise UserError(f"--fit-teacher: {weights.path} is made for the task {weights.task}; give a detector")
    seen: dict[str | None, str] = {}
    for name, weights in teachers.items():
        if (other := seen.setdefault(weights.sha256, name)) != name:
            raise UserError(f"the teachers {other} and {name} are the same weights: give one of them")
    for arm in arms:
        strides = teachers[arm.teacher or settings.teacher].strides
        if arm.stock and strides != student.strides:
            raise UserError(
                f"the arm {arm} needs a teacher of the student's levels: strides {strides}, {student.strides}"
            )
        if arm.compared:
            arm.distillation().shared_levels(student.strides, strides, f"arm {arm}")
    main = teachers.pop(settings.teacher) if given else None
    return main, teachers
