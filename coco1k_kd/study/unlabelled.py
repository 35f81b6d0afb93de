"""The unlabelled images of a study: nothing of them may be trained on with labels, choose an epoch, or judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coco1k_kd.data.dataset import Data
from coco1k_kd.data.pool import accept_pool
from coco1k_kd.errors import count
from coco1k_kd.study.judge import Judge, find_judge


def kept_out(drawn: Sequence[Data], judge: Judge | None) -> dict[str, list[Path]]:
    """The images that a pool must not hold, by what they are for: `drawn` are the study's data, a draw each."""
    splits = [(name, split) for data in drawn for name, split in data.splits.items()]
    judging = [("judge", judge.split)] if judge else []
    found: dict[str, dict[Path, None]] = {}
    for name, split in splits + judging:
        found.setdefault(name, {}).update(dict.fromkeys(split.files))
    return {name: list(files) for name, files in found.items()}


def check_unlabelled(place: Path, data: Data, *, judge: str, coco_root: Path | None) -> list[str]:
    """What `--check` says of the unlabelled images, in lines. UserError as `accept_pool`, and if there is no judge."""
    pool = accept_pool(place, kept_out([data], find_judge(judge, data, coco_root)))
    return [f"unlabelled: {count(len(pool.images), 'image')} of {place} can be learnt from", *pool.notes()]
