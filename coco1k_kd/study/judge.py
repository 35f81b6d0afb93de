"""The images by which a study is judged.

The subset's val images choose every run's best epoch, which flatters all arms, and they are few. Where more images are
at hand, the verdict is taken on those: `test` of a data YAML, or all val images of the subset's source that are not the
subset's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from coco1k_kd.data.annotations import read
from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.data.leaks import twins
from coco1k_kd.data.manifest import MANIFEST, read_manifest
from coco1k_kd.data.source import Source, drawn_from, from_root, from_yaml
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, write_atomic
from coco1k_kd.flags import typed

AUTO, VAL, FULL = "auto", "val", "full"  # of --judge; else a folder
_IMAGES = "images/val"  # of a judge that is written


@dataclass(frozen=True)
class Judge:
    """Images that no run has chosen its best epoch by; `own` are those among `split` that runs have."""

    name: Literal["full_val", "test"]
    split: Split
    own: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """How many images judge."""
        return self.split.size - len(self.own)

    @property
    def judging(self) -> Split:
        """The split without the images that runs choose their best epoch by."""
        return replace(self.split, names=tuple(sorted(set(self.split.names) - self.own)))

    def written(self, classes: Sequence[str], project: Path) -> WrittenJudge:
        """Write annotations and a data YAML of the judging images, which are links, into `project`/judges.

        Ultralytics writes a cache beside images, and a source may be read only.
        """
        source = read(self.split.annotations)
        listed = set(self.judging.names)
        kept = [image for image in source.images() if image.name in listed]
        content = source.extract(np.array([image.id for image in kept]))
        folder = project / "judges" / f"{self.name}_{sha256(self.split.annotations)[:8]}_{len(kept)}"
        names = tuple(sorted(image.name for image in kept))
        images = folder / _IMAGES
        for name in names:
            link, target = images / name, (self.split.images / name).absolute()
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink() or link.readlink() != target:  # the source may have moved since
                link.unlink(missing_ok=True)
                link.symlink_to(target)
        annotations, data = folder / "annotations.json", folder / "judge.yaml"
        text = {"path": str(folder), "train": _IMAGES, "val": _IMAGES, "names": dict(enumerate(classes))}
        write_atomic(annotations, content)
        write_atomic(data, yaml.safe_dump(text, sort_keys=False, allow_unicode=True))
        return WrittenJudge(self.name, replace(self.split, annotations=annotations, images=images, names=names), data)


@dataclass(frozen=True)
class WrittenJudge:
    """A judge on disk: its split without the images that choose the best epoch, and the YAML for Ultralytics."""

    name: Literal["full_val", "test"]
    split: Split
    yaml: Path


def find_judge(asked: str, data: Data, source: Path | None, project: Path | None = None) -> Judge | None:
    """The judge that `--judge` asks for; None for the subset's val images.

    Args:
        asked: "auto", "val", "full", or a source: the folder of COCO files, or a data YAML.
        data: the study's data.
        source: what the subset was drawn from, where it is given.
        project: where the annotations of a source that has labels in their place are written.

    Raises:
        UserError: what is asked for is not at hand. "auto" then takes the subset's val images.
    """
    if asked == VAL:
        return None
    if asked == AUTO and data.test:
        return Judge("test", data.test)
    if asked not in (AUTO, FULL):
        return _beyond(_val(Path(asked)), data, f"--judge {asked}", project)
    try:
        return _beyond(_drawn_from(data, source), data, "--judge full", project)
    except UserError:
        if asked == FULL:
            raise
        return None


def _val(place: Path) -> Source:
    return from_root(place, "val") if place.is_dir() else from_yaml(place)["val"]


def _drawn_from(data: Data, given: Path | None) -> Source:
    """The val images that the subset was drawn from. UserError where they are unknown or have changed."""
    place = given or drawn_from(data.yaml)
    if place is None:
        raise UserError("--judge full: name what the subset was drawn from with --coco-root")
    source, manifest = _val(place), data.root / MANIFEST
    if not manifest.is_file() or source.annotations.sha256 != read_manifest(manifest).source["val"].sha256:
        raise UserError(f"--judge full: {data.root} was not drawn from {source.annotations.path}")
    return source


def _beyond(source: Source, data: Data, flag: str, project: Path | None) -> Judge:
    """All val images of a source but those of the study. UserError if some are missing."""
    annotations, images = source.annotations, source.images
    if tuple(annotations.names) != data.classes:
        raise UserError(
            f"{flag}: {annotations.path} has other classes ({', '.join(annotations.names[:3])}…) than the data "
            f"({', '.join(data.classes[:3])}…)"
        )
    names = tuple(sorted(i.name for i in annotations.images() if i.id not in annotations.unusable))
    if missing := [name for name in names if not (images / name).is_file()]:
        raise UserError(
            f"{flag}: {len(missing):,} of {len(names):,} images of {annotations.path} are not in {images} (the first: "
            f"{missing[0]}); fetch them with {typed('create')} --download --judge full, or give --judge val"
        )
    file = annotations.path
    if project and file.suffix in (".yaml", ".yml"):  # its annotations are made of its labels, and lie nowhere
        file = project / "judges" / f"{annotations.sha256[:16]}.json"
        write_atomic(file, annotations.extract(np.array([image.id for image in annotations.images()])))
    split = Split(file, images, names)
    choose = twins(split.files, data.val.files)
    own = frozenset(name for name, file in zip(names, split.files, strict=True) if file in choose)
    if len(own) == len(names):
        raise UserError(f"{flag}: {images} holds only images that choose the best epoch; give --judge val")
    return Judge("full_val", split, own)
