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

from coco1k_kd.data.annotations import parse
from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.data.leaks import twins
from coco1k_kd.data.manifest import MANIFEST, read_manifest
from coco1k_kd.data.source import drawn_from, from_root, from_yaml
from coco1k_kd.errors import UserError
from coco1k_kd.files import write_atomic
from coco1k_kd.flags import typed

AUTO, VAL, FULL = "auto", "val", "full"  # of --judge; else a folder
_IMAGES = "images/val"  # of a judge that is written


@dataclass(frozen=True)
class Judge:
    """Images that no run has chosen its best epoch by; `yaml` is for Ultralytics, once they are written."""

    name: Literal["full_val", "test"]
    split: Split
    yaml: Path | None = None

    def written(self, classes: Sequence[str], project: Path) -> Judge:
        """Write annotations and a data YAML of the judging images, which are links, into `project`/judges.

        Ultralytics writes a cache beside images, and a source may be read only.
        """
        source = self.split.content
        listed = set(self.split.names)
        kept = [image for image in source.images() if image.name in listed]
        content = source.extract(np.array([image.id for image in kept]))
        folder = project / "judges" / f"{self.name}_{source.sha256[:8]}_{len(kept)}"
        split = Split.of(parse(content, folder / "annotations.json"), folder / _IMAGES)
        for name in split.names:
            link, target = split.images / name, (self.split.images / name).absolute()
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink() or link.readlink() != target:  # the source may have moved since
                link.unlink(missing_ok=True)
                link.symlink_to(target)
        data = folder / "judge.yaml"
        text = {"path": str(folder), "train": _IMAGES, "val": _IMAGES, "names": dict(enumerate(classes))}
        write_atomic(split.annotations, content)
        write_atomic(data, yaml.safe_dump(text, sort_keys=False, allow_unicode=True))
        return Judge(self.name, split, data)


def find_judge(asked: str, data: Data, source: Path | None) -> Judge | None:
    """The judge that `--judge` asks for; None for the subset's val images.

    Args:
        asked: "auto", "val", "full", or a source: the folder of COCO files, or a data YAML.
        data: the study's data.
        source: what the subset was drawn from, where it is given.

    Raises:
        UserError: what is asked for is not at hand. "auto" then takes the subset's val images.
    """
    if asked == VAL:
        return None
    if asked == AUTO and data.test:
        return Judge("test", data.test)
    if asked not in (AUTO, FULL):
        return _beyond(_val(Path(asked)), data, f"--judge {asked}")
    try:
        return _beyond(_drawn_from(data, source), data, "--judge full")
    except UserError:
        if asked == FULL:
            raise
        return None


def _val(place: Path) -> Split:
    return from_root(place, "val") if place.is_dir() else from_yaml(place)["val"]


def _drawn_from(data: Data, given: Path | None) -> Split:
    """The val images that the subset was drawn from. UserError where they are unknown or have changed."""
    place = given or drawn_from(data.yaml)
    if place is None:
        raise UserError("--judge full: name what the subset was drawn from with --coco-root")
    source, manifest = _val(place), data.root / MANIFEST
    if not manifest.is_file() or source.content.sha256 != read_manifest(manifest).source["val"].sha256:
        raise UserError(f"--judge full: {data.root} was not drawn from {source.annotations}")
    return source


def _beyond(split: Split, data: Data, flag: str) -> Judge:
    """All val images of a source but those of the study. UserError if some are missing."""
    classes = split.content.names
    if tuple(classes) != data.classes:
        raise UserError(
            f"{flag}: {split.annotations} has other classes ({', '.join(classes[:3])}…) than the data "
            f"({', '.join(data.classes[:3])}…)"
        )
    files = dict(zip(split.names, split.files, strict=True))
    if missing := [name for name, file in files.items() if not file.is_file()]:
        raise UserError(
            f"{flag}: {len(missing):,} of {len(files):,} images of {split.annotations} are not in {split.images} (the "
            f"first: {missing[0]}); fetch them with {typed('create')} --download --judge full, or give --judge val"
        )
    choose = twins(split.files, data.val.files)
    names = tuple(name for name, file in files.items() if file not in choose)
    if not names:
        raise UserError(f"{flag}: {split.images} holds only images that choose the best epoch; give --judge val")
    return Judge("full_val", replace(split, names=names))
