"""The whole of comparison_*.json as types: what a study writes, and all that tables, picture and page are made from.

    python -m coco1k_kd.report.comparison > docs/comparison.schema.json

AP values are fractions (0.01 is one AP point), times are in seconds, memory in bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from coco1k_kd.errors import UserError
from coco1k_kd.files import NOT_JSON
from coco1k_kd.report.checks import Audit, Controls, Failure, Git
from coco1k_kd.verdict.entry import Entry, Times

SCHEMA_VERSION = 1

Ap = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(ge=0)]


class OwnFigures(Struct):
    """Ultralytics' own mAP, which pairs boxes by other rules than COCOeval."""

    map50: Ap
    map50_95: Ap


class Run(Struct, kw_only=True):
    """One training. `ap*` is COCOeval on predictions_best.json, `*_last` on predictions_last.json."""

    draw: Annotated[Natural, Meta(description="which subset of train images; 0 where there is one")]
    seed: int
    dir: str
    ap: Ap
    ap50: Ap
    ap75: Ap | None = None
    ap_small: Ap | None = None
    ap_medium: Ap | None = None
    ap_large: Ap | None = None
    ap_last: Ap
    ap50_last: Ap
    ap75_last: Ap | None = None
    ap_small_last: Ap | None = None
    ap_medium_last: Ap | None = None
    ap_large_last: Ap | None = None
    ap_judge: Annotated[Ap | None, Meta(description="best epoch's, on the images that the verdict is taken on")] = None
    ultralytics: OwnFigures
    ultralytics_last: OwnFigures | None = None
    train_seconds: Annotated[Positive, Meta(description="without validation")]
    val_seconds: Positive
    cpu_seconds: Annotated[
        float | None, Meta(description="of all cores together, without validation; absent for GPUs")
    ] = None
    cost_seconds: Annotated[
        float | None, Meta(description="of training, as arms are compared: of the cores where runs shared them")
    ] = None
    images_per_second: Positive
    peak_memory_bytes: Natural | None
    effective_batch: Count
    world_size: Annotated[Count, Meta(description="GPUs of the run, which share the batch")] = 1
    epochs: Count
    batch_hash: str
    init_hash: str
    pool_images: Annotated[Natural, Meta(description="images without labels that it was trained on, too")] = 0
    pool_boxes: Annotated[Natural, Meta(description="labels that the teacher has given")] = 0
    resumed_after_epochs: list[int] = []
    at_once: Annotated[Count, Meta(description="runs that shared the machine")] = 1
    curves: Annotated[
        dict[str, list[float | None] | None],
        Meta(
            description="by epoch: `epoch`, `ap` (Ultralytics' mAP50-95), and of a distilled run `kd_loss`, "
            "`gradient_ratio` and `cosine_stride8` for each level"
        ),
    ] = {}
    predictions: Annotated[str, Meta(description="best epoch's, on the images of `judged_by`")] = ""


class Judged(Struct):
    """The images that `runs[].predictions` are of; tables and pictures of the page are made from these files."""

    annotations: str
    images: str
    sha256: Annotated[str, Meta(description="of the annotations")]


class ImageGroups(Struct):
    """Which of the images that judge are one sample (--groups)."""

    pattern: str
    groups: Count
    largest: Annotated[Count, Meta(description="images of the largest group")]
    alone: Annotated[Natural, Meta(description="images whose names do not match: each is a group")]


class Arm(Struct):
    """All runs of an arm; `std` over runs is null with one run."""

    runs: Annotated[list[Run], Meta(min_length=1)]
    mean: dict[str, float | None]
    std: dict[str, float | None]
    overhead: Annotated[float | None, Meta(description="extra training time per image, over the baseline's")] = None
    ap_known: Annotated[
        Ap | None,
        Meta(description="mean over runs, of `references.student.classes` on val; null where it knows all or none"),
    ] = None


class Fitted(Struct):
    """How a teacher was trained on the study's train images before it taught."""

    epochs: Annotated[Count, Meta(description="that it was trained for; val chose one of them")]
    seconds: Annotated[Positive, Meta(description="of training, without validation, of all draws; once in equal time")]
    origin: Annotated[str, Meta(description="the teacher that was given")] = msgspec.field(name="from")


class Reference(Struct, kw_only=True):
    """A model as it is given, or the fitted teacher, on the study's val images.

    AP is null where none can be measured, and `note` says why.
    """

    ap: Ap | None
    ap50: Ap | None
    ap75: Ap | None = None
    ap_small: Ap | None = None
    ap_medium: Ap | None = None
    ap_large: Ap | None = None
    weights: str = ""
    sha256: str | None = None  # None: an architecture, from scratch
    note: str = ""
    ap_judge: Annotated[Ap | None, Meta(description="on the images that the verdict is taken on")] = None
    ultralytics: OwnFigures | None = None
    predictions: str = ""
    judged: Annotated[str, Meta(description="its detections on the images of `judged_by`; empty: none are needed")] = ""
    classes: Annotated[
        list[str],
        Meta(description="those of the data's that it knows by name, if not all: AP is of these; empty: of all"),
    ] = []
    fitted: Annotated[Fitted | None, Meta(description="null for a model as it is given")] = None

    @property
    def ap_of_all(self) -> float | None:
        """AP over all classes of the data, which alone can stand beside an arm's."""
        return None if self.classes else self.ap


Change = Literal["arms", "seeds", "draws", "looks", "hours", "judge", "groups"]


class Progress(Struct):
    """Which looks at the data were planned, and where the study stands: docs/statistics.md."""

    seeds: Literal["auto", "fixed"]
    looks: Annotated[list[Count], Meta(description="numbers of `unit` after which there is a verdict")]
    levels: Annotated[list[Ap], Meta(description="two-sided level of each look")]
    look: Annotated[Natural, Meta(description="how many looks are behind; 0 before the first")]
    stopped: Annotated[
        Literal["settled", "looks", "hours", "fixed", "futility"] | None,
        Meta(description="why no more runs follow; null in an interim report"),
    ] = None
    unplanned: Annotated[list[int], Meta(description="seeds that were added after a verdict")] = []
    changed: Annotated[list[Change], Meta(description="what was changed after a verdict was known")] = []
    unit: Annotated[Literal["seed", "draw"], Meta(description="what is repeated: a draw has seeds of its own")] = "seed"
    hours_spent: Positive | None = None
    hours_next: Annotated[Positive | None, Meta(description="estimate for the next look")] = None


class Way(Struct):
    """A change of the study, and what it would find."""

    what: Literal["images", "seeds", "epochs"]
    number: Annotated[Count, Meta(description="of images, or of seeds; `epochs` are halved for that many seeds")]
    finds: float
    hours: Annotated[Positive, Meta(description="more than the study takes")]


class Power(Struct):
    """The true difference that the study finds with 80% probability by its last look."""

    finds: float
    units: Annotated[Count, Meta(description="seeds or draws at most")]
    unit: Literal["seed", "draw"] = "seed"
    hours: Annotated[Positive | None, Meta(description="of the whole study; null before anything has run")] = None
    prior: Annotated[bool, Meta(description="the spread between seeds is so far that of other studies")] = True
    ways: list[Way] = []
    best: Annotated[
        Literal["images", "seeds", "epochs"] | None, Meta(description="the way that helps most per hour")
    ] = None


Answer = Literal["use_teacher", "keep_student", "train_longer", "no_difference", "hurts", "not_known"]


class Headline(Struct):
    """What to do, in a word and in an English sentence; `arm` is the one that it speaks of."""

    answer: Answer
    arm: str | None
    text: str


class Model(Struct):
    """A model as it is given."""

    parameters: Count
    gflops: Annotated[Positive, Meta(description="for one image of the study's size; 0 where it cannot be counted")]
    ms_per_image: Annotated[Positive, Meta(description="the network alone, image by image, on this machine")]


class Export(Struct):
    """The best run of an arm, by its AP on the val images, as the file that would be shipped."""

    arm: str
    draw: Natural
    seed: int
    format: Annotated[str, Meta(description="of Ultralytics' exporter, as onnx, onnx:half or openvino:int8")]
    file: str
    megabytes: Positive
    ms_per_image: Annotated[Positive, Meta(description="as of `models`")]
    ap: Annotated[Ap, Meta(description="of the file, on the images that the verdict is taken on")]
    d_ap: Annotated[float, Meta(description="what the export changes: `ap` less that of the run's checkpoint")]


class Labelling(Struct):
    """What the teacher has found for the arms that learn by `pool` and `fill`: once for all runs of the study."""

    seconds: Annotated[Positive, Meta(description="counted at equal time")]
    images: Count
    boxes: Annotated[Natural, Meta(description="those that are labels")]
    imgsz: Annotated[Count, Meta(description="pixels at which it looked")]
    train_images: Annotated[Natural, Meta(description="of the images; label_review.html has what it doubts there")] = 0


class Comparison(Struct, kw_only=True):
    """comparison_*.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    command: Annotated[str, Meta(description="what was typed")]
    language: Annotated[str, Meta(description="of the report whose files have no language in their names")] = "en"
    versions: dict[str, str]
    git: Annotated[Git | None, Meta(description="null where the program is not under git")]
    hardware: dict[str, str | int | None]
    dataset: dict[str, Any]
    settings: dict[str, Any] = {}
    at_once: Annotated[Count, Meta(description="most runs under way at once; above 1 times are shared")] = 1
    headline: Headline | None = None
    design: Progress | None = None
    power: Power | None = None
    arms: Annotated[dict[str, Arm], Meta(min_length=1)]
    references: Annotated[dict[str, Reference], Meta(description="student and teacher as they are given")]
    models: Annotated[dict[str, Model], Meta(description="student and teacher; empty in an interim report")] = {}
    labelling: Labelling | None = None
    exports: Annotated[list[Export], Meta(description="what --export asks for")] = []
    comparisons: list[Entry]
    against_given: Annotated[
        list[Entry],
        Meta(description="each arm against the student as given, where it trains on as it is and other images judge"),
    ] = []
    slower: Annotated[
        dict[str, Times],
        Meta(description="arms that took more time than baseline_same_time, so that they are not compared with it"),
    ] = {}
    audit: Audit
    controls: Controls | None
    failures: list[Failure] = []
    judged_by: Judged | None = None
    groups: ImageGroups | None = None


def read_comparison(path: Path) -> Comparison:
    """Read a comparison. UserError where the file is missing or does not have these fields."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Comparison)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except NOT_JSON as error:
        raise UserError(f"{path} is not a comparison of this program: {error}") from None


def schema() -> str:
    """The JSON schema of comparison_*.json, as docs/comparison.schema.json holds it."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "comparison_*.json"}
    return msgspec.json.format(msgspec.json.encode(dialect | msgspec.json.schema(Comparison))).decode() + "\n"


if __name__ == "__main__":
    print(schema(), end="")
