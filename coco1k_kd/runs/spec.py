"""What a run is given and what it gives back: `spec.json` and `result.json` in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from coco1k_kd.errors import UserError
from coco1k_kd.files import NOT_JSON, write_json

SPEC, RESULT = "spec.json", "result.json"
PREDICTIONS = "predictions.json"  # of an exported file; checkpoints have theirs by name
_SHARE_OF_CORES = 0.5  # of two runs alone, which the one with the smaller layers reaches
EPOCHS = ("best", "last")  # of each run the checkpoints that are evaluated
T = TypeVar("T")


class Spec(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every run needs to know."""

    folder: str
    listed: str = ""  # the hashes of the files that it reads; they must be the same when it starts
    launched: float = 0.0  # seconds of the monotonic clock, which all processes of a machine share
    at_once: int = 1  # runs that share the machine


class ValSpec(Spec, frozen=True, kw_only=True):
    """A run that ends with predictions on val images."""

    annotations: str  # in COCO's format
    images: str  # the folder that their file names are relative to


class EvaluateSpec(ValSpec, frozen=True, kw_only=True, tag="evaluate"):
    """An evaluation of checkpoints by name, each of which has its own predictions."""

    weights: dict[str, str]
    val_args: dict[str, Any]
    by_name: bool = False  # the weights have other classes than the annotations, in part the same by name


class ExportSpec(ValSpec, frozen=True, kw_only=True, tag="export"):
    """An export of a checkpoint to a format of `formats.FORMATS`, and an evaluation of the file."""

    weights: str
    format: str
    calibration: str  # the data YAML whose train images int8 is calibrated by
    val_args: dict[str, Any]


class TrainSpec(ValSpec, frozen=True, kw_only=True, tag="train"):
    """A training. `train_args` go to Ultralytics as they stand."""

    arm: str
    seed: int
    student: str
    start: str  # of `initial.STARTS`
    freeze_bn: bool
    draw: int = 0  # which of the study's train images
    code: str = ""  # hash of the package's code when the study began
    teacher: str | None
    random_teacher: bool
    placebo_images: list[str]  # give the random teacher its statistics
    distillation: str | None  # a loss, or "ultralytics"
    distillation_settings: dict[str, Any]  # of `distill.settings.Distillation`
    train_args: dict[str, Any]
    judge: EvaluateSpec | None = None  # of its checkpoints, where other images than these judge


class Picture(msgspec.Struct, frozen=True, array_like=True):
    """An image to look at: its file, that file's SHA-256, and width and height in pixels after EXIF."""

    file: str
    sha256: str
    size: tuple[int, int]


class LookSpec(Spec, frozen=True, kw_only=True, tag="look"):
    """A share of a teacher's pass over images: `taught.look`, whose boxes go into a `boxes.BoxStore`."""

    teacher: str
    batches: list[list[Picture]]
    store: str
    identity: dict[str, Any]
    process: int
    settings: dict[str, Any]


class Figures(msgspec.Struct, kw_only=True):
    """What is counted, timed and hashed while a run trains."""

    init_hash: str = ""
    batch_hash: str = ""
    stream_hash: str = ""
    world_size: int = 1
    effective_batch: int = 0
    epochs: int = 0
    images: int = 0
    train_seconds: float = 0.0
    val_seconds: float = 0.0
    cpu_seconds: float | None = None  # of all cores together, without validation; None for a training on GPUs
    peak_memory_bytes: int = 0
    resumed_after_epochs: list[int] = []
    earlier_seconds: float = 0.0  # of training and validation before the run was resumed
    at_once: int = 1  # most runs that shared the machine with it, also before it was resumed
    steps_taken: int = 0
    pool_images: int = 0  # without labels of a person
    pool_boxes: int = 0  # labels that the teacher has given
    labelling_seconds: float = 0.0  # what that took, once for the study, of all processes that shared it together
    labelling_cpu_seconds: float = 0.0  # and of all cores


class Trained(msgspec.Struct):
    """The end of a training: its figures, and its `work`, which the audit compares between arms."""

    figures: Figures
    work: dict[str, Any]


class Result(Figures, kw_only=True):
    """A training and its evaluation. `ultralytics` has Ultralytics' own figures of the best epoch."""

    seconds: float
    ultralytics: dict[str, float]
    ultralytics_last: dict[str, float]
    work: dict[str, Any]
    teacher_sha256: str | None = None  # as the run loaded it
    loss_file_sha256: str | None = None  # with what it imports from its folder
    files_sha256: str = ""  # of all images, labels and annotations as they were read
    weights_sha256: dict[str, str] = {}  # of the checkpoints that were evaluated, by name
    predictions_sha256: dict[str, str] = {}  # of each file of predictions, by its name
    sha256: str = ""  # of all else that is here


UNTAUGHT: dict[str, Any] = {  # of a TrainSpec, where nobody teaches
    "teacher": None,
    "random_teacher": False,
    "placebo_images": [],
    "distillation": None,
    "distillation_settings": {},
}


def comparable_seconds(results: Sequence[Result]) -> list[float]:
    """Training time of each run, by which their costs are compared: of cores, or by the clock."""
    cores = by_cores(results)
    return [result.cpu_seconds if cores else result.train_seconds for result in results]


def by_cores(results: Sequence[Result]) -> bool:
    """Whether costs are compared by the time of cores.

    Where runs share cores, the clock of each counts the others' work as well; the cores' time does not. Nor does it
    count other programs' work, or a time in which a run was stopped: that shows where one had less than half of the
    cores that another had. Trainings that have the machine to themselves are timed by the clock, since a teacher's big
    layers fill the cores better.
    """
    if results and all(result.cpu_seconds for result in results):
        cores = [result.cpu_seconds / result.train_seconds for result in results]
        return any(result.at_once > 1 for result in results) or min(cores) < _SHARE_OF_CORES * max(cores)
    return False


class Evaluation(msgspec.Struct, kw_only=True):
    """Ultralytics' own figures of each checkpoint by name."""

    ultralytics: dict[str, dict[str, float]]
    seconds: float
    versions: dict[str, str] = {}
    code: str = ""
    files_sha256: str = ""  # of all images, labels and annotations as they were read
    weights_sha256: dict[str, str] = {}  # of the checkpoints that were evaluated, by name
    predictions_sha256: dict[str, str] = {}  # of each file of predictions, by its name
    sha256: str = ""  # of all else that is here


class Exported(msgspec.Struct):
    """A file, or folder, in its spec's folder, as `export` has made and timed it."""

    file: str
    megabytes: float
    ms_per_image: float
    seconds: float
    predictions_sha256: dict[str, str] = {}  # of each file of predictions, by its name
    sha256: str = ""  # of all else that is here


class Looked(msgspec.Struct, kw_only=True):
    """What a teacher could not look at, by file, with the reason. Its boxes are where the spec says."""

    undecoded: dict[str, str]
    predictions_sha256: dict[str, str] = {}  # none
    sha256: str = ""  # of all else that is here


Outcome = Result | Evaluation | Exported | Looked  # of a run, whatever its kind


def result_type(spec: Spec) -> type[Outcome]:
    """What a run of this spec gives back."""
    return {TrainSpec: Result, EvaluateSpec: Evaluation, ExportSpec: Exported, LookSpec: Looked}[type(spec)]


def checkpoints(folder: str | Path) -> dict[str, str]:
    """What is evaluated of the run in `folder`, by name."""
    return {epoch: str(Path(folder) / "weights" / f"{epoch}.pt") for epoch in EPOCHS}


def read(path: Path, kind: type[T]) -> T:
    """Read one of these from its file. UserError if the file holds something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except NOT_JSON as error:
        raise UserError(f"{path} was not written by this version ({error}); remove its folder") from None


def write(path: Path, content: msgspec.Struct) -> None:
    """Write one of these as indented JSON, atomically."""
    write_json(path, msgspec.to_builtins(content))


def read_spec(folder: Path) -> TrainSpec | EvaluateSpec | ExportSpec | LookSpec:
    """The spec of the run in `folder`."""
    return read(folder / SPEC, TrainSpec | EvaluateSpec | ExportSpec | LookSpec)
