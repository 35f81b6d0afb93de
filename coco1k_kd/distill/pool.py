"""Training on images that a teacher labelled once: a pool beside the labelled ones, and boxes that these lack.

`Pool` and `Fill` are parts of a loss by name, as `cwd` is. They change what the student is fed, through Ultralytics'
`get_dataloader`, and how sure its labels are (`doubt.py`); batches, steps and schedule stay those of the baseline.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Sampler
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, YAML
from ultralytics.utils.ops import xywh2xyxy
from ultralytics.utils.torch_utils import unwrap_model

from coco1k_kd.data.lesson import Cost, Found, Lesson, check_same, read_lesson
from coco1k_kd.distill import registry
from coco1k_kd.distill.doubt import attach, coded
from coco1k_kd.distill.registry import built_in
from coco1k_kd.distill.settings import STATE, Distillation
from coco1k_kd.errors import UserError, visible

_SAME, _OTHER = 0.3, 0.7  # overlaps from which on a label of the same, or of another class stands for a teacher's box
_PER_IMAGE = ("ims", "im_hw0", "im_hw", "npy_files", "im_files", "labels")  # lists of Ultralytics' dataset


class Labels:
    """What both parts share.

    Args:
        soft: whether a box's score weights its target; otherwise it is as sure as a person's.
        low: the least score of a box that is not taken for background.
    """

    def __init__(self, soft: bool = True, low: float = 0.1) -> None:
        self.soft, self.low = soft, low

    def rows(self, found: Found, lesson: Lesson) -> tuple[np.ndarray, np.ndarray]:
        """(n, 6) the boxes from `low` on, and (n,) which are labels."""
        table = found.table
        kept = table[:, 1] >= np.array(lesson.thresholds)[table[:, 0].astype(int)]
        there = kept | (table[:, 1] >= self.low)
        return table[there], kept[there]

    def label(self, found: Found, rows: np.ndarray, kept: np.ndarray, outlines: bool) -> dict[str, Any]:
        """Boxes as Ultralytics' dataset has an image's; those with `outlines` have their rectangles for them."""
        size = np.array([found.width, found.height], float)
        boxes = np.hstack(((rows[:, 2:4] + rows[:, 4:] / 2) / size, rows[:, 4:] / size)).astype(np.float32)
        corners = xywh2xyxy(boxes)
        return {
            "cls": coded(rows[:, 0], rows[:, 1] * self.soft, kept),
            "bboxes": boxes,
            "segments": [box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) for box in corners] if outlines else [],
        }


@built_in(name="pool", weight=1.0, cost=1.0, compares="labels", help="images without labels, by the teacher's boxes")
class Pool(Labels):
    """Images without labels, of which every batch has a share.

    Args:
        share: of a batch, in (0, 1).
    """

    def __init__(self, share: float = 0.5, soft: bool = True, low: float = 0.1) -> None:
        super().__init__(soft, low)
        self.share = share

    def add(self, dataset: Any, lesson: Lesson) -> int:
        """Append the pool to Ultralytics' dataset; returns the number of its labels."""
        outlines = any(len(label["segments"]) for label in dataset.labels)
        new, boxes = [], 0
        for file, found in lesson.pool.items():
            rows, kept = self.rows(found, lesson)
            boxes += int(kept.sum())
            new.append(
                {
                    "im_file": file,
                    "shape": (found.height, found.width),
                    **self.label(found, rows, kept, outlines),
                    "keypoints": None,
                    "normalized": True,
                    "bbox_format": "xywh",
                }
            )
        _extend(dataset, new)
        return boxes


@built_in(name="fill", weight=1.0, cost=1.0, compares="labels", help="the teacher's boxes that the labels lack")
class Fill(Labels):
    """What the labels of the train images lack."""

    def add(self, dataset: Any, lesson: Lesson) -> int:
        """Append to the labels of Ultralytics' dataset what no label overlaps; returns how many are labels, too."""
        outlines, boxes = any(len(label["segments"]) for label in dataset.labels), 0
        files = [os.path.realpath(own["im_file"]) for own in dataset.labels]
        if new := [file for file in files if file not in lesson.labelled]:
            raise UserError(f"{new[0]}: the teacher has not looked for boxes in this train image: begin a new study")
        check_same({file: lesson.labelled[file] for file in files})
        for number, (file, own) in enumerate(zip(files, dataset.labels, strict=True)):
            found = lesson.labelled[file]
            rows, kept = self.rows(found, lesson)
            more = self.label(found, rows, kept, outlines)
            missing = ~overlapped(more, own)
            boxes += int((kept & missing).sum())
            dataset.labels[number] = {
                **own,
                "cls": np.concatenate((own["cls"], more["cls"][missing])),
                "bboxes": np.concatenate((own["bboxes"], more["bboxes"][missing])),
                "segments": [*own["segments"], *(more["segments"][i] for i in np.flatnonzero(missing) if outlines)],
            }
        return boxes


def overlapped(found: Mapping[str, Any], own: Mapping[str, Any]) -> np.ndarray:
    """(n,) which of an image's found boxes one of its m own labels overlaps, of the same class or strongly.

    Both have `cls` (n, 1) and `bboxes` (n, 4) of centre, width and height.
    """
    one, two = xywh2xyxy(found["bboxes"])[:, None], xywh2xyxy(own["bboxes"])[None]
    inside = np.clip(np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2]), 0, None).prod(-1)
    area, other = found["bboxes"][:, 2:].prod(-1)[:, None], own["bboxes"][:, 2:].prod(-1)[None]
    iou = inside / np.maximum(area + other - inside, 1e-12)
    same = np.floor(found["cls"]) == own["cls"].T
    return (iou >= np.where(same, _SAME, _OTHER)).any(1)


class Mixture(Sampler[int]):
    """As many images in each epoch and batch as the baseline has, of which a share are of the pool.

    Images 0 to `labelled` - 1 are labelled, the `pool` after them are not. Each kind is walked through in a random
    order again and again, over the bounds of epochs: at any time, each image has been seen as often as any other of its
    kind, or once more. An epoch is a function of the seed and its number; ranks share it out among each other.
    """

    def __init__(
        self, labelled: int, pool: int, batch: int, share: float, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self.labelled, self.pool, self.batch, self.share, self.seed = labelled, pool, batch, share, seed
        self.rank, self.ranks, self.epoch = rank, ranks, 0

    def __len__(self) -> int:
        return math.ceil(self.labelled / self.ranks)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch an iterator that is not begun yet is of; each is followed by the next by itself."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch
        yield from self.indices(epoch)
        self.epoch = epoch + 1

    def indices(self, epoch: int) -> list[int]:
        """Of all images of an epoch, batch after batch."""
        ends = [*range(self.batch, len(self), self.batch), len(self)]
        pooled = np.diff([0, *(math.floor(end * self.share + 0.5) for end in ends)])
        sizes = np.diff([0, *ends])
        ours = iter(self._walk(0, self.labelled, epoch, int((sizes - pooled).sum())))
        theirs = iter(self._walk(1, self.pool, epoch, int(pooled.sum())) + self.labelled)
        order = np.random.default_rng([self.seed, 2, epoch, self.rank])
        found: list[int] = []
        for size, few in zip(sizes.tolist(), pooled.tolist(), strict=True):
            batch = [int(next(theirs)) for _ in range(few)] + [int(next(ours)) for _ in range(size - few)]
            found += order.permutation(batch).tolist()
        return found

    def some_epochs(self) -> list[int]:
        """The indices of as many epochs as have all images, each kind by its share."""
        epochs = 1 + int(max(self.labelled / (1 - self.share), self.pool / self.share) / len(self))
        return [index for epoch in range(epochs) for index in self.indices(epoch)]

    def _walk(self, kind: int, size: int, epoch: int, number: int) -> np.ndarray:
        """This rank's `number` images of the epoch, of `size` of a kind."""
        start = epoch * number * self.ranks
        places = start + self.rank + self.ranks * np.arange(number)
        rounds = range(start // size, (start + number * self.ranks) // size + 1)
        orders = {turn: np.random.default_rng([self.seed, kind, turn]).permutation(size) for turn in rounds}
        return np.array([orders[place // size][place % size] for place in places.tolist()], int)


class PoolTrainer:
    """Mix-in that feeds an Ultralytics trainer what a teacher has labelled. `bind` gives the class for `trainer=`."""

    settings: Distillation

    @classmethod
    def bind(cls, settings: Distillation, trainer: type[DetectionTrainer] = DetectionTrainer) -> type[DetectionTrainer]:
        """Return `trainer` with a class of its own that carries `settings`, also to DDP workers."""
        return type(cls.__name__, (cls, trainer), {"settings": settings, "__module__": cls.__module__})

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict | None = None, _callbacks: dict | None = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        for name in ("single_cls", "classes", "rect"):
            if getattr(self.args, name):
                raise UserError(f"{name}= and the loss {self.settings.loss}: leave out one of them")
        if str(self.args.cache).lower() == "disk":
            raise UserError("cache=disk would write an array beside each image of the pool: take cache=ram")
        self.pool_images, self.pool_boxes, self.labelling = 0, 0, Cost()
        made = [part.make(**vars(self.settings)) for part in self.settings.parts() if part.compares == registry.LABELS]
        self.parts = sorted(made, key=lambda part: isinstance(part, Pool))  # the pool has no labels of a person to fill
        if not self.ddp:
            self.add_callback("on_train_start", _start)
            self.add_callback("on_train_epoch_start", _start_epoch)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Ultralytics' loader; that of training has the pool in every batch, and is in all else the baseline's."""
        pooled = next((part for part in self.parts if isinstance(part, Pool)), None) if mode == "train" else None
        cache, self.args.cache = self.args.cache, False if pooled else self.args.cache
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        self.args.cache = cache
        if mode != "train":
            return loader
        names = [visible(str(name)) for _, name in sorted(self.data["names"].items())]
        lesson = read_lesson(self.settings.lesson, names)
        labelled = len(loader.dataset)
        self.pool_boxes = sum(part.add(loader.dataset, lesson) for part in self.parts)
        self.pool_images, self.labelling = len(loader.dataset) - labelled, lesson.cost
        if RANK in {-1, 0}:
            LOGGER.info(f"Pool: {self.pool_images:,} images, {self.pool_boxes:,} labels by the teacher")
        if not pooled:
            return loader
        ranks = {name: getattr(loader.sampler, at) for name, at in _RANKS.items() if hasattr(loader.sampler, at)}
        kinds = (labelled, self.pool_images, loader.batch_size, pooled.share, self.args.seed)
        sampler = Mixture(*kinds, **ranks)
        if cache:
            keep_in_memory(loader.dataset, Mixture(*kinds).some_epochs())
        same = {name: getattr(loader, name) for name in _OF_A_LOADER}
        return type(loader)(loader.dataset, sampler=sampler, **same)

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Ultralytics' optimizer, chosen as for the labelled images alone; the settings go with its state."""
        steps = len(self.train_loader.sampler) * max(self.world_size, 1)
        kwargs["iterations"] = math.ceil(steps / max(self.batch_size, self.args.nbs)) * self.epochs
        optimizer = super().build_optimizer(model, *args, **kwargs)
        optimizer.register_state_dict_post_hook(self._with_settings)
        optimizer.register_load_state_dict_pre_hook(_without_settings)
        return optimizer

    def _with_settings(self, _: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        state[STATE] = self.settings.record()  # to which a distiller adds its weights


_RANKS = {"rank": "rank", "ranks": "num_replicas"}  # ours by PyTorch's, where a loader has them
_OF_A_LOADER = (
    "batch_size", "num_workers", "prefetch_factor", "pin_memory", "pin_memory_device", "collate_fn", "worker_init_fn",
    "generator", "drop_last",
)  # fmt: skip


def _without_settings(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A state as the optimizer knows it; a distiller's is taken out by who put it in."""
    return state if "distiller" in state.get(STATE, {}) else {k: v for k, v in state.items() if k != STATE}


def _extend(dataset: Any, labels: list[dict[str, Any]]) -> None:
    """Give Ultralytics' dataset more images, as if it had found them itself."""
    number = len(labels)
    files = [label["im_file"] for label in labels]
    more = {"labels": labels, "im_files": files, "npy_files": [Path(file).with_suffix(".npy") for file in files]}
    for name in _PER_IMAGE:
        setattr(dataset, name, [*getattr(dataset, name), *more.get(name, [None] * number)])
    dataset.ni += number
    dataset.max_buffer_length = min(dataset.ni, dataset.batch_size * 8, 1000)


def keep_in_memory(dataset: Any, partners: Iterable[int]) -> None:
    """Have Ultralytics keep a dataset's images in memory, as `cache=ram`, if there is room; it says so if there is not.

    Mosaics then draw their partners of all images by number, which is not the share: here they draw from `partners`.
    """
    dataset.cache = "ram"
    if dataset.check_cache_ram():
        dataset.cache_images()
        dataset.buffer = tuple(partners)
    dataset.cache = None  # as the mosaics were built for; an image that is in memory is not read again


def _start(trainer: PoolTrainer) -> None:
    """Before the first batch, when Ultralytics has its EMA."""
    student = unwrap_model(trainer.model)
    if getattr(student, "criterion", None) is None:
        student.criterion = student.init_criterion()
    attach(student.criterion)
    if RANK in {-1, 0}:
        YAML.save(trainer.save_dir / "args.yaml", {**vars(trainer.args), **trainer.settings.arguments()})


def _start_epoch(trainer: PoolTrainer) -> None:
    if isinstance(trainer.train_loader.sampler, Mixture):
        trainer.train_loader.sampler.set_epoch(trainer.epoch)
