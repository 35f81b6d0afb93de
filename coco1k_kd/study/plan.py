"""What a study is: its runs by arm, draw and seed, and each of them as a spec. Nothing is done here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from coco1k_kd.data.dataset import Data
from coco1k_kd.data.identity import Hashes, digest, files_of_code, files_of_data, hashes
from coco1k_kd.data.pool import Pool
from coco1k_kd.distill import registry
from coco1k_kd.distill.weights import Weights
from coco1k_kd.files import sha256
from coco1k_kd.names import STUDENT, TEACHER
from coco1k_kd.runs.code import code_hash
from coco1k_kd.runs.devices import read_devices
from coco1k_kd.runs.initial import WEIGHTS, start_training
from coco1k_kd.runs.spec import Result, TrainSpec
from coco1k_kd.study.arms import (
    BASELINE,
    POOL_SELF,
    RANDOM,
    SAME_TIME,
    WEIGHT0,
    Arm,
    Key,
    Replicate,
    distilled,
    read_arm,
)
from coco1k_kd.study.changed import Earlier
from coco1k_kd.study.hyperparameters import read_train_args, resolve_optimizer
from coco1k_kd.study.settings import Settings

_PLACEBO_IMAGES = 16
LESSONS = "labels"  # the folder in the project with what teachers have found
# What may change between a study and its --resume.
FREE = ("project", "coco_root", "hours", "judge", "groups", "export", "run_download")


@dataclass(frozen=True)
class Fitted:
    """A teacher that was trained on the study's train images: its run, and its best checkpoint."""

    folder: Path
    weights: Weights
    result: Result


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
    earlier: Earlier | None = None  # what the comparison says that an earlier command for it has left
    teachers: Mapping[str, Weights] = field(default_factory=dict)  # of single arms, by the names of their files
    pool: Pool | None = None  # images without labels
    lessons: Mapping[tuple[str, str, str, int], Path] = field(default_factory=dict)  # by `Arm.lesson`, and the draw
    fitted: Mapping[tuple[str, int], Fitted] = field(default_factory=dict)  # by the path that was given, and the draw
    computes: Mapping[str, str] = field(default_factory=dict)  # what trains: packages by version, and the machine

    def record(self) -> dict[str, Any]:
        """The settings and the hashes of what they name: equal records are the same study."""
        chosen = {k: v for k, v in vars(self.settings).items() if k not in FREE}
        chosen |= {"arms": [arm.name for arm in self.arms], "data": str(self.data.given or self.data.yaml)}
        chosen |= {"student": self.student.path, "student_sha256": self.student.sha256}
        chosen |= {key: value for key, value in self.data.record().items() if key.endswith(("sha256", "images"))}
        if loss_file := self.settings.loss_file:
            chosen |= {"loss_file": str(loss_file.resolve()), "loss_file_sha256": digest(self.hashes["loss file"])}
        chosen |= {"files_sha256": digest(self.hashes["draw 0"])}  # others are drawn from these files' source
        chosen |= self._unlabelled()
        if self.teachers:
            chosen["teachers_sha256"] = {name: weights.sha256 for name, weights in self.teachers.items()}
        teacher, teacher_sha256 = (self.teacher.path, self.teacher.sha256) if self.teacher else (None, None)
        chosen |= {"teacher": teacher, "teacher_sha256": teacher_sha256}
        return chosen | {"code": code_hash(), "computes": dict(self.computes)}

    def _unlabelled(self) -> dict[str, Any]:
        """What identifies the images without labels, and what is known of them."""
        s = self.settings
        found = dict.fromkeys(("unlabelled", "unlabelled_sha256", "pool_truth", "pool_truth_sha256"))
        if self.pool and s.unlabelled:
            content = {image.name: image.sha256 for image in self.pool.images}
            found |= {"unlabelled": str(s.unlabelled.resolve()), "unlabelled_sha256": digest(content)}
        if s.pool_truth:
            found |= {"pool_truth": str(s.pool_truth.resolve()), "pool_truth_sha256": sha256(s.pool_truth)}
        return found

    @cached_property
    def hashes(self) -> dict[str, Hashes]:
        """Of every file that a run reads and that must not change while the study is done, by part."""
        parts = {f"draw {draw}": files_of_data(data, self.project) for draw, data in enumerate(self.drawn)}
        parts["models"] = self._checkpoints
        parts["loss file"] = files_of_code(self.settings.loss_file) if self.settings.loss_file else []
        parts["unlabelled"] = [image.file for image in self.pool.images] if self.pool else []
        parts["pool truth"] = self._truths
        return {part: hashes(files, self.project) for part, files in parts.items()}

    def read_by(self, key: Key) -> dict[str, str | None]:
        """What the result of a run must say that it has read."""
        arm, (draw, _) = key
        teacher = self.taught_by(arm, draw)
        own = arm.parts and self.settings.loss_file
        return {
            "files_sha256": digest(self.hashes[f"draw {draw}"]),
            "teacher_sha256": teacher.sha256 if teacher else None,
            "loss_file_sha256": digest(self.hashes["loss file"]) if own else None,
        }

    @property
    def listed(self) -> Path:
        """The file that lists the `hashes`."""
        return self.project / f"files_{self.stamp}.json"

    def files(self) -> list[Path]:
        """What runs read, on whichever machine they run; of images of one kind the first, and their list."""
        splits = [split for data in self.drawn for split in (data.train, data.val)]
        images = [split.images / split.names[0] for split in splits]
        images += [split.listed for split in splits if split.listed]
        own = [self.settings.loss_file] if self.settings.loss_file else []
        own += [*self._truths, *([self.pool.images[0].file] if self.pool else [])]
        return [*(data.yaml for data in self.drawn), self.data.val.annotations, *images, *self._checkpoints, *own]

    @property
    def drawn(self) -> tuple[Data, ...]:
        """The data by draw."""
        return (self.data, *self.further)

    def given(self) -> dict[str, Weights]:
        """Student and teachers as they are given, by role: those of single arms are `teacher=FILE`."""
        own = {f"{TEACHER}={name}": weights for name, weights in self.teachers.items()}
        return {STUDENT: self.student, **({TEACHER: self.teacher} if self.teacher else {}), **own}

    def as_met(self, given: Weights, draw: int = 0) -> Weights:
        """A model as students meet it: a teacher that was fitted, in place of the one that was given."""
        fitted = self.fitted.get((given.path, draw))
        return fitted.weights if fitted else given

    @property
    def _truths(self) -> list[Path]:
        return [self.settings.pool_truth.resolve()] if self.settings.pool_truth else []

    @property
    def _checkpoints(self) -> list[Path]:
        models = [*self.given().values(), *(teacher.weights for teacher in self.fitted.values())]
        return [Path(model.path) for model in models if not model.scratch]

    def taught_by(self, arm: Arm, draw: int = 0) -> Weights | None:
        """The teacher that an arm learns from; None where it learns from none."""
        given = (self.teachers[arm.teacher] if arm.teacher else self.teacher) if arm.learns else None
        return given and self.as_met(given, draw)

    @property
    def arms(self) -> list[Arm]:
        """What is compared, in the order of a report; controls come beside it."""
        return list(self.settings.arms or [])

    @property
    def seeds(self) -> list[int]:
        """All seeds that there may be runs of."""
        return list(self.settings.seeds or [])

    @property
    def replicates(self) -> list[Replicate]:
        """The (draw, seed) that each arm is trained for."""
        if self.settings.unit:
            return list(enumerate(self.seeds))
        return [(draw, seed) for draw in range(self.settings.draws) for seed in self.seeds]

    @property
    def teachers_lessons(self) -> list[Path]:
        """What the teachers found for each kind of arm, each once: those of controls are left out."""
        return list(dict.fromkeys(path for (control, *_), path in self.lessons.items() if not control))

    @property
    def unit_name(self) -> str:
        """What is repeated: draws where there are several, else seeds."""
        return "draw" if self.settings.draws > 1 else "seed"

    @property
    def units(self) -> int:
        """How often all arms are repeated at most: draws where there are several, else seeds."""
        return self.settings.draws if self.settings.draws > 1 else len(self.seeds)

    @property
    def history(self) -> list[Study]:
        """The studies that this one adds to, and adds to again."""
        return [self.base, *self.base.history] if self.base else []

    def overlap(self, draws: Sequence[int]) -> float:
        """The share of the train images that two of these draws have in common, on average."""
        names = [frozenset(self.drawn[draw].train.names) for draw in draws]
        shares = [len(one & other) / min(len(one), len(other)) for one, other in combinations(names, 2)]
        return fmean(shares) if shares else 0.0

    def plan(self, seeds: int | None = None) -> list[Key]:
        """Every run in the order of running, of the first `seeds` seeds or of all; `baseline_same_time` comes last."""
        arms, chosen = self.arms, self.seeds[:seeds]
        replicates = [(draw, seed) for draw, seed in self.replicates if seed in chosen]
        runs = [(arm, replicate) for replicate in replicates for arm in arms if arm != SAME_TIME]
        if self.settings.controls and self.controlled:
            weight0, random = (control.like(self.controlled) for control in (WEIGHT0, RANDOM))
            runs += [(weight0, replicates[0]), *((random, replicate) for replicate in replicates)]
        return runs + [(SAME_TIME, replicate) for replicate in replicates if SAME_TIME in arms]

    def needs(self, key: Key) -> set[Key]:
        """The runs that must be finished before this one."""
        if key[0].row == POOL_SELF.row:
            return {(BASELINE, key[1])}
        return self.timed_runs(BASELINE, self.timed_arm) if key[0] == SAME_TIME else set()

    def timed_runs(self, *arms: Arm) -> set[Key]:
        """The runs of these arms that tell what one costs: those up to the first look, so that the answer stands."""
        first = self.settings.looks[0] if self.settings.auto else None
        return {key for key in self.plan(first) if key[0] in arms}

    def folder(self, arm: Arm, replicate: Replicate) -> Path:
        """Where the run lies."""
        if self.base and (arm, replicate) in self.base.plan():
            return self.base.folder(arm, replicate)
        draw, seed = replicate
        several = f"_draw{draw}" * (draw > 0) + f"_seed{seed}" * (len(self.seeds) > 1)
        return self.project / f"{arm.folder}_{self.stamp}{several}"

    def predictions(self, key: Key, epoch: str) -> Path:
        """The run's detections on the val images, by its checkpoint of the `best` or the `last` epoch."""
        return self.folder(*key) / f"predictions_{epoch}.json"

    @property
    def controlled(self) -> Arm | None:
        """What the controls distil by: the losses of --loss if they are an arm's, else those of the first arm.

        Of these the ones that compare student and teacher: None where all arms only learn from boxes.
        """
        sums = ["+".join(part.name for part in arm.compared) for arm in self.arms if arm.compared]
        if self.arms and not sums and any(arm.taught for arm in self.arms):
            return None
        return self._preferred([read_arm(loss) for loss in sums] or [read_arm(self.settings.loss)])

    @property
    def timed_arm(self) -> Arm:
        """The distilled arm whose time `baseline_same_time` is given: that of --loss, else the first."""
        return self._preferred([arm for arm in distilled(self.arms) if not arm.control])

    def _preferred(self, arms: list[Arm]) -> Arm:
        return next((arm for arm in arms if arm.name == self.settings.loss), arms[0])

    def spec(self, arm: Arm, replicate: Replicate, epochs: int) -> TrainSpec:
        """All that `runs.train` needs to know."""
        s, data = self.settings, self.drawn[replicate[0]]
        images = [str(data.train.images / name) for name in data.train.names[:_PLACEBO_IMAGES]]
        teacher = self.taught_by(arm, replicate[0])
        weight = 0.0 if arm == WEIGHT0 else s.distillation_weight
        if arm.parts and weight is None and s.start != WEIGHTS:
            weight = registry.default_weight(arm.parts, fresh=True)
        own = {"weight": weight, **arm.settings} if arm.parts else {}  # the stock one has settings of its own
        if arm.parts and s.loss_file:
            own["loss_file"] = str(s.loss_file.resolve())
        if arm.taught:
            own["lesson"] = str(self.lesson(arm, replicate))
        chosen = {
            **resolve_optimizer(self.data.train.size, s.batch, s.epochs, len(self.data.classes)),
            **start_training(s.start, s.batch),
            **read_train_args(s.train),
        }
        return TrainSpec(
            arm=arm.name,
            seed=replicate[1],
            folder=str(self.folder(arm, replicate)),
            listed=str(self.listed),
            draw=replicate[0],
            code=code_hash(),
            student=self.student.path,
            start=s.start,
            freeze_bn=s.freeze_bn,
            teacher=teacher.path if teacher else None,
            random_teacher=arm == RANDOM,
            placebo_images=images if arm == RANDOM else [],
            distillation=(arm.loss or arm.plain) if arm.learns else None,
            distillation_settings=own,
            annotations=str(self.data.val.annotations),
            images=str(data.val.images),
            train_args=self.train_args(data, epochs, replicate[1], chosen),
        )

    def train_args(
        self, data: Data, epochs: int, seed: int, chosen: Mapping[str, Any], patience: int = 0
    ) -> dict[str, Any]:
        """Ultralytics' settings for a training; `chosen` are those in which it may differ from others.

        Arms have no patience: to stop early would give them different numbers of epochs.
        """
        fixed = {"deterministic": True, "plots": False, "exist_ok": True}
        of_run = {"data": str(data.yaml), "epochs": epochs, "seed": seed, "patience": patience}
        return {**self.val_args(), **chosen, "device": self.settings.device or None, **of_run, **fixed}

    def lesson(self, arm: Arm, replicate: Replicate) -> Path:
        """The boxes that an arm learns from; those of `pool_self` are made when the baseline is there."""
        if arm.row == POOL_SELF.row:
            return self.project / LESSONS / f"{self.folder(arm, replicate).name}.json"
        return self.lessons[(*arm.lesson, replicate[0])]

    def val_args(self) -> dict[str, Any]:
        """What training and validation share; of several devices validation has the first."""
        s = self.settings
        device = read_devices(s.device)[0] or None
        args = {"imgsz": s.imgsz, "batch": s.batch, "device": device, "workers": s.workers}
        return {"data": str(self.data.yaml), **args}
