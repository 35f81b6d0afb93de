"""`YOLO` as users import it: that of `distill/yolo.py`, which may also learn from images that the teacher labels first.

It stands here since labelling asks for more than distillation does: labelled val images, and what is right on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

from ultralytics.utils import SETTINGS

from coco1k_kd.data.given import open_data
from coco1k_kd.data.leaks import twins
from coco1k_kd.data.lesson import unsealed
from coco1k_kd.data.pool import accept_pool, lookalikes
from coco1k_kd.distill import yolo
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError, count
from coco1k_kd.study.hyperparameters import check_imgsz
from coco1k_kd.study.lessons import Source, keep, labels_of, teach_once
from coco1k_kd.study.unlabelled import kept_out

_BY_LABELS = ("pool", "fill")


class YOLO(yolo.YOLO):
    """Ultralytics' `YOLO` whose `train` takes a teacher, and images without labels; the same in everything else."""

    def train(
        self,
        trainer: Any = None,
        *,
        teacher: Any = yolo.NOT_GIVEN,
        unlabelled: str | Path | None = None,
        teacher_imgsz: int | None = None,
        class_map: Sequence[str] = (),
        **kwargs: Any,
    ) -> Any:
        """Train as Ultralytics does, distilling from `teacher` if there is one.

        Args:
            trainer: Ultralytics' `trainer=`, any subclass of the task's own trainer; it is given the teacher.
            teacher: path, `YOLO` or module of an Ultralytics model; None is plain training.
            unlabelled: a folder, or a list, of images that the teacher labels once; each batch has a share of them.
                `distillation_loss` is then "pool", and what is given of others comes on top of it.
            teacher_imgsz: pixels at which it labels; None for that of the best AP on the val images.
            class_map: its classes that have another name in the data, as "FROM=TO".
            **kwargs: Ultralytics' training arguments, and each setting of `Distillation` with `distillation_` before
                its name.

        Returns:
            Ultralytics' training metrics.

        Raises:
            UserError: an argument, a model, the data or the images are unfit; no run folder is left.
            DistillationError: the distillation turned out not to happen.
        """
        parts = str(kwargs.get("distillation_loss") or "").lower().split("+")
        resumed = kwargs.get("resume")
        if unlabelled is not None and "pool" not in parts:
            parts = ["pool", *filter(None, parts)]
        learns, lesson = not resumed and set(parts) & set(_BY_LABELS), kwargs.get("distillation_lesson")
        asked = {"unlabelled": unlabelled is not None, "teacher_imgsz": teacher_imgsz, "class_map": class_map}
        _check_use([name for name, given in asked.items() if given], learns, lesson, resumed)
        if learns and lesson:
            _check_lesson(lesson, teacher, kwargs)
        elif learns:
            check_imgsz(teacher_imgsz, "teacher_imgsz")
            kwargs["distillation_loss"] = "+".join(parts)
            kwargs["distillation_lesson"] = _lesson(parts, teacher, unlabelled, teacher_imgsz, class_map, kwargs)
        return super().train(trainer, teacher=teacher, **kwargs)

    _first, _trainer, _teacher, *_others = Signature.from_callable(yolo.YOLO.train).parameters.values()
    train.__signature__ = Signature(
        [
            *(_first, _trainer, _teacher),
            Parameter("unlabelled", Parameter.KEYWORD_ONLY, default=None, annotation="str | Path | None"),
            Parameter("teacher_imgsz", Parameter.KEYWORD_ONLY, default=None, annotation="int | None"),
            Parameter("class_map", Parameter.KEYWORD_ONLY, default=(), annotation="Sequence[str]"),
            *_others,
        ],
        return_annotation="Any",
    )


def _file(teacher: Any) -> str | Path | None:
    """The checkpoint of a teacher, where it is one: of a `YOLO` that was trained since, the one that it has now."""
    if (known := getattr(teacher, "ckpt_path", None)) is None:
        return teacher if isinstance(teacher, (str, Path)) else None
    return getattr(teacher.model, "pt_path", None) or known


def _check_use(asked: Sequence[str], learns: Any, lesson: Any, resumed: Any) -> None:
    """UserError if one of the arguments by which a teacher labels is given where none does."""
    if asked and resumed:
        raise UserError(f"{asked[0]}= and resume=: a run goes on with what it has learnt from; leave out {asked[0]}=")
    if asked and lesson:
        raise UserError(
            f"{asked[0]}= and distillation_lesson=: the lesson has what a teacher found before, and nothing is "
            f"labelled; leave out {asked[0]}= to learn from it, or distillation_lesson= to have the teacher label"
        )
    if asked and not learns:
        raise UserError(f"{asked[0]}= is for a teacher that labels: add unlabelled=DIR, or leave out {asked[0]}=")


def _check_lesson(lesson: str | Path, teacher: Any, kwargs: dict[str, Any]) -> None:
    """UserError if a lesson is of another teacher than the one that is given, where that is a checkpoint; or if an
    image that it is of is now one of the data's, as where people have labelled some of a pool.
    """
    file, found = _file(teacher), unsealed(lesson)
    if file and found.teacher != read_weights(str(file), "teacher").sha256:
        raise UserError(f"{lesson} has the boxes of another teacher than {file}: give the images, by unlabelled=")

    files = [Path(place) for place in found.pool if Path(place).is_file()]
    if not files or not kwargs.get("data"):
        return
    splits = kept_out([open_data(Path(kwargs["data"]), _folder(kwargs))], None)
    copies = {one: (twin, split) for split, others in splits.items() for one, twin in twins(files, others).items()}
    if same := copies or lookalikes(files, splits):
        first, (other, split) = next(iter(same.items()))
        number = sum(of == split for _, of in same.values())
        raise UserError(
            f"{lesson} is of {count(number, 'image')} that {split} has as well (the first: {first}, as {other})"
            ": give the images without these, by unlabelled="
        )


def _folder(kwargs: dict[str, Any]) -> Path:
    """Where the runs are, and what was labelled beside them."""
    return Path(kwargs.get("project") or SETTINGS["runs_dir"]).absolute()


def _lesson(
    parts: Sequence[str],
    teacher: Any,
    unlabelled: str | Path | None,
    imgsz: int | None,
    class_map: Sequence[str],
    kwargs: dict[str, Any],
) -> Path:
    """Have the teacher label, and say what it has found. What was labelled before is kept beside the runs."""
    loss = "+".join(parts)
    file = _file(teacher)
    if not file:
        raise UserError(f"the loss {loss}: give the teacher that labels as a checkpoint (.pt)")
    if "pool" in parts and unlabelled is None:
        raise UserError(f"the loss {loss} learns from images without labels: add unlabelled=DIR")
    if not kwargs.get("data"):
        raise UserError(f"the loss {loss}: add data=, whose val images say which of the teacher's boxes are labels")
    folder = _folder(kwargs)
    weights = read_weights(str(file), "teacher")
    data = open_data(Path(kwargs["data"]), folder)
    pool = accept_pool(Path(unlabelled), kept_out([data], None), folder, "unlabelled=") if unlabelled else None
    device, batch = kwargs.get("device") or "", kwargs.get("batch", 16)
    device = str(device[0] if isinstance(device, (list, tuple)) else device).strip("[]() ").partition(",")[0]
    size = batch if isinstance(batch, int) and batch > 0 else 16  # -1 and fractions are Ultralytics' own estimate
    source = Source([data], pool, "fill" in parts, folder, imgsz, class_map, device, size)
    lesson = teach_once(source, weights)
    if pool and not labels_of(lesson.pool, lesson):
        raise UserError(f"the teacher {file} finds nothing in unlabelled={unlabelled} that could be a label")
    return keep(lesson, folder, "pool")
