"""What `coco1k-kd label` does: one pass of the teacher, thresholds, and the files that are written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from coco1k_kd.data.dataset import Data
from coco1k_kd.data.given import open_data
from coco1k_kd.data.leaks import twins
from coco1k_kd.data.made import Made
from coco1k_kd.data.pool import Pool, read_pool, unlike
from coco1k_kd.data.scan import places_of, resolve
from coco1k_kd.data.taught import Taught, coco, cvat, label_studio, label_studio_view, yolo
from coco1k_kd.distill.weights import Weights, read_weights
from coco1k_kd.errors import UserError, count, visible
from coco1k_kd.report.review import Mark, Picture, taught_caption, taught_page
from coco1k_kd.report.words import Words
from coco1k_kd.runs.devices import check_device, read_devices
from coco1k_kd.runs.launch import RunFailed
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.taught import LOW
from coco1k_kd.study.hyperparameters import check_imgsz
from coco1k_kd.study.teaching import Labeller, best_imgsz, classes_of_labels

FORMATS = ("yolo", "cvat", "label-studio")
_OUTPUTS = ("annotations.json", "data.yaml", "review.html", "cvat.xml", "label_studio.json", "label_studio.xml")
_PICTURES = 36


@dataclass(frozen=True)
class Order:
    """What is to be labelled, by which teacher, and how: the flags of `coco1k-kd label`."""

    teacher: str
    images: Path
    output: Path
    data: Path | None = None
    imgsz: int | None = None
    confidence: float = 0.3
    device: str = ""
    batch: int = 16
    parallel: int | None = None
    class_map: Sequence[str] = ()
    format: Sequence[str] = ("yolo",)
    language: str = "en"


def label(order: Order) -> None:
    """Label the images and print what was done. UserError, before anything is written, for what cannot be."""
    if not LOW <= order.confidence < 1:
        raise UserError(f"--confidence {order.confidence}: give a score from {LOW} to 1")
    if order.batch < 1:
        raise UserError(f"--batch {order.batch}: must be at least 1")
    check_device(order.device)
    check_imgsz(order.imgsz, "--imgsz")
    teacher = read_weights(order.teacher, "teacher")
    with TemporaryDirectory() as folder, slots_of(order.parallel, order.device) as slots:
        data = open_data(order.data, Path(folder)) if order.data else None
        classes, numbers = classes_of_labels(teacher, data.classes if data else None, order.class_map)
        labeller = Labeller(teacher, numbers, order.output, order.device, order.batch, slots)
        pool = _without_known(read_pool(order.images, order.output), data)
        made = Made(order.output, _OUTPUTS)
        imgsz = order.imgsz or (_best_imgsz(labeller, data) if data else labeller.own_imgsz)
        check_imgsz(imgsz, "the teacher's own --imgsz")
        unread = labeller.detect(pool.images, imgsz)
        thresholds = np.full(len(classes), order.confidence)
        if data:
            thresholds = labeller.thresholds(data.val, imgsz, order.confidence)
    images = [image for image in pool.images if image.file not in unread]
    found = [labeller.boxes(image.sha256, imgsz) for image in images]
    taught = [
        Taught(image, boxes, boxes[:, 1] >= thresholds[boxes[:, 0].astype(int)])
        for image, boxes in zip(images, found, strict=True)
    ]
    _say(pool, unread, numbers, [labeller.store(imgsz)[image.sha256] for image in images], order.confidence)
    texts = {Path("labels", one.image.link).with_suffix(".txt").as_posix(): yolo(one).encode() for one in taught}
    texts |= _files(order, taught, classes, thresholds, teacher, pool.root.name)
    made.write(texts, {one.image.link: one.image.file for one in taught})
    _report(order, taught, classes, thresholds)


@contextmanager
def slots_of(parallel: int | None, device: str) -> Iterator[Slots]:
    """Where a command's processes go that share a teacher's pass: `--parallel` of them, or one for each device.

    If one of them fails, the command ends with one line and exit code 1.
    """
    if parallel is not None and parallel < 1:
        raise UserError(f"--parallel {parallel}: must be at least 1")
    try:
        with Slots(parallel or len(read_devices(device))) as slots:
            yield slots
    except RunFailed as failure:
        print(f"error: {failure}\n  what was found is kept: give the same command again", file=sys.stderr)
        raise SystemExit(1) from None


def _best_imgsz(labeller: Labeller, data: Data) -> int:
    """The teacher's best resolution on the labelled val images, which is said."""
    aps = labeller.aps(data.val)
    imgsz = best_imgsz(aps)
    tried = ", ".join(f"{100 * ap:.1f} at {size}" for size, ap in sorted(aps.items()))
    print(f"the teacher looks at {imgsz} px: AP on the val images {tried}", flush=True)
    return imgsz


def _without_known(pool: Pool, data: Data | None) -> Pool:
    """The pool without the images of the labelled data, which have labels or judge, and what looks like them.

    UserError if none is left.
    """
    if data:
        labelled = [file for split in data.splits.values() for file in split.files]
        known = twins([image.file for image in pool.images], labelled)
        if known:
            print(f"note: {count(len(known), 'image')} left out: also in --data, as {next(iter(known.values()))}")
        pool = replace(pool, images=tuple(image for image in pool.images if image.file not in known))
        pool = unlike(pool, {name: split.files for name, split in data.splits.items()})
    if not pool.images:
        raise UserError("there is no image left to label: all are unreadable, or belong to --data")
    return pool


def _files(
    order: Order, taught: Sequence[Taught], classes: list[str], thresholds: np.ndarray, teacher: Weights, folder: str
) -> dict[str, bytes]:
    """All that is written but the labels, by the path within the output."""
    model = Path(teacher.path).name
    content: dict[str, object] = {"path": str(order.output.absolute()), "train": "images", "val": "images"}
    if order.data:
        given = resolve(order.data, download=False)
        splits = {
            split: [str(Path(place).resolve()) for place in places_of(given, split)] for split in ("train", "val")
        }
        content |= {"train": [*splits["train"], "images"], "val": splits["val"]}
    content["names"] = dict(enumerate(classes))
    files = {
        "annotations.json": _json(coco(taught, classes, f"labelled by {model}")),
        "data.yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode(),
    }
    if "cvat" in order.format:
        files["cvat.xml"] = cvat(taught, classes)
    if "label-studio" in order.format:
        files["label_studio.json"] = _json(label_studio(taught, classes, folder, model))
        files["label_studio.xml"] = label_studio_view(classes)
    words, doubt = Words(order.language), sorted(taught, key=lambda one: -_doubt(one))[:_PICTURES]
    pictures = [_picture(one, classes, thresholds, words) for one in doubt]
    return {**files, "review.html": taught_page(words, model, len(taught), pictures).encode()}


def _picture(taught: Taught, classes: Sequence[str], thresholds: np.ndarray, words: Words) -> Picture:
    """An image with its labels, and with the boxes that are none but have half of the threshold's score."""
    marks = [
        Mark("kept" if kept else "out", f"{classes[int(c)]} {score:.2f}", box)
        for (c, score, *box), kept in zip(taught.boxes.tolist(), taught.kept, strict=True)
        if kept or score >= thresholds[int(c)] / 2
    ]
    labels = len(taught.labels)
    return Picture(taught.image.name, taught.image.file, marks, taught_caption(words, labels, len(marks) - labels))


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _report(order: Order, taught: Sequence[Taught], classes: list[str], thresholds: np.ndarray) -> None:
    """Say what was made."""
    boxes = sum(len(one.labels) for one in taught)
    empty = sum(not len(one.labels) for one in taught)
    used = sorted({int(c) for one in taught for c in one.labels[:, 0]})
    print(f"{count(len(taught), 'image')} labelled ({empty:,} without a box), {count(boxes, 'box', 'boxes')} of "
          f"{len(used)} of {len(classes)} classes")  # fmt: skip
    if order.data:
        print("thresholds: " + ", ".join(f"{classes[c]} {thresholds[c]:.2f}" for c in used))
    print(f"look at {order.output / 'review.html'}, then train with {order.output / 'data.yaml'}")


def _doubt(taught: Taught) -> float:
    """How many boxes of an image would be wrong or missing if their scores were probabilities."""
    score = taught.boxes[:, 1]
    return float((1 - score[taught.kept]).sum() + score[~taught.kept].sum())


def _say(
    pool: Pool, unread: Mapping[Path, str], numbers: np.ndarray, found: Iterable[np.ndarray], confidence: float
) -> None:  # fmt: skip
    """Print what was left out, and why."""
    for line in pool.notes(unread):
        print(f"note: {visible(line)}")
    if (numbers < 0).any():
        lost = sum(int(((numbers[b[:, 0].astype(int)] < 0) & (b[:, 1] >= confidence)).sum()) for b in found)
        dropped = f"{(numbers < 0).sum()} of {count(len(numbers), 'class', 'classes')} of the teacher"
        print(f"note: {dropped} are not in the data, {count(lost, 'box', 'boxes')} of these left out")
