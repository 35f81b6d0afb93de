"""The pool of a subset: further train images of its source, without labels, for `--unlabelled` of a study.

They are drawn blind to classes and boxes, as a folder of unlabelled images would be. The annotations that the source
has of them lie apart, for a study that wants to know what true labels would have given (`--pool-truth`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coco1k_kd.data.annotations import Annotations
from coco1k_kd.data.leaks import twins
from coco1k_kd.data.manifest import POOL
from coco1k_kd.data.placing import Job, jobs
from coco1k_kd.data.sampling import priorities
from coco1k_kd.errors import UserError

_STREAM = 0x706F6F6C  # another order than that by which the subset was drawn


@dataclass(frozen=True)
class DrawnPool:
    """Images of a pool: their ids, ascending, and their annotations as a COCO file."""

    image_ids: list[int]
    content: bytes


def draw_pool(source: Annotations, taken: Iterable[int], size: int | None, seed: int) -> np.ndarray:
    """Ids of `size` usable images of a source that are not `taken`, or of all, ascending; of a smaller pool all are in
    a larger one. UserError when there are fewer.
    """
    rest = np.setdiff1d(source.image_ids[source.usable], np.fromiter(taken, np.int64))
    if size is None:
        return rest
    if size > len(rest):
        raise UserError(f"--pool {size}: only {len(rest):,} train images are left beside the subset; ask for rest")
    return np.sort(rest[np.argsort(priorities(rest, seed + (_STREAM << 32)), kind="stable")[:size]])


def pool_jobs(source: Annotations, image_ids: np.ndarray, images: Path) -> list[Job]:
    """The images of a pool, from the folder of their source. UserError when two would share a label file."""
    wanted = set(image_ids.tolist())
    return jobs(((entry, None) for entry in source.images() if entry.id in wanted), POOL, images, source.path)


def without_same(work: list[Job], others: Iterable[Path]) -> tuple[list[Job], list[str]]:
    """The images of a pool without those of the same bytes as others, which are said in lines."""
    same = twins([job.source for job in work], others)
    lines = [f"pool: {file} is left out: the same image as {twin}" for file, twin in same.items()]
    return [job for job in work if job.source not in same], lines


def drawn_pool(source: Annotations, work: list[Job]) -> DrawnPool:
    """What is written of a pool."""
    image_ids = sorted(job.entry.id for job in work)
    return DrawnPool(image_ids, source.extract(np.array(image_ids, np.int64)))
