"""What a study is: its arms, seeds and settings, and each run as a function of a plain spec. Nothing is done here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coco1k_kd.data.dataset import Data
from coco1k_kd.distill import registry
from coco1k_kd.distill.weights import Weights
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.runs.code import code_hash
from coco1k_kd.runs.devices import read_devices
from coco1k_kd.runs.initial import STARTS, WEIGHTS, start_training
from coco1k_kd.runs.spec import TrainSpec
from coco1k_kd.study.arms import (
    BASELINE,
    RANDOM,
    SAME_TIME,
    STOCK,
    WEIGHT0,
    Key,
    Replicate,
    arm_names,
    distilled,
    in_order,
    is_arm,
    kind,
    own_settings,
)
from coco1k_kd.study.hyperparameters import read_train_args, resolve_optimizer
from coco1k_kd.study.judge import AUTO
from coco1k_kd.verdict.looks import LOOKS, sequential

if TYPE_CHECKING:
    from coco1k_kd.distill.settings import Distillation

_PREFIX = {BASELINE: "", SAME_TIME: "", WEIGHT0: "control_", RANDOM: "control_"}  # of the run folders; else kd_
_PLACEBO_IMAGES = 16
_STRIDE = 32
SEEDS_AUTO = "auto"
AUTO_HOURS = 6.0  # with seeds auto: what the recommended run takes
EPOCHS = ("best", "last")  # of each run the checkpoints that are evaluated
FREE = ("project", "coco_root", "hours", "judge")  # may change between a study and its --resume


@dataclass(frozen=True)
class Settings:
    """What `test_coco1k_kd.py` is asked for; flags of the same names."""

    data: Path
    student: str = "yolo11n.pt"
    teacher: str = "yolo11l.pt"
    loss: str = "cwd"
    arms: list[str] | None = None
    seeds: list[int] | str | None = None  # "auto": as many of those up to the last look as it takes
    looks: list[int] = field(default_factory=lambda: list(LOOKS))
    hours: float | None = None
    auto: bool = False  # set by `checked`
    draws: int = 1
    coco_root: Path | None = None
    loss_file: Path | None = None
    distillation_weight: float | str | None = None
    controls: bool = False
    judge: str = AUTO
    start: str = WEIGHTS
    freeze_bn: bool = False
    train: list[str] = field(default_factory=list)
    epochs: int = 100
    batch: int = 16
    imgsz: int = 640
    device: str = ""
    workers: int = 8
    project: Path = Path("coco1k_kd_experiments")

    def checked(self) -> Settings:
        """The same with the arms written out. UserError if something cannot be."""
        if self.loss_file:
            registry.load(self.loss_file)
        loss = self.loss.lower()
        registry.parts(loss)
        arms = [arm.lower() for arm in self.arms or [BASELINE, loss]]
        for arm in arms:
            arm_distillation(arm, self.distillation_weight)
        looks, seeds = sequential(self.looks).looks, self.seeds
        if seeds == SEEDS_AUTO and self.draws > 1:
            raise UserError(f"--draws {self.draws}: draws are repeated then in place of seeds; give --seeds a list")
        if auto := seeds == SEEDS_AUTO or (seeds is None and self.draws == 1):
            seeds = list(range(looks[-1]))
        seeds = seeds or [0]
        for name, values in (("--arms", arms), ("--seeds", seeds)):
            if len(set(values)) < len(values):
                raise UserError(f"{name} names something twice: {' '.join(map(str, values))}")
        arms = in_order({BASELINE, *arms})  # without a baseline, no verdict
        if SAME_TIME in arms and not distilled(arms):
            raise UserError(f"{SAME_TIME} is given the time that distillation took: add an arm that distils")
        for flag, value, least in (
            ("--epochs", self.epochs, 1),
            ("--batch", self.batch, 1),
            ("--workers", self.workers, 0),
            ("--draws", self.draws, 1),
        ):
            if value < least:
                raise UserError(f"{flag} {value}: must be at least {least}")
        if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:  # numpy's
            raise UserError(f"--seeds {wrong[0]}: must be at least 0 and below 2^32")
        if self.hours is not None and not self.hours > 0:
            raise UserError(f"--hours {self.hours:g}: must be above 0, or inf for no limit")
        hours = self.hours if self.hours is not None else AUTO_HOURS if auto else math.inf
        if self.imgsz < _STRIDE or self.imgsz % _STRIDE:
            raise UserError(f"--imgsz {self.imgsz}: must be a multiple of {_STRIDE}")
        if self.start not in STARTS:
            raise UserError(f"unknown --start {self.start}: choose of {', '.join(STARTS)}")
        if self.freeze_bn and (self.start != WEIGHTS or not self.student.endswith(".pt")):
            raise UserError("--freeze-bn keeps a checkpoint's statistics: give --start weights and a .pt student")
        if self.start != WEIGHTS and not self.student.endswith(".pt"):
            raise UserError(f"--start {self.start}: {self.student} has no weights to keep; give a checkpoint (.pt)")
        if read_train_args(self.train).get("compile") and STOCK in arms:
            raise UserError(f"--train compile: the arm {STOCK} cannot be compiled; leave out the one or the other")
        if self.batch % len(devices := read_devices(self.device)):
            raise UserError(f"--batch {self.batch}: {len(devices)} devices cannot have equal shares of it")
        chosen = {"loss": loss, "arms": arms, "seeds": seeds, "auto": auto, "looks": list(looks) if auto else []}
        return Settings(**{**vars(self), **chosen, "hours": hours})


def arm_distillation(arm: str, weight: float | str | None = None) -> Distillation | None:
    """What an arm that distils asks for, `weight` being the study's; None for one that does not distil.

    UserError if there is no such arm or setting.
    """
    if not is_arm(arm):
        raise UserError(f"unknown arm {kind(arm)}: choose of {', '.join(arm_names())}, or a sum of losses")
    if not registry.is_loss(kind(arm)):
        if arm != kind(arm):
            raise UserError(f"arm {arm}: only arms of a loss take settings ({', '.join(registry.names())})")
        return None
    from coco1k_kd.distill.settings import OF_AN_ARM, Distillation  # here, since Ultralytics takes seconds to import

    try:
        own = own_settings(arm)
    except ValueError:
        raise UserError(f"arm {arm}: settings are given as {kind(arm)}:SETTING=VALUE") from None
    for name in own:
        if name not in OF_AN_ARM:
            raise UserError(f"arm {arm}: unknown setting {name!r}: choose of {', '.join(OF_AN_ARM)}")
    given = {"loss": kind(arm), "weight": weight, **own}
    try:
        return Distillation.of(None, given, f"arm {arm}: ")
    except UserError as error:
        if "weight" in own or weight is None:
            raise
        raise UserError(f"--distillation-weight {weight}, arm {arm}: {error}") from None


@dataclass(frozen=True)
class Study:
    """A study with its inputs read, and its place on disk."""

    settings: Settings
    data: Data
    student: Weights
    teacher: Weights | None
    project: Path
    stamp: str
    further: tuple[Data, ...] = ()  # draws of the train images after the first, which is `data`
    base: Study | None = None  # the study that this one adds arms, seeds or draws to, and whose runs it takes over
    judged: bool = False  # whether there is a comparison of it

    def record(self) -> dict[str, Any]:
        """The settings and the hashes of what they name: equal records are the same study."""
        chosen = {k: v for k, v in vars(self.settings).items() if k not in FREE}
        chosen |= {"data": str(self.data.given or self.data.yaml)}
        chosen |= {"student": self.student.path, "student_sha256": self.student.sha256}
        chosen |= {
            key: value for key, value in self.data.record().items() if key.endswith("sha256") or key.endswith("images")
        }
        if loss_file := self.settings.loss_file:
            chosen |= {"loss_file": str(loss_file.resolve()), "loss_file_sha256": sha256(loss_file)}
        teacher = self.teacher and {"teacher": self.teacher.path, "teacher_sha256": self.teacher.sha256}
        return chosen | (teacher or {"teacher": None, "teacher_sha256": None}) | {"code": code_hash()}

    def files(self) -> list[Path]:
        """What runs read, on whichever machine they run; of the images of a split one, and their list."""
        splits = [split for data in self.drawn for split in (data.train, data.val)]
        images = [split.images / split.names[0] for split in splits]
        images += [split.listed for split in splits if split.listed]
        weights = [Path(model.path) for model in (self.student, self.teacher) if model and not model.scratch]
        own = [self.settings.loss_file] if self.settings.loss_file else []
        return [*(data.yaml for data in self.drawn), self.data.val.annotations, *images, *weights, *own]

    @property
    def drawn(self) -> tuple[Data, ...]:
        """The data by draw."""
        return (self.data, *self.further)

    @property
    def seeds(self) -> list[int]:
        """All seeds that there may be runs of."""
        return list(self.settings.seeds or [])

    @property
    def replicates(self) -> list[Replicate]:
        """The (draw, seed) that each arm is trained for."""
        return [(draw, seed) for draw in range(self.settings.draws) for seed in self.seeds]

    def plan(self, seeds: int | None = None) -> list[Key]:
        """Every run in the order of running, of the first `seeds` seeds or of all; `baseline_same_time` comes last."""
        arms, chosen = self.settings.arms or [], self.seeds[:seeds]
        replicates = [(draw, seed) for draw, seed in self.replicates if seed in chosen]
        runs = [(arm, replicate) for replicate in replicates for arm in arms if arm != SAME_TIME]
        if self.settings.controls:
            runs += [(WEIGHT0, replicates[0]), *((RANDOM, replicate) for replicate in replicates)]
        return runs + [(SAME_TIME, replicate) for replicate in replicates if SAME_TIME in arms]

    def needs(self, key: Key) -> set[Key]:
        """The runs that must be finished before this one."""
        return self.timed_runs() if key[0] == SAME_TIME else set()

    def timed_runs(self) -> set[Key]:
        """The runs whose time `baseline_same_time` is given: those up to the first look, then its epochs stand."""
        first = self.settings.looks[0] if self.settings.auto else None
        return {key for key in self.plan(first) if key[0] in (BASELINE, self.timed_arm)}

    def folder(self, arm: str, replicate: Replicate) -> Path:
        """Where the run lies."""
        if self.base and (arm, replicate) in self.base.plan():
            return self.base.folder(arm, replicate)
        draw, seed = replicate
        several = f"_draw{draw}" * (draw > 0) + f"_seed{seed}" * (len(self.seeds) > 1)
        return self.project / f"{_PREFIX.get(arm, 'kd_')}{arm.replace(':', '_')}_{self.stamp}{several}"

    def predictions(self, key: Key, epoch: str) -> Path:
        """The run's detections on the val images, by its checkpoint of the `best` or the `last` epoch."""
        return self.folder(*key) / f"predictions_{epoch}.json"

    @property
    def control_loss(self) -> str:
        """The loss that the controls distil with: that of --loss if it is an arm, else the first that is one."""
        losses = [kind(arm) for arm in self.settings.arms or [] if registry.is_loss(kind(arm))]
        return self._preferred(losses or [self.settings.loss])

    @property
    def timed_arm(self) -> str:
        """The distilled arm whose time `baseline_same_time` is given: that of --loss, else the first."""
        return self._preferred(distilled(self.settings.arms or []))

    def _preferred(self, arms: list[str]) -> str:
        return self.settings.loss if self.settings.loss in arms else arms[0]

    def spec(self, arm: str, replicate: Replicate, epochs: int) -> TrainSpec:
        """All that `runs.train` needs to know."""
        s, data = self.settings, self.drawn[replicate[0]]
        control = arm in (WEIGHT0, RANDOM)
        images = [str(data.train.images / name) for name in data.train.names[:_PLACEBO_IMAGES]]
        distillation = self.control_loss if control else kind(arm) if distilled([arm]) else None
        weight = 0.0 if arm == WEIGHT0 else s.distillation_weight
        ours = distillation is not None and registry.is_loss(distillation)  # the stock one has settings of its own
        if ours and weight is None and s.start != WEIGHTS:
            weight = registry.default_weight(distillation, fresh=True)
        own = {"weight": weight, **own_settings(arm)} if ours else {}
        if ours and s.loss_file:
            own["loss_file"] = str(s.loss_file.resolve())
        return TrainSpec(
            arm=arm,
            seed=replicate[1],
            folder=str(self.folder(arm, replicate)),
            student=self.student.path,
            start=s.start,
            freeze_bn=s.freeze_bn,
            teacher=self.teacher.path if self.teacher and distillation else None,
            random_teacher=arm == RANDOM,
            placebo_images=images if arm == RANDOM else [],
            distillation=distillation,
            distillation_settings=own,
            annotations=str(self.data.val.annotations),
            images=str(data.val.images),
            train_args={
                **self.val_args(),
                "data": str(data.yaml),
                "device": s.device or None,
                **resolve_optimizer(self.data.train.size, s.batch, s.epochs, len(self.data.classes)),
                **start_training(s.start, s.batch),
                **read_train_args(s.train),
                "epochs": epochs,
                "seed": replicate[1],
                "deterministic": True,
                "patience": 0,  # no early stopping: it would give the arms different numbers of epochs
                "plots": False,
                "exist_ok": True,
            },
        )

    def val_args(self) -> dict[str, Any]:
        """What training and validation share; of several devices validation has the first."""
        s = self.settings
        device = read_devices(s.device)[0] or None
        args = {"imgsz": s.imgsz, "batch": s.batch, "device": device, "workers": s.workers}
        return {"data": str(self.data.yaml), **args}
