"""The data that `--data` names: a subset or other COCO data by its own annotations, anything else as own data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from coco1k_kd.data.accept import Findings, accept, boxes_alone, refuse
from coco1k_kd.data.dataset import Data, annotations_beside, one_place, read_data
from coco1k_kd.data.groups import groups_of, notes_on, ungrouped_note
from coco1k_kd.data.manifest import MANIFEST, read_manifest
from coco1k_kd.data.own import write
from coco1k_kd.data.scan import SPLITS, check_channels, in_one_line, places_of, read
from coco1k_kd.data.yamls import read_yaml
from coco1k_kd.errors import UserError, count, visible


def open_data(path: Path, project: Path, program: bool = False) -> Data:
    """The data of a study: a subset or other COCO data by its own annotations, anything else as Ultralytics reads it.

    `program`: let a program in the YAML's `download:` fetch the images, where they are missing.

    Raises:
        UserError: the first fault of the data, and how many more there are.
    """
    if _has_annotations(path):
        return _read_with_annotations(path)
    data, found = read(path, program=program)
    refuse(data.yaml, found.faults)
    _print("note", [*found.warnings, *_unread(data)])
    return write(data, project)


def check(path: Path, further: Callable[[Data], list[str]] | None = None, groups: str | None = None) -> None:
    """Print what a study would find in a data YAML; nothing is written or downloaded. UserError if it is refused.

    `groups`: a pattern of names, by which images that judge are one sample. `further`: what else there is to say, in
    lines, of data that are accepted.
    """
    with TemporaryDirectory() as folder:
        if _has_annotations(path):
            data, found = _read_with_annotations(path), Findings()
        else:
            data, found = read(path, download=False)
            found.warnings += _unread(data)
            data = write(data, Path(folder))
        print(describe(data))
        _print("note", [*found.warnings, *boxes_alone(data, found.outlines)])
        _print("fault", found.faults)
        if not found.faults:
            judging = data.test or data.val
            told = notes_on(groups_of(groups, judging.names), data.train.names) if groups else ungrouped_note(judging)
            _print("note", [*accept(data), *told, *(further(data) if further else [])])
    if found.faults:
        raise UserError(f"{path}: {count(len(found.faults), 'fault')}, the first: {found.faults[0]}")


def describe(data: Data) -> str:
    """Images, boxes and classes of every split, then the boxes of each class, as a table."""
    found = {name: split.content for name, split in data.splits.items()}
    boxes = {name: part.category[part.valid] for name, part in found.items()}
    counts = {name: np.bincount(boxes[name], minlength=len(data.classes)) for name in found}
    lines = []
    for name, part in found.items():
        background = len(part.image_ids) - len(np.unique(part.image[part.valid]))
        classes = f"{np.count_nonzero(counts[name])} of {len(data.classes)} classes"
        images = f"{count(len(part.image_ids), 'image')} ({background:,} without a box)"
        lines.append(f"{name}: {images}, {count(len(boxes[name]), 'box', 'boxes')} of {classes}")
    width = max(map(len, data.classes))
    lines.append(f"{'boxes':{width}}" + "".join(f"{name:>10}" for name in found))
    for index, label in enumerate(data.classes):
        lines.append(f"{label:{width}}" + "".join(f"{count[index]:10,}" for count in counts.values()))
    return "\n".join(lines)


def _print(kind: str, lines: Iterable[str]) -> None:
    print("".join(f"{kind}: {visible(line)}\n" for line in lines), end="", flush=True)


def _read_with_annotations(path: Path) -> Data:
    """COCO data by its own annotations. UserError if Ultralytics, which trains on it, refuses its YAML or reads another
    place from it.
    """
    from ultralytics.data.utils import check_det_dataset

    data = read_data(path)
    with in_one_line(f"{path} cannot be used as a data YAML"):
        found = check_det_dataset(str(path), autodownload=False)
    check_channels(path, found)
    for name, split in data.splits.items():
        if Path(one_place(found[name])).resolve() != split.images:
            raise UserError(
                f"{path}, {name}: Ultralytics reads {found[name]}, but the annotations are of the images in "
                f"{split.images}; give the folder relative to path"
            )
    return data


def _has_annotations(path: Path) -> bool:
    """Whether COCO annotations lie beside the images of a data YAML, or a manifest says that they should."""
    try:
        content = read_yaml(path)
        root = Path(content.get("path") or path.parent)
        files = [annotations_beside(root, one_place(content[key])) for key in ("train", "val")]
        named = content.get("names") is not None  # Ultralytics can do without: then there is nothing to compare
    except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return False  # Ultralytics knows better what is wrong, or what the YAML means
    return named and (all(file.is_file() for file in files) or _is_subset(root))


def _unread(data: Data) -> Iterator[str]:
    """Yield that COCO annotations which lie beside own data are not read."""
    content = read_yaml(data.yaml)
    for split in SPLITS:
        for place in places_of(content, split):
            if (file := annotations_beside(data.root, place.removesuffix(".txt"))).is_file():
                yield (
                    f"{split}: {file} is not read, and the boxes to judge by are those of the labels, which know no "
                    "crowds; it is read where train and val are each one folder with annotations"
                )


def _is_subset(root: Path) -> bool:
    with suppress(UserError):
        return bool(read_manifest(root / MANIFEST))
    return False
