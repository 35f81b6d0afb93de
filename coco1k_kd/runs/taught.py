"""One pass of a teacher over images, in this process or in several: its boxes with their scores, which are kept.

Which images share a batch does not depend on how many processes there are, or on what was found before: the boxes are
the same, however often a pass is interrupted.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from coco1k_kd.data.quiet import quiet
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.runs.boxes import BoxStore
from coco1k_kd.runs.devices import read_devices
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import Looked, LookSpec, Picture

LOW = 0.05  # the least score of a box that is kept
WORTH = 200  # images without which a further process is not worth its start
_KEPT_EVERY = 30  # seconds between two writings of the boxes
_POLL_SECONDS = 0.3
_DONE = "done.txt"  # in the folder of a process: how many images it has looked at


def teach(
    teacher: str,
    pictures: Iterable[Picture],
    store: BoxStore,
    what: str = "label",
    slots: Slots | None = None,
    **settings: Any,
) -> dict[Path, str]:
    """Have the teacher find the boxes of all images that `store` lacks.

    Args:
        teacher: a checkpoint; its boxes count, whatever else it finds.
        pictures: images of one size share a batch, so that what is found in one does not depend on the others.
        store: takes the boxes, and is saved every half minute and at the end, however that comes.
        what: is done, for the progress bar.
        slots: where processes go that share the work, one in each; None for this process alone. Of a cluster the nodes
            do all of it.
        settings: `imgsz`, `batch`, `device`, `iou`, `max_det` for Ultralytics. Of several devices each process has one.

    Returns:
        What cannot be decoded, with the reason.

    Raises:
        RunFailed, UserError: as of any run, where there are several processes.
    """
    pictures = list({picture.sha256: picture for picture in pictures}.values())
    lacking = {picture for picture in pictures if picture.sha256 not in store}
    if not lacking:
        return {}
    batches = [batch for batch in _batches(pictures, settings["batch"]) if not lacking.isdisjoint(batch)]
    number = min(slots.number if slots else 1, len(batches), max(len(lacking) // WORTH, 1))
    with quiet(), tqdm(total=len(pictures), initial=len(pictures) - len(lacking), desc=what, unit="image") as bar:
        if slots and (number > 1 or slots.grows):  # a cluster's driver may have no card
            bad = _share_out(number, slots, teacher, batches, store, what, bar.update, settings)
        else:
            bad = look(teacher, batches, store, bar.update, {**settings, "device": read_devices(settings["device"])[0]})
    return {Path(file): fault for file, fault in bad.items()}


def look(
    teacher: str,
    batches: Iterable[Sequence[Picture]],
    store: BoxStore,
    told: Callable[[int], object],
    settings: dict[str, Any],
) -> dict[str, str]:
    """The pass of one process: find the boxes of all images of these batches that `store` lacks.

    Args:
        told: is called after each batch with the number of images that it lacked.

    Returns:
        What cannot be decoded, with the reason.
    """
    from ultralytics import YOLO

    bad: dict[str, str] = {}
    model = YOLO(teacher)
    saved = before = time.monotonic()
    cores = time.process_time()
    try:
        for batch in batches:
            lacking = [one for one in batch if one.sha256 not in store]
            pixels = {one: _read(one) for one in lacking}
            if any(_fits(one, pixels[one]) for one in lacking):
                pixels |= {one: _read(one) for one in batch if one not in pixels}
                fitting = {one: pixels[one] for one in batch if _fits(one, pixels[one])}
                found = model.predict([*fitting.values()], stream=True, conf=LOW, verbose=False, **settings)
                for one, result in zip(fitting, found, strict=True):
                    if one in lacking:
                        store.add(one.sha256, _boxes(result.boxes))
            bad |= {one.file: "cannot be decoded" for one in lacking if not _fits(one, pixels[one])}
            told(len(lacking))
            now, used = time.monotonic(), time.process_time()
            store.spend(now - before, used - cores)
            before, cores = now, used
            if now - saved > _KEPT_EVERY:
                store.save()
                saved = now
    finally:
        store.save()
    return bad


def look_as(spec: LookSpec) -> Looked:
    """`look` as a run of its own, which says in its folder how far it is."""
    done, place = 0, Path(spec.folder) / _DONE

    def told(number: int) -> None:
        nonlocal done
        done += number
        place.write_text(str(done))

    store = BoxStore(Path(spec.store), spec.identity, spec.process)
    return Looked(undecoded=look(spec.teacher, spec.batches, store, told, spec.settings))


def _share_out(
    number: int,
    slots: Slots,
    teacher: str,
    batches: Sequence[Sequence[Picture]],
    store: BoxStore,
    what: str,
    told: Callable[[int], object],
    settings: dict[str, Any],
) -> dict[str, str]:
    """`look` in so many processes, each of which has every so many-th batch."""
    devices = read_devices(settings["device"])
    folders = [store.path.absolute().parent / f"process_{process}" for process in range(number)]
    left: set[Future[Any]] = set()
    for process, folder in enumerate(folders):
        shutil.rmtree(folder, ignore_errors=True)  # of a pass that was killed
        spec = LookSpec(
            folder=str(folder),
            teacher=teacher,
            store=str(store.path.absolute()),
            identity=store.identity,
            process=process,
            batches=[list(batch) for batch in batches[process::number]],
            settings={**settings, "device": devices[process % len(devices)]},
            at_once=number,
        )
        left.add(slots.submit(spec, f"{what}, process {process + 1} of {number}"))
    bad, before = {}, 0
    while left:
        ended, left = wait(left, _POLL_SECONDS, FIRST_COMPLETED)
        for one in ended:
            bad |= one.result().undecoded
        now = sum(map(_done, folders))
        if now > before:
            told(now - before)
            before = now
    store.read()
    for folder in folders:
        shutil.rmtree(folder)
    return bad


def _done(folder: Path) -> int:
    with contextlib.suppress(OSError, ValueError):  # not there yet, or being written
        return int((folder / _DONE).read_text())
    return 0


def _batches(pictures: Iterable[Picture], most: int) -> list[list[Picture]]:
    """At most so many images of one size at a time."""
    found: list[list[Picture]] = []
    for _, group in groupby(sorted(pictures, key=lambda one: (one.size, one.file)), key=lambda one: one.size):
        alike = list(group)
        found += [alike[start : start + most] for start in range(0, len(alike), most)]
    return found


def _read(picture: Picture) -> np.ndarray | None:
    """The pixels; None where it cannot be decoded. UserError if it is gone, or another image now."""
    from ultralytics.utils.patches import imread

    file = Path(picture.file)
    if not file.is_file():
        raise UserError(f"{file} is gone: put it back, or give the same command again")
    if sha256(file) != picture.sha256:
        raise UserError(f"{file} has changed since it was read first: give the same command again")
    return imread(file)


def _fits(picture: Picture, pixels: np.ndarray | None) -> bool:
    return pixels is not None and pixels.shape[1::-1] == picture.size


def _boxes(found: Any) -> np.ndarray:
    """(n, 6) class, score, left, top, width, height of Ultralytics' boxes; those without width or height are none."""
    corners = found.xyxy.cpu().numpy().astype(float).round(2)
    extent = corners[:, 2:] - corners[:, :2]
    label, score = (part.cpu().numpy().astype(float)[:, None] for part in (found.cls, found.conf))
    return np.hstack((label, score.round(4), corners[:, :2], extent.round(2)))[(extent > 0).all(axis=1)]
