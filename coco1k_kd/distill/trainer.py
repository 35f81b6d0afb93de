"""The distiller on Ultralytics' seams.

The trained model stays a plain Ultralytics student. Ultralytics' criterion is wrapped: it already receives the
student's neck features (`preds["feats"]`) and the images, so nothing is hooked and nothing is added to the model that
is averaged, validated, saved and exported. Aligners (and MGD's generators) are a parameter group of Ultralytics' own
optimizer and travel in its state dict, hence in `last.pt` for resuming; Ultralytics strips the optimizer at the end.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import methodcaller
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.modules.head import OBB
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, YAML
from ultralytics.utils.torch_utils import unwrap_model

from coco1k_kd.distill import registry
from coco1k_kd.distill.alive import end_epoch, warmup_epochs
from coco1k_kd.distill.criterion import TARGET, DistillationCriterion
from coco1k_kd.distill.distiller import Answer, Distiller, schedule_factor
from coco1k_kd.distill.response import shared_classes
from coco1k_kd.distill.seams import branches_of, detect_head, neck_channels, neck_strides, student_answer
from coco1k_kd.distill.settings import STATE, Distillation
from coco1k_kd.distill.teacher import Teacher, teacher_dtype, weights_sha256
from coco1k_kd.distill.weights import load_model
from coco1k_kd.errors import DistillationError, UserError

MAX_NORM = 10.0  # Ultralytics clips the student's gradient at 10; the distiller's own gradient is clipped apart


class DistillationTrainer:
    """Mix-in that gives an Ultralytics trainer a teacher, whatever its task. `bind` gives the class for `trainer=`.

    Private seams of Ultralytics that this leans on, each with a test that fails when it changes: what `seams` reads,
    the methods that are overridden here, `model.criterion` and `ckpt["optimizer"]`.
    """

    settings: Distillation
    student_strides: list[int] | None  # where they are known before Ultralytics makes the run folder
    _hooks = (  # Ultralytics' events, and what is called with the trainer then
        ("on_train_start", methodcaller("_begin")),
        ("on_train_epoch_start", methodcaller("_begin_epoch")),
        ("on_train_epoch_end", end_epoch),
    )

    @classmethod
    def bind(
        cls,
        settings: Distillation,
        trainer: type[DetectionTrainer] = DetectionTrainer,
        student_strides: list[int] | None = None,
    ) -> type[DetectionTrainer]:
        """Return `trainer` with a teacher: a class that carries `settings`.

        It reaches DDP workers, which are given the class and the args alone.
        """
        bases = (trainer,) if issubclass(trainer, cls) else (cls, trainer)
        carried = {"settings": settings, "student_strides": student_strides, "__module__": cls.__module__}
        return type(cls.__name__, bases, carried)

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict | None = None, _callbacks: dict | None = None) -> None:
        self._load_teacher()  # an unfit one is refused before Ultralytics makes or touches the run folder
        super().__init__(cfg, overrides, _callbacks)
        args = overrides or {}
        self.new_folder = not (self.args.exist_ok or self.resume or args.get("save_dir"))
        self.previous = self.wdir / "previous.pt"
        self.sample: Tensor | None = None  # an image of the first batch
        self.moved, self.tried_steps = False, 0  # has the optimizer ever changed every aligner?
        self.batches, self.every = 0, self.settings.every  # batches of the whole run so far; each how many are taught
        self.untaught = True  # whether no batch since the last step was taught
        self.calibration: list[list[float]] = []  # of weight "auto", from the checkpoint
        if not self.ddp:  # the parent of DDP workers trains nothing, and its callbacks are handed to them
            for event, hook in self._hooks:
                self.add_callback(event, hook)

    def train(self) -> Any:
        """Ultralytics' training. Where it is refused before its first epoch ends, the new run folder goes with it."""
        try:
            return super().train()
        except UserError:
            if self.new_folder and not self.csv.exists():
                shutil.rmtree(self.save_dir, ignore_errors=True)
            raise

    def setup_model(self) -> Any:
        """Set up Ultralytics' student, then the teacher and the distiller beside it."""
        ckpt = super().setup_model()
        student = detect_head(self.model, "student")
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.args.seed)  # same aligner on every rank, and the student's random stream untouched
            loaded, self.loaded_teacher = self.loaded_teacher, None  # kept only in the form in which it runs
            self.teacher = Teacher(
                loaded, self.device, torch.float32, self.args.compile, self._compared_branches(student, loaded)
            )
            self.beside = ThreadPoolExecutor(1, "teacher") if self._leaves_cores_idle() else None
            if self.teacher.image_channels != (channels := self.data["channels"]):
                raise UserError(
                    f"the teacher takes {self.teacher.image_channels}-channel images, the data has {channels}"
                )
            self.distiller = Distiller(
                neck_channels(student),
                self.teacher.channels,
                self.settings.loss,
                self.settings.shared_levels(neck_strides(student), self.teacher.strides),
                self.settings.normalise,
                seed=self.args.seed + 1000 * max(RANK, 0),  # each rank hides other positions
                settings={**vars(self.settings), "classes": shared_classes(self.data["names"], loaded.names)},
            ).to(self.device)
        return ckpt

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Ultralytics' optimizer with the distiller as one more group, which brings its weights into the state dict."""
        self._settle_precision()
        optimizer = super().build_optimizer(model, *args, **kwargs)
        like = [g for g in optimizer.param_groups if g.get("param_group") == "weight"][-1]
        options = {k: v for k, v in like.items() if k != "params"}
        parameters = list(self.distiller.parameters())  # none for responses
        optimizer.add_param_group({**options, "params": parameters, "param_group": "distiller"})
        if parameters:
            optimizer.register_step_pre_hook(self._clip_distiller)
        optimizer.register_state_dict_post_hook(self._save_distiller)
        optimizer.register_load_state_dict_pre_hook(self._load_distiller)
        return optimizer

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ultralytics' batch with the teacher's answer, or a promise of it.

        Here, before the student's forward: what the teacher needs for a moment is gone when the student's activations
        come to stay. Or, where that leaves cores idle, beside it.
        """
        batch = super().preprocess_batch(batch)
        if self.sample is None:
            self.sample = batch["img"][:1].clone()
        taught, self.batches = self.batches % self.every == 0, self.batches + 1
        if not taught:
            return batch
        self.untaught = False
        if self.beside:
            return {**batch, TARGET: self.beside.submit(self.teacher, batch["img"])}
        return {**batch, TARGET: self.teacher(batch["img"])}

    def optimizer_step(self) -> None:
        """Ultralytics' step, with the distiller's gradient averaged over ranks and clipped apart from the student's.

        Ultralytics clips by the norm of all the model's parameters: a distiller among them would shorten the student's
        steps, and the distilled arm would differ from the baseline in more than the distillation. The optimizer's hook
        clips it once the gradient scaler has taken its factor out, so that nobody has to read that factor.
        """
        if self.world_size > 1:  # it lives outside DDP's module
            for parameter in self.distiller.parameters():
                if parameter.grad is not None:  # on all ranks: a batch of this step was taught
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= self.world_size
        aligners = [aligner.weight for aligner in self.distiller.aligners]  # each: MGD's generators may move alone
        # Once all have moved, nobody looks any more: each look has the host wait for a GPU.
        before = [] if self.moved or self.untaught else [weight.detach().clone() for weight in aligners]
        super().optimizer_step()
        self.untaught = True
        if before and self.optimizer.param_groups[-1]["lr"] > 0:
            self.tried_steps += 1
            self.moved = not any(torch.equal(now, then) for now, then in zip(aligners, before, strict=True))

    def auto_batch(self) -> int:
        """Ultralytics' estimate with the teacher's and the distiller's memory counted."""
        self._settle_precision()
        student = self.model
        self.model = _Together(unwrap_model(student), self.teacher, self.distiller)
        try:
            return super().auto_batch()
        finally:
            self.model = student

    def label_loss_items(self, loss_items: dict | None = None, prefix: str = "train") -> Any:
        """Ultralytics' labels; validation has no distillation loss, so it gets no columns of zeros."""
        labels = super().label_loss_items(loss_items, prefix)
        if prefix == "train":
            return labels
        kept = [label for label in labels if not label.split("/")[-1].startswith("kd_")]
        return {label: labels[label] for label in kept} if isinstance(labels, dict) else kept

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Write Ultralytics' row of results.csv with the distillation's columns, and show them to its loggers."""
        own = {k: v for k, v in metrics.items() if k not in self.distillation_metrics}  # in one order in every row
        super().save_metrics({**own, **self.distillation_metrics})
        self.metrics = {**self.metrics, **self.distillation_metrics}

    def save_model(self) -> bool:
        """Keep the last whole checkpoint until the new one is written: a kill in between costs an epoch, no more."""
        if self.last.exists():
            self.last.replace(self.previous)
        return super().save_model()

    def plot_metrics(self) -> None:
        """Ultralytics' results.png, and distillation.png: does the loss fall, do the features align."""
        from coco1k_kd.distill.curves import plot_distillation  # here, since it loads matplotlib

        super().plot_metrics()
        self.on_plot(plot_distillation(self.csv))

    def final_eval(self) -> None:
        """Ultralytics' last validation; a finished run needs no spare checkpoint."""
        super().final_eval()
        self.previous.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Before the first batch, when Ultralytics has its EMA: put the distillation into the criterion."""
        student, features = unwrap_model(self.model), len(self.distiller.aligners) > 0
        if features and not any(p.requires_grad for p in student.model[:-1].parameters()):
            raise UserError("freeze= leaves no student layer below the head to train: there is nothing to distil into")
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        if not all(id(p) in held for p in self.distiller.parameters()):
            raise DistillationError(
                "the aligner is not in the optimizer: it would stay random (was build_optimizer replaced?)"
            )
        task = getattr(student, "criterion", None) or student.init_criterion()
        head = student.model[-1]
        self.criterion = DistillationCriterion(
            task, head, self.teacher, self.distiller, self.settings, self.scaler.get_scale
        )
        if self.calibration:
            self.criterion.calibrate(self.calibration)
        student.criterion = self.criterion
        if RANK in {-1, 0}:
            YAML.save(self.save_dir / "args.yaml", {**vars(self.args), **self.settings.arguments()})
            record = self.settings.record()
            LOGGER.info(
                f"Distillation: {record['loss']}, weight {record['weight']}, {record['schedule']} schedule, teacher "
                f"{record['teacher'] or 'in memory'} ({record['teacher_sha256'][:12]}) in {self.teacher.dtype}"
            )
            known = len(self.data["names"])
            for shared in (loss.shared for loss in self.distiller.responses.values()):
                if not shared:
                    LOGGER.warning(
                        "Distillation: the teacher has none of the data's classes: its responses teach boxes alone"
                    )
                elif shared < known:
                    LOGGER.info(f"Distillation: the teacher's responses teach {shared} of the data's {known} classes")

    def _begin_epoch(self) -> None:
        """The schedule's weight, and which batches of the epoch are taught."""
        criterion = self.criterion
        factor = schedule_factor(self.settings.schedule, self.epoch, self.epochs)
        steps = len(self.train_loader)
        # Counted over the run, so that a resumed one goes on; in every epoch, however short, a batch is taught.
        self.batches, self.every = self.epoch * steps, min(self.settings.every, steps)
        criterion.start_epoch(len(range(-self.batches % self.every, steps, self.every)), factor)
        if criterion.calibrating and self.epoch >= max(warmup_epochs(self), 1):
            criterion.calibrating = False
            LOGGER.info(
                "Distillation: weight calibrated to " + ", ".join(f"{w:.4g}" for w in criterion.loss_weights.values())
            )

    def _clip_distiller(self, *_: Any) -> None:
        nn.utils.clip_grad_norm_(self.distiller.parameters(), MAX_NORM)

    def _load_teacher(self) -> None:
        self.loaded_teacher = load_model(self.settings.teacher, "teacher")
        found, wanted = weights_sha256(self.loaded_teacher), self.settings.teacher_sha256
        if wanted not in ("", found):
            raise UserError(
                f"resume: the run was distilled from other weights ({wanted[:12]}, the teacher has {found[:12]}); "
                "give the same teacher"
            )
        if self.student_strides:
            self.settings.shared_levels(self.student_strides, neck_strides(detect_head(self.loaded_teacher, "teacher")))
        self.settings = replace(self.settings, teacher_sha256=found)

    def _settle_precision(self) -> None:
        """Cast the teacher once Ultralytics has settled AMP, which it refuses to cards that get it wrong."""
        amp = self.args.amp if self.args.amp == "bf16" else self.amp
        self.teacher.cast(teacher_dtype(self.device, amp, self.settings.precision))

    def _leaves_cores_idle(self) -> bool:
        """Ultralytics leaves one core of a CPU idle. Of two only: a teacher of several threads would be in the way."""
        idle = torch.get_num_threads() == 1 and (os.cpu_count() or 1) > 1
        return self.device.type == "cpu" and idle and not self.args.compile

    def _compared_branches(self, student: Any, teacher: nn.Module) -> list[str]:
        """The branches of both heads that a loss of responses compares; none if there is no such loss."""
        if not any(part.compares == registry.RESPONSES for part in self.settings.parts()):
            return []
        heads = student, detect_head(teacher, "teacher")
        if any(isinstance(head, OBB) for head in heads):
            raise UserError(f"the loss {self.settings.loss} compares upright boxes: for the task obb take cwd or mgd")
        theirs = branches_of(heads[1])
        return [branch for branch in branches_of(student) if branch in theirs]

    def _save_distiller(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        criterion = getattr(self, "criterion", None)
        calibration = criterion.calibration if criterion else self.calibration
        state[STATE] = {
            **self.settings.record(), "calibration": calibration, "distiller": self.distiller.state_dict()
        }  # fmt: skip

    def _load_distiller(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        self.distiller.load_state_dict(state[STATE]["distiller"])
        self.calibration = state[STATE]["calibration"]
        return {k: v for k, v in state.items() if k != STATE}


class _Together(nn.Module):
    """Teacher, distiller and student in one forward, for Ultralytics to profile the memory of a distilled step."""

    def __init__(self, student: nn.Module, teacher: Teacher, distiller: Distiller) -> None:
        super().__init__()
        self.student, self.teacher_network, self.distiller = student, teacher.network, distiller
        self.dtype = teacher.dtype
        self.stride, self.yaml, self.names = student.stride, student.yaml, student.names  # what Ultralytics reads

    def forward(self, images: Tensor) -> Any:
        with torch.no_grad():
            target = self.teacher_network(images.to(self.dtype, memory_format=torch.channels_last))
        predictions = self.student(images)
        terms, _ = self.distiller(student_answer(predictions), Answer(*target))
        return predictions, torch.stack([term.value for term in terms]).sum()
