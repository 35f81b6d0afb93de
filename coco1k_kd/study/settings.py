"""What a study is asked for: the flags of `test_coco1k_kd.py`, their defaults and help texts, and which go together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coco1k_kd.data.groups import read_pattern
from coco1k_kd.distill import registry
from coco1k_kd.errors import UserError
from coco1k_kd.flags import DATA, HOW, JUDGED, WHERE, flag, typed
from coco1k_kd.runs.devices import read_devices
from coco1k_kd.runs.formats import FORMATS, check_formats
from coco1k_kd.runs.initial import STARTS, WEIGHTS
from coco1k_kd.study.arms import (
    BASELINE,
    POOL_PLACEBO,
    POOL_TRUTH,
    SAME_TIME,
    STOCK,
    Arm,
    arm_names,
    distilled,
    in_order,
    read_arm,
)
from coco1k_kd.study.hyperparameters import STRIDE, check_imgsz, read_fit, read_train_args
from coco1k_kd.study.judge import AUTO
from coco1k_kd.verdict.looks import LOOKS, sequential

SEEDS_AUTO = "auto"
AUTO_HOURS = 6.0  # with seeds auto: what the recommended run takes


@dataclass(frozen=True)
class Settings:
    """What a study is asked for: the flags of `test_coco1k_kd.py`, whose parser is made of these fields."""

    data: Path = flag(
        Path("coco1k/coco1k.yaml"),
        f"a data YAML: of {typed('create')}, or your own in Ultralytics' format",
        DATA,
        type=Path,
        metavar="YAML",
    )
    run_download: bool = flag(
        False,
        "where the images of --data are missing, run the program in its download: to fetch them; read it first",
        DATA,
        action="store_true",
    )
    student: str = flag(
        "yolo11n.pt", "a checkpoint to train further, or a .yaml to train from scratch", metavar="MODEL"
    )
    teacher: str | list[str] = flag(  # one once `checked` has given the others to arms of their own
        "yolo11l.pt",
        "any Ultralytics detector with as many levels; of several each teaches every arm that distils, the first also "
        "those of --controls. An arm may have its own, as cwd:teacher=big.pt",
        nargs="+",
        metavar="MODEL",
    )
    fit_teacher: int | str | None = flag(
        None,
        "first train the teacher on the study's own train images, for so many epochs, of which val chooses one; the "
        "students then learn from that. auto: until 10 epochs have not been better on val, at most 100. Kept in "
        "--project for all its studies; default: the teacher as given",
        metavar="EPOCHS|auto",
    )
    loss: str = flag("cwd", f"how the arm beside the baseline is distilled, also by a sum of these: {registry.told()}")
    arms: list[str] | list[Arm] | None = flag(  # as text until `checked` has read them
        None,
        f"of {', '.join(arm_names())} (default: baseline and --loss). ultralytics is stock distill_model=, "
        "baseline_same_time a baseline that is given the time of the distilled arm of --loss, or else of the first; "
        "all arms that took no more are compared with it. "
        "cwd and mgd may carry settings, as cwd:tau=2 or mgd:mask_ratio=0.4:weight=4",
        nargs="+",
        metavar="ARM",
    )
    seeds: list[int] | str | None = flag(
        None,
        "auto: more seeds until the verdict is known, in planned looks (default; with --draws: 0). Or a fixed list, "
        "with a run of each arm per seed: one seed compares this pair of models only",
        JUDGED,
        nargs="+",
        metavar="N",
    )
    looks: list[int] = flag(
        list(LOOKS),
        "with --seeds auto, after how many seeds the result is judged",
        JUDGED,
        nargs="+",
        type=int,
        metavar="N",
    )
    hours: float | None = flag(
        None,
        "the study begins nothing that would not end within so many hours; the first pair of runs is always finished "
        f"(default: {AUTO_HOURS:g} with --seeds auto, else inf, which is no limit)",
        JUDGED,
        type=float,
        metavar="H",
    )
    auto: bool = False  # set by `checked`
    judge: str = flag(
        AUTO,
        "the images that the verdict is taken on. auto: a data YAML's test split, or all of the val images that the "
        "subset was drawn from and does not hold, where they are at hand. val: the subset's val images. full: as auto, "
        "and an error where they are missing. DIR: the val2017 of a COCO root",
        JUDGED,
        metavar="auto|val|full|DIR",
    )
    groups: str | None = flag(
        None,
        "a regular expression that finds in the file names of the judging images which belong together, as video, "
        "camera or day; its first group, or all that matches. Images of a group are alike and count as one sample "
        "(default: each image is one)",
        JUDGED,
        metavar="REGEX",
    )
    draws: int | str = flag(
        1,
        "subsets that differ in their train images, drawn anew from --coco-root: says whether the verdict holds beyond "
        "one choice of images. auto: every new seed has a new draw, in the looks of --seeds auto",
        DATA,
        metavar="N|auto",
    )
    unit: str | None = None  # set by `checked`: "draw" where every seed has a draw of its own
    coco_root: Path | None = flag(
        None,
        "what the subset was drawn from, for --draws and --judge: the folder of COCO, or the data YAML (default: what "
        "the subset's YAML names)",
        DATA,
        type=Path,
        metavar="DIR",
    )
    unlabelled: Path | None = flag(
        None,
        "images without labels, which the teacher labels once: for the arms pool, pool+response and the like; default "
        "of --arms is then baseline and pool (docs/unlabelled.md)",
        DATA,
        type=Path,
        metavar="DIR|FILE",
    )
    teacher_imgsz: int | None = flag(
        None,
        "pixels at which the teacher labels, a multiple of 32; default: of a few the one with the best AP on the val "
        "images",
        DATA,
        type=int,
        metavar="N",
    )
    class_map: list[str] = flag(
        [],
        "the teacher's classes that have another name in the data, where it labels (default: none)",
        DATA,
        nargs="+",
        metavar="FROM=TO",
    )
    pool_truth: Path | None = flag(
        None,
        "what a person has labelled in --unlabelled, as COCO annotations: adds the arm pool_truth, the most that could "
        "be gained (default: none)",
        DATA,
        type=Path,
        metavar="JSON",
    )
    loss_file: Path | None = flag(
        None,
        "a Python file that registers a loss of your own, for --loss and --arms: docs/adding-a-loss.md (default: none)",
        type=Path,
        metavar="FILE",
    )
    distillation_weight: float | str | None = flag(
        None,
        "a factor of the loss, of a sum one for all parts or one for each, as 1,3 (default: each loss's own, with a "
        "fresh head three times that)",
        metavar="W",
    )
    controls: bool = flag(
        False,
        "also distil with weight 0, which must equal the baseline, and from a teacher of random weights",
        action="store_true",
    )
    start: str = flag(
        WEIGHTS,
        "weights: the student as it is given. neck: with a fresh head, as for new classes. frozen: the same with the "
        "backbone left alone, the best of few epochs. backbone: with a fresh neck, too. What is fresh is trained with "
        "AdamW, learning rate 0.001, a step per batch",
        HOW,
        choices=STARTS,
    )
    freeze_bn: bool = flag(
        False,
        "with --start weights, keep the statistics of all batch norms as the student has them, in all arms; their "
        "weights move",
        HOW,
        action="store_true",
    )
    train: list[str] = flag(
        [],
        "settings for Ultralytics' train, the same for all arms, as lr0=0.005 freeze=10 (default: Ultralytics' "
        "own, but for an optimizer that is the same for all arms)",
        HOW,
        nargs="+",
        metavar="KEY=VALUE",
    )
    epochs: int = flag(100, "passes over the train images", HOW, type=int, metavar="N")
    batch: int = flag(16, "images in a step, on all devices of a run together", HOW, type=int, metavar="N")
    imgsz: int = flag(640, f"pixels of an image's longer side, a multiple of {STRIDE}", HOW, type=int, metavar="N")
    device: str = flag(
        "",
        "as Ultralytics': cpu, 0, mps. 0,1 trains every run on two GPUs, which share the batch (default: the first "
        "GPU, else the CPU)",
        HOW,
    )
    workers: int = flag(8, "processes that load data for a run; a run on the CPU has none", HOW, type=int, metavar="N")
    export: list[str] = flag(
        [],
        f"of {', '.join(FORMATS)}, also as onnx:half or openvino:int8: the best run of each arm is exported by "
        "Ultralytics, judged again as that file, and timed (default: none)",
        WHERE,
        nargs="+",
        metavar="FORMAT",
    )
    project: Path = flag(
        Path("coco1k_kd_experiments"), "folder of the runs and the comparison", WHERE, type=Path, metavar="DIR"
    )

    def checked(self) -> Settings:
        """The same with the arms read and put in order. UserError if something cannot be."""
        if self.loss_file:
            registry.load(self.loss_file)
        loss = self.loss.lower()
        registry.parts(loss)
        arms = [read_arm(str(arm)) for arm in self.arms or [BASELINE, "pool" if self.unlabelled else loss]]
        if self.pool_truth and POOL_TRUTH not in arms:
            arms.append(POOL_TRUTH)
        for arm in arms:
            if arm.parts:
                arm.distillation(self.distillation_weight)
        teacher, *others = teachers = [self.teacher] if isinstance(self.teacher, str) else list(self.teacher)
        if same := [arm for arm in arms if arm.teacher == teacher]:
            raise UserError(f"arm {same[0]}: {teacher} is --teacher; leave it out of the arm")
        several = [arm for arm in arms if arm.learns and not (arm.teacher or arm.control or arm.taught)]
        arms += [arm.with_teacher(other) for arm in several for other in others]
        places = [("--project", self.project), ("--student", self.student), *(("--teacher", file) for file in teachers)]
        for name, place in places:
            if "'" in str(Path(place).absolute()):
                raise UserError(f"{name} {place}: Ultralytics drops ' from paths of checkpoints; choose one without it")
        looks, seeds = sequential(self.looks).looks, self.seeds
        draws = self.draws if self.draws == SEEDS_AUTO else _number("--draws", self.draws)
        if seeds == SEEDS_AUTO and draws not in (1, SEEDS_AUTO):
            raise UserError(f"--draws {draws}: draws are repeated then in place of seeds; give --seeds a list, or auto")
        if draws == SEEDS_AUTO and isinstance(seeds, list):
            raise UserError("--draws auto: every draw has a seed of its own then; leave out --seeds, or give a number")
        unit = "draw" if draws == SEEDS_AUTO else None
        draws = looks[-1] if unit else draws
        if auto := unit or seeds == SEEDS_AUTO or (seeds is None and draws == 1):
            seeds = list(range(looks[-1]))
        seeds = seeds or [0]
        for name, values in (("--arms", arms), ("--seeds", seeds), ("--teacher", teachers)):
            if len(set(values)) < len(values):
                raise UserError(f"{name} names something twice: {' '.join(map(str, values))}")
        self._check_unlabelled(arms)
        placebo = [POOL_PLACEBO] if self.controls and any("pool" in arm.taught for arm in arms) else []
        arms = in_order({BASELINE, *arms, *placebo})  # without a baseline, no verdict
        folders = {arm.folder: arm for arm in arms}
        if twins := [arm for arm in arms if folders[arm.folder] != arm]:
            raise UserError(
                f"arms {twins[0]} and {folders[twins[0].folder]}: their teachers have one file name; rename one of them"
            )
        if others and not several:
            raise UserError(
                f"--teacher {' '.join(teachers)}: no arm learns from each of them; add one that distils batch by batch"
            )
        if SAME_TIME in arms and all(arm.control for arm in distilled(arms)):
            raise UserError(f"{SAME_TIME} is given the time that distillation took: add an arm that distils")
        if self.groups is not None:
            read_pattern(self.groups)
        for name, value, least in (
            ("--epochs", self.epochs, 1),
            ("--batch", self.batch, 1),
            ("--workers", self.workers, 0),
            ("--draws", draws, 1),
        ):
            if value < least:
                raise UserError(f"{name} {value}: must be at least {least}")
        if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:  # numpy's
            raise UserError(f"--seeds {wrong[0]}: must be at least 0 and below 2^32")
        if self.hours is not None and not self.hours > 0:
            raise UserError(f"--hours {self.hours:g}: must be above 0, or inf for no limit")
        check_formats(self.export, self.device)
        fit_teacher = read_fit(self.fit_teacher)
        if fit_teacher and self.class_map:
            raise UserError("--class-map: a teacher that is fitted has the classes of the data; leave it out")
        if fit_teacher and not (distilled(arms) or self.controls):
            raise UserError(f"--fit-teacher {fit_teacher}: no arm learns from a teacher; add one that distils")
        hours = self.hours if self.hours is not None else AUTO_HOURS if auto else math.inf
        for name, size in (("--imgsz", self.imgsz), ("--teacher-imgsz", self.teacher_imgsz)):
            check_imgsz(size, name)
        if self.start not in STARTS:
            raise UserError(f"unknown --start {self.start}: choose of {', '.join(STARTS)}")
        if self.freeze_bn and (self.start != WEIGHTS or not self.student.endswith(".pt")):
            raise UserError("--freeze-bn keeps a checkpoint's statistics: give --start weights and a .pt student")
        if self.start != WEIGHTS and not self.student.endswith(".pt"):
            raise UserError(f"--start {self.start}: {self.student} has no weights to keep; give a checkpoint (.pt)")
        if read_train_args(self.train).get("compile") and any(arm.stock for arm in arms):
            raise UserError(f"--train compile: the arm {STOCK} cannot be compiled; leave out the one or the other")
        if self.batch % len(devices := read_devices(self.device)):
            raise UserError(f"--batch {self.batch}: {len(devices)} devices cannot have equal shares of it")
        chosen = {"loss": loss, "arms": arms, "seeds": seeds, "auto": bool(auto)}
        chosen |= {"draws": draws, "unit": unit, "looks": list(looks) if auto else []}
        return Settings(**{**vars(self), **chosen, "teacher": teacher, "hours": hours, "fit_teacher": fit_teacher})

    def _check_unlabelled(self, arms: Sequence[Arm]) -> None:
        """UserError if an arm lacks what it learns from, or what is given is of no use to any."""
        pooled = [arm for arm in arms if "pool" in arm.taught]
        if pooled and not self.unlabelled:
            raise UserError(f"arm {pooled[0]} learns from images without labels: give them by --unlabelled DIR")
        if self.unlabelled and not pooled:
            raise UserError(f"--unlabelled {self.unlabelled}: no arm learns from it; add pool to --arms")
        if POOL_TRUTH in arms and not self.pool_truth:
            raise UserError(f"arm {POOL_TRUTH} learns from what a person has labelled: give it by --pool-truth JSON")
        if self.pool_truth and not self.pool_truth.is_file():
            raise UserError(f"--pool-truth {self.pool_truth}: there is no such file")
        if read_train_args(self.train).get("rect") and any(arm.taught for arm in arms):
            raise UserError("--train rect: images that a teacher has labelled cannot be trained on with it")


def _number(flag: str, value: int | str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UserError(f"{flag} {value}: give auto, or a number") from None
