"""A teacher that labels: its classes as those of the labels, its best resolution, and from which score on boxes count.

Labelled val images choose resolution and thresholds, never what judges. `coco1k-kd label` and a study both ask here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from coco1k_kd.data.dataset import Split
from coco1k_kd.data.pool import PoolImage, readable
from coco1k_kd.distill.weights import Weights, load_model
from coco1k_kd.errors import UserError
from coco1k_kd.runs.boxes import BoxStore
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import Picture
from coco1k_kd.runs.taught import LOW, teach
from coco1k_kd.study.hyperparameters import STRIDE
from coco1k_kd.verdict.coco import Detections, Truth, of_images, overlap, rankings, read_truth
from coco1k_kd.verdict.matching import of_rankings
from coco1k_kd.verdict.thresholds import best_thresholds

_IOU, _MOST = 0.7, 300  # Ultralytics' own overlap and number of boxes
_SHARES = (0.5, 0.75, 1, 1.25, 1.5)  # of the resolution that the teacher was trained at


def classes_of_labels(
    teacher: Weights, classes: Sequence[str] | None, pairs: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """The classes of labels, and by the teacher's class its number among them, -1 for one that is dropped.

    Args:
        teacher: whose classes are known by name.
        classes: those of the labelled data; None for the teacher's own.
        pairs: `--class-map`, as FROM=TO.

    Raises:
        UserError: a pair names what is not there, or no class is left.
    """
    renamed: dict[str, str] = {}
    for pair in pairs:
        name, equals, other = pair.partition("=")
        if not equals or not other or name in renamed:
            raise UserError(f"--class-map {pair}: give each class of the teacher once, as FROM=TO")
        if name not in teacher.classes:
            raise UserError(
                f"--class-map {pair}: the teacher has no class {name!r} ({', '.join(teacher.classes[:5])}…)"
            )
        if classes and other not in classes:
            raise UserError(f"--class-map {pair}: the data have no class {other!r} ({', '.join(classes[:5])}…)")
        renamed[name] = other
    names = [renamed.get(name, name) for name in teacher.classes]
    found = list(classes or dict.fromkeys(names))
    numbers = np.array([found.index(name) if name in found else -1 for name in names])
    if (numbers < 0).all():
        raise UserError("the teacher knows none of the classes of --data by name: say which is which with --class-map")
    return found, numbers


class Labeller:
    """A teacher that looks at images, each once at a resolution: what it finds is kept in `folder`.

    Args:
        teacher: a checkpoint; its boxes count, whatever else it finds.
        numbers: by the teacher's class its number among the classes of the labels (`classes_of_labels`).
        folder: of the files of boxes, one for each resolution.
        device, batch: as Ultralytics'.
        slots: where processes go that share the work, of several devices one for each; None for this process alone.

    UserError if the teacher finds turned boxes.
    """

    def __init__(
        self,
        teacher: Weights,
        numbers: np.ndarray,
        folder: Path,
        device: str = "",
        batch: int = 16,
        slots: Slots | None = None,
    ) -> None:
        if teacher.task == "obb":
            raise UserError(
                f"the teacher {teacher.path} finds turned boxes, and labels are upright ones: give a detector"
            )
        self.teacher, self.numbers, self.folder, self.device, self.batch = teacher, numbers, folder, device, batch
        self.slots = slots
        self._stores: dict[int, BoxStore] = {}

    @cached_property
    def own_imgsz(self) -> int:
        """The resolution that the teacher was trained at."""
        given = getattr(load_model(self.teacher.path, "teacher"), "args", {}).get("imgsz", 640)
        return int(max(given) if isinstance(given, (list, tuple)) else given)

    def store(self, imgsz: int) -> BoxStore:
        """The boxes found at a resolution. UserError if the file holds another teacher's."""
        if imgsz not in self._stores:
            identity = {"teacher": self.teacher.sha256, "imgsz": imgsz, "low": LOW, "iou": _IOU, "max_det": _MOST}
            self._stores[imgsz] = BoxStore(self.folder / f"boxes_{imgsz}.json", identity)
        return self._stores[imgsz]

    def detect(self, images: Iterable[PoolImage], imgsz: int, what: str = "label") -> dict[Path, str]:
        """Find the boxes in all images; returns what cannot be decoded, with the reason. `what`: for the bar."""
        pictures = [Picture(str(image.file), image.sha256, (image.width, image.height)) for image in images]
        return teach(self.teacher.path, pictures, self.store(imgsz), what, self.slots, **self._settings(imgsz))

    def boxes(self, digest: str, imgsz: int) -> np.ndarray:
        """(n, 6) class of the labels, score, left, top, width, height in pixels, of the image with this SHA-256, best
        first. Where two classes of the teacher are one, an object has one box: the likelier.
        """
        boxes = self.store(imgsz)[digest]
        boxes[:, 0] = self.numbers[boxes[:, 0].astype(int)]
        boxes = boxes[boxes[:, 0] >= 0]
        boxes = boxes[np.argsort(-boxes[:, 1], kind="stable")]
        if (np.bincount(self.numbers[self.numbers >= 0]) < 2).all():  # Ultralytics has left no two boxes of one object
            return boxes
        kept: list[int] = []
        for i, box in enumerate(boxes):
            same = boxes[[k for k in kept if boxes[k, 0] == box[0]]]
            crowd = np.zeros(len(same), bool)
            if not (overlap(np.broadcast_to(box[2:], (len(same), 4)), same[:, 2:], crowd) > _IOU).any():
                kept.append(i)
        return boxes[kept]

    def aps(self, split: Split) -> dict[int, float]:
        """AP on labelled images of boxes with scores from LOW on, by resolution, in the order of trying.

        Tried are the teacher's own resolution and its neighbours among shares of it, further as long as AP grows.
        """
        sizes = sorted({max(STRIDE, round(share * self.own_imgsz / STRIDE) * STRIDE) for share in _SHARES})
        own = min(sizes, key=lambda size: abs(size - self.own_imgsz))
        found = {own: self._ap(split, own)}
        for way in (sizes[sizes.index(own) + 1 :], sizes[: sizes.index(own)][::-1]):
            best = found[own]
            for size in way:
                found[size] = self._ap(split, size)
                if found[size] <= best:
                    break
                best = found[size]
        return found

    def thresholds(self, split: Split, imgsz: int, default: float = 0.3) -> np.ndarray:
        """(C,) the score of each class from which on a box is a label, from labelled images.

        `default` is that of all classes, where the teacher finds nothing right in them.
        """
        truth, found = self._labelled(split, imgsz)
        return best_thresholds(rankings(truth, found), default)

    def _ap(self, split: Split, imgsz: int) -> float:
        truth, found = self._labelled(split, imgsz)
        return float(np.nanmean(of_rankings(rankings(truth, found), truth.names).ap[0]))

    def tables(self, split: Split, imgsz: int, what: str) -> dict[Path, np.ndarray]:
        """What the teacher finds in the images of a split that can be read, by file, links resolved (`boxes`)."""
        seen = {image.file: image for image in readable(split.files)}
        unread = self.detect(seen.values(), imgsz, f"{what} at {imgsz}")
        return {file.resolve(): self.boxes(one.sha256, imgsz) for file, one in seen.items() if file not in unread}

    def _labelled(self, split: Split, imgsz: int) -> tuple[Truth, Detections]:
        """What is in labelled images, and what the teacher finds there."""
        truth, tables = read_truth(split.annotations), self.tables(split, imgsz, "val")
        return truth, of_images(tables.get((split.images / name).resolve()) for name in truth.files)

    def _settings(self, imgsz: int) -> dict[str, Any]:
        return {"imgsz": imgsz, "iou": _IOU, "max_det": _MOST, "device": self.device, "batch": self.batch}


def best_imgsz(aps: dict[int, float]) -> int:
    """The resolution of the highest AP; of equals the smallest, which is the fastest."""
    return min(aps, key=lambda size: (-aps[size], size))
