"""What a subset is drawn from: COCO, anybody's COCO files, or data in Ultralytics' format; images and annotations."""

from __future__ import annotations

from pathlib import Path

from coco1k_kd.data import scan
from coco1k_kd.data.accept import refuse
from coco1k_kd.data.annotations import Annotations, read
from coco1k_kd.data.dataset import Split
from coco1k_kd.data.yamls import read_yaml
from coco1k_kd.errors import UserError

OFFICIAL = "annotations/instances_{split}2017.json"
# Where annotations lie below a root, the most usual first; Roboflow's export is the last.
_ANNOTATIONS = (
    OFFICIAL,
    "annotations/instances_{name}.json",
    "annotations/{name}.json",
    "instances_{name}.json",
    "{name}.json",
    "{name}/_annotations.coco.json",
)
_IMAGES = ("{split}2017", "{name}", "images/{split}2017", "images/{name}", "images", ".")
_NAMES = {"train": ("train",), "val": ("val", "valid")}
_PROBED = 50  # images that are looked for, to find the folder that holds them


def from_root(root: Path, split: str) -> Split:
    """The split of a folder with COCO files, in one of the usual layouts. UserError with what was looked for."""
    for name in _NAMES[split]:
        for pattern in _ANNOTATIONS:
            file = root / pattern.format(split=split, name=name)
            if file.is_file():
                content, folders = read(file), [root / folder.format(split=split, name=name) for folder in _IMAGES]
                return Split.of(content, _holder(content, folders))
    if not root.is_dir() or any((root / OFFICIAL.format(split=other)).is_file() for other in _NAMES):
        raise UserError(
            f"no COCO annotations at {root / OFFICIAL.format(split=split)}; name COCO's folder with --coco-root, fetch "
            "it with --download, or give your own data with --data or --train-annotations"
        )
    patterns = ", ".join(pattern.format(split=split, name=split) for pattern in _ANNOTATIONS)
    raise UserError(
        f"{root} has no annotations of {split} (looked for {patterns}): name all files with --train-annotations, "
        "--train-images, --val-annotations and --val-images, or COCO's folder with --coco-root"
    )


def is_official(split: Split) -> bool:
    """Whether the annotations lie as COCO's own do."""
    return any(split.annotations.match(OFFICIAL.format(split=name)) for name in _NAMES)


def from_files(annotations: Path, images: Path) -> Split:
    """A split of anybody's COCO file. UserError if the file or the folder is not there."""
    if not images.is_dir():
        raise UserError(f"{images} is not a folder: give the one that the file names in {annotations} are relative to")
    return Split.of(read(annotations), images)


def from_yaml(path: Path, program: bool = False) -> dict[str, Split]:
    """The splits of a data YAML in Ultralytics' format. UserError if no study could be made of the data.

    `program`: let a program in its `download:` fetch the images, where they are missing.
    """
    data, found = scan.read(path, program=program)
    refuse(data.yaml, found.faults)
    return data.splits


def open_source(place: Path) -> dict[str, Split]:
    """Train and val of `--coco-root` or `--data`: a folder with COCO files, or a data YAML."""
    return {split: from_root(place, split) for split in _NAMES} if place.is_dir() else from_yaml(place)


def drawn_from(data: Path) -> Path | None:
    """What the YAML of a subset says that it was drawn from; None where it says nothing, or that is gone."""
    source = read_yaml(data).get("source")
    return Path(source) if isinstance(source, str) and source and Path(source).exists() else None


def _holder(content: Annotations, folders: list[Path]) -> Path:
    """The folder that holds most of some of the images; the first where none does."""
    names = [image.file_name for image in content.images()]
    some = names[:: max(len(names) // _PROBED, 1)]
    return max(folders, key=lambda folder: sum((folder / name).is_file() for name in some))
