"""The manifest of a subset: what was drawn, from what, and every file's hash: it can be checked and made again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from coco1k_kd.data.annotations import Annotations
from coco1k_kd.data.sampling import Pool, balanced, level_of
from coco1k_kd.errors import UserError
from coco1k_kd.files import NOT_JSON

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
YAML = "coco1k.yaml"
SPLITS = ("train", "val")
POOL = "pool"


class SourceFile(msgspec.Struct):
    """An annotation file that the subset was drawn from; size in bytes."""

    file: str
    size: int
    sha256: str


class SplitManifest(msgspec.Struct):
    """One split. `supply_per_class`: images in the source; `files`: SHA-256 by path inside the subset.

    `k`: every class is in at least min(k, its supply) images. `cv`: coefficient of variation of the images per class,
    over the classes that shall be equal. `classes_per_image`: how many images show so many classes.
    """

    image_ids: list[int]
    images_per_class: dict[str, int]
    instances_per_class: dict[str, int]
    supply_per_class: dict[str, int]
    k: int
    cv: float
    person_share: float | None
    classes_per_image: dict[str, int]
    files: dict[str, str] = {}


class PoolManifest(msgspec.Struct):
    """Further images of the source, without labels; `files`: SHA-256 by path inside the subset."""

    image_ids: list[int]
    files: dict[str, str]


class Manifest(msgspec.Struct):
    """All of manifest.json; `pool` is there where one was drawn."""

    schema_version: int
    seed: int
    balance: Literal["context", "strict"]
    algorithm_version: int
    source: dict[str, SourceFile]
    train: SplitManifest
    val: SplitManifest
    pool: PoolManifest | msgspec.UnsetType = msgspec.UNSET

    def split(self, name: str) -> SplitManifest:
        """The part for train or val."""
        return {"train": self.train, "val": self.val}[name]

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of every file of splits and pool. The YAML is not among them: its absolute path is the machine's."""
        return self.train.files | self.val.files | (self.pool.files if self.pool else {})


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. Raise UserError when it is none, torn, or of a version that this program does not know."""
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except NOT_JSON as error:
        raise UserError(f"{path}: not a whole manifest of a subset ({error})") from None
    if manifest.schema_version != SCHEMA_VERSION or set(manifest.source) != {"train", "val"}:
        raise UserError(f"{path}: not a manifest of schema_version {SCHEMA_VERSION} with train and val")
    return manifest


def own_files(folder: Path) -> set[str]:
    """The files and links of a subset that this tool wrote, by path inside it. UserError as `read_manifest` does."""
    return {*read_manifest(folder / MANIFEST).files, MANIFEST, YAML, *(f"{split}2017" for split in (*SPLITS, POOL))}


def count(annotations: Annotations, balance: str, supply: dict[str, int]) -> SplitManifest:
    """Count a drawn split. `supply`: images per class in the source, which bounds what a draw can hold."""
    pool = Pool.of(annotations)
    images, available = pool.supply, np.array([supply.get(name, 0) for name in pool.names], np.int64)
    histogram = np.bincount(pool.presence.sum(axis=1))
    return SplitManifest(
        image_ids=annotations.image_ids.tolist(),
        images_per_class=dict(zip(pool.names, images.tolist(), strict=True)),
        instances_per_class=dict(zip(pool.names, pool.instances.sum(axis=0).tolist(), strict=True)),
        supply_per_class=supply,
        k=level_of(images, available),
        cv=_variation(images[balanced(pool.names, available, balance)].tolist()),
        person_share=None if pool.person is None else round(int(images[pool.person]) / max(len(pool.ids), 1), 6),
        classes_per_image={str(n): int(times) for n, times in enumerate(histogram) if times},
    )


def _variation(values: list[int]) -> float:
    """Coefficient of variation; from integers, so that every machine rounds it alike."""
    total = sum(values)
    return round(math.sqrt(len(values) * sum(v * v for v in values) - total * total) / total, 6) if total else 0.0


def table(splits: dict[str, SplitManifest]) -> str:
    """The classes with images, boxes and the source's images in each split, and what the draws as a whole are like."""
    names = list(next(iter(splits.values())).images_per_class)
    width = max(map(len, names), default=0)
    lines = [f"{'class':{width}}" + "".join(f"{split + ' images':>14}{'boxes':>8}{'of':>8}" for split in splits)]
    for name in names:
        columns = (
            (s.images_per_class[name], s.instances_per_class[name], s.supply_per_class[name]) for s in splits.values()
        )
        lines.append(f"{name:{width}}" + "".join(f"{images:14,}{boxes:8,}{of:8,}" for images, boxes, of in columns))
    for split, part in splits.items():
        scarce = [name for name, supply in part.supply_per_class.items() if supply < part.k]
        some = ", ".join([*scarce[:9], *["..."] * (len(scarce) > 9)])
        or_all = f" or in all there are ({len(scarce)} scarce: {some})" if scarce else ""
        person = "" if part.person_share is None else f", person in {part.person_share:.1%}"
        images = f"{split}: {len(part.image_ids):,} images"
        lines.append(f"{images}, every class in at least {part.k}{or_all}, CV {part.cv:.3f}{person}")
    return "\n".join(lines)
