"""The train images of a subset drawn anew: as many, by the same rules, from the same source; the val set stays.

A verdict from one draw is about one choice of images. Every further draw is a whole subset on disk, as
`create_coco1k.py` would write it, whose val images are those of the first: one instrument measures all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from coco1k_kd.data import sampling, subset
from coco1k_kd.data.dataset import Data, read_data
from coco1k_kd.data.manifest import MANIFEST, SPLITS, YAML, Manifest, read_manifest
from coco1k_kd.data.placing import check_present
from coco1k_kd.data.source import drawn_from, is_official, open_source
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.flags import typed

_THREADS = 8  # for images


def further_draws(data: Data, number: int, coco_root: Path | None, project: Path) -> tuple[Data, ...]:
    """Draws 1 to `number` - 1 of the subset `data`, which is draw 0: read from `project`, or drawn and written there.

    Draw d is drawn with the seed of the subset's manifest + d.

    Raises:
        UserError: what the subset was drawn from is needed and not known, or is something else; a draw is damaged.
    """
    if number == 1:
        return ()
    if not (data.root / MANIFEST).is_file():
        raise UserError(f"--draws {number}: {data.root} has no {MANIFEST}: draw a subset of it with {typed('create')}")
    manifest = read_manifest(data.root / MANIFEST)
    name = f"{sha256(data.root / MANIFEST)[:8]}_draw"
    places = {draw: project / "draws" / f"{name}{draw}" for draw in range(1, number)}
    if missing := {draw: place for draw, place in places.items() if not place.exists()}:
        source = coco_root or drawn_from(data.yaml)
        if source is None:
            raise UserError(f"--draws {number}: name with --coco-root what the subset was drawn from")
        _write(manifest, missing, source)
    seen = {frozenset(manifest.train.image_ids): 0}
    for draw, place in places.items():
        found = read_manifest(place / MANIFEST)
        if (found.seed, found.val.image_ids) != (manifest.seed + draw, manifest.val.image_ids):
            raise UserError(f"{place} is not draw {draw} of {data.root}: move it away")
        same = seen.setdefault(frozenset(found.train.image_ids), draw)
        if same != draw:
            raise UserError(f"draws {same} and {draw} are the same images: the source is too small for {number} draws")
    return tuple(read_data(place / YAML) for place in places.values())


def _write(manifest: Manifest, places: dict[int, Path], source: Path) -> None:
    sources = open_source(source)
    train, val = (sources[split].content for split in SPLITS)
    val_ids = subset.listed(val, manifest, "val")
    subset.listed(train, manifest, "train")  # else other images would come from another COCO
    pool, balance = sampling.Pool.of(train), manifest.balance
    kept = subset.take(val, sampling.Pool.of(val), "val", val_ids, balance)
    for draw, place in places.items():
        seed, size = manifest.seed + draw, len(manifest.train.image_ids)
        image_ids: np.ndarray = sampling.draw(pool, size, seed, balance, sampling.TOLERANCE["train"])
        drawn = [subset.take(train, pool, "train", image_ids, balance), kept]
        work = [job for part in drawn for job in subset.split_jobs(part, sources[part.split].images)]
        check_present(work, is_official(sources["train"]))
        threads = min(_THREADS, os.cpu_count() or 1)
        subset.write(subset.Order(place, "hard", threads, False, seed, balance, source=source.resolve()), drawn, work)
        print(f"draw {draw}: {size:,} train images by seed {seed}, in {place}", flush=True)
