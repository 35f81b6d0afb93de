"""Images on their way into a subset: which file goes where, as a link or a copy, checked while it is placed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tqdm import tqdm

from coco1k_kd.data.annotations import Annotations
from coco1k_kd.data.entries import Image
from coco1k_kd.data.images import image_fault, without_trailer
from coco1k_kd.data.labels import label_clashes, label_file
from coco1k_kd.errors import UserError

LINKS = ("hard", "symlink", "copy")
_NO_HARD_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}


@dataclass(frozen=True)
class Job:
    """An image to put into the subset; `label`: the text of its label file, None where it has none."""

    entry: Image
    split: str
    source: Path
    label: str | None

    @property
    def file(self) -> str:
        """Path inside the subset."""
        return f"images/{self.split}2017/{self.entry.name}"

    @property
    def label_file(self) -> str:
        """Path inside the subset; Ultralytics finds it by the image's."""
        return label_file(self.file)


def jobs(entries: Iterable[tuple[Image, str | None]], split: str, images: Path, source: Path) -> list[Job]:
    """The images of a split with the texts of their labels, from the folder `images`. UserError, naming the annotation
    file `source`, when two would share a label file.
    """
    found = [Job(entry, split, images / entry.name, text) for entry, text in entries]
    if clashes := label_clashes(job.entry.name for job in found):
        raise UserError(f"{source}: {clashes[0]}")
    return found


def check_present(work: list[Job], official: bool) -> None:
    """Raise UserError when images are not on disk, with what can be done; `official`: they are COCO's own."""
    if missing := [str(job.source) for job in work if not job.source.is_file()]:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"{len(missing)} of the {len(work)} chosen images are missing: {names}; "
            f"{'--download fetches them, ' * official}--no-images leaves images out"
        )


def labels(annotations: Annotations) -> Iterator[tuple[Image, str]]:
    """Yield each image with its YOLO labels, a line `class cx cy w h` (normalised) per box, as Ultralytics writes them.

    Class index = rank of the category id; crowds and empty boxes are left out, equal lines are written once. Raise
    UserError for an image that cannot be used.
    """
    rows = annotations.label_rows()
    for image in annotations.images():
        if fault := annotations.unusable.get(image.id):
            raise UserError(f"{annotations.path}: {fault}")
        lines = ("{:.0f} {:g} {:g} {:g} {:g}\n".format(*row) for row in rows[image.name].tolist())
        yield image, "".join(dict.fromkeys(lines))


@dataclass(frozen=True)
class Placed:
    """An image in the subset: its SHA-256, and whether it is a copy, since no link could be made or bytes were cut."""

    sha256: str
    copied: bool
    cut: bool


def place_images(folder: Path, work: list[Job], link: str, workers: int) -> Iterator[tuple[Job, Placed]]:
    """Place every image, check it, and yield it, in order, behind a progress bar in bytes."""
    names = [name for job in work for name in (job.file, *([job.label_file] if job.label is not None else []))]
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)

    def place(job: Job) -> tuple[Job, Placed, int]:
        data, target = job.source.read_bytes(), folder / job.file
        if fault := image_fault(data, job.entry):
            raise UserError(f"{job.source} {fault}")
        content = without_trailer(data)
        cut = len(content) < len(data)
        linked = not cut and _linked(job.source.resolve(), target, link)
        if not linked:
            target.write_bytes(content)
        return job, Placed(sha256(content).hexdigest(), not linked, cut), len(data)

    total = sum(job.source.stat().st_size for job in work)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=total, desc="images", unit="B", unit_scale=True, disable=not work) as bar,
    ):
        try:
            for job, placed, size in pool.map(place, work):
                bar.update(size)
                yield job, placed
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _linked(source: Path, target: Path, link: str) -> bool:
    """Make a link where that is wanted and can be; each image may lie on a disk of its own."""
    if link == "symlink":
        target.symlink_to(source)
    elif link == "hard":
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINK:
                raise
            return False
    return link != "copy"
