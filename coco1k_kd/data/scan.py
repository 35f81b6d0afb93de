"""Anybody's detection data in Ultralytics' format, as Ultralytics itself reads it.

A data YAML may name folders, lists of folders or text files, with or without `path`. Ultralytics resolves all of it
and reads the labels. Format: https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from coco1k_kd.data.accept import Findings, as_read, known_leaks
from coco1k_kd.data.annotations import parse
from coco1k_kd.data.caches import check_cache
from coco1k_kd.data.columns import outlines
from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.data.entries import SUFFIXES
from coco1k_kd.data.labels import label_file, left_out
from coco1k_kd.data.leaks import CHOOSES, TRAINS, twins
from coco1k_kd.data.listing import images_found
from coco1k_kd.data.own import coco
from coco1k_kd.data.quiet import quiet
from coco1k_kd.data.yamls import read_yaml
from coco1k_kd.errors import UserError, visible
from coco1k_kd.flags import typed

SPLITS = ("train", "val", "test")
_ARCHIVE = re.compile(r"https?://.*\.(?:zip|tar|gz|tgz|xz|bz2|txz|tbz2)(?:\?.*)?", re.IGNORECASE)  # of download:
RUN_DOWNLOAD = "--run-download"  # the flag without which no program of a data YAML runs
_LONGEST = 300  # characters of a message that is not ours


def resolve(path: Path, download: bool = True, program: bool = False) -> dict[str, Any]:
    """A data YAML as Ultralytics resolves it: absolute places of the splits, and names by index.

    Args:
        path: the YAML, or what else Ultralytics takes for one: the name of one that it brings along, with or without
            its suffix, a folder that holds one, or an archive.
        download: let Ultralytics fetch the images where the YAML has `download:` and they are missing, as it does
            before a training.
        program: do so too where `download:` is a program.

    Raises:
        UserError: it is not a data YAML, or the images of train or val are not there.
    """
    from ultralytics.data.utils import check_det_dataset

    with in_one_line(f"{path} cannot be used as a data YAML"):
        file = _known(path)
        fetched = download and (program or not _runs_program(file))
        try:
            found = check_det_dataset(str(path), autodownload=fetched)
        except FileNotFoundError:
            if not download or fetched:
                raise
            raise UserError(
                f"{path}: its images are not there, and its download: is a program; read it, then give {RUN_DOWNLOAD}, "
                "or fetch the images yourself"
            ) from None
        for split in SPLITS:
            places = places_of(found, split)
            if not places and split != "test":
                raise ValueError(f"{split}: names no images")
            missing = [place for place in places if not Path(place).exists()]
            if missing and split != "test":  # which Ultralytics does not ask for before it trains
                raise ValueError(f"{split}: {missing[0]} does not exist")
            if images := [place for place in places if Path(place).is_file() and not _passed(place)]:
                raise ValueError(f"{split}: {images[0]} is an image; name a folder, or a text file that lists images")
        if unnamed := [index for index in range(len(found["names"])) if index not in found["names"]]:
            raise ValueError(f"names: there is none of class {unnamed[0]}; number the classes from 0")
        found["names"] = {index: visible(found["names"][index]) for index in range(len(found["names"]))}
    return found


def _known(path: Path) -> Path:
    """Where a data YAML lies that is given by its path, or by the name of one that Ultralytics brings along."""
    from ultralytics.utils.checks import check_file

    if re.match(r"\w+:/", str(path)):
        raise UserError(f"{path} is an address: fetch the file, and give --data its path")
    for name in (str(path), f"{path}.yaml", f"{path}.yml"):
        if path.exists() or (found := check_file(name, download=False, hard=False)):
            return path if path.exists() else Path(found)
    raise UserError(f"{path} does not exist: make a subset with {typed('create')}, or give --data your data YAML")


def _runs_program(file: Path) -> bool:
    """Whether Ultralytics would run a program to fetch the images of a data YAML, and not just unpack an archive."""
    try:
        download = read_yaml(file).get("download")
    except (OSError, yaml.YAMLError):  # a folder, an archive, or none; their download: Ultralytics does not run
        return file.is_dir()
    return bool(download) and not _ARCHIVE.fullmatch(str(download))


def read(path: Path, download: bool = True, program: bool = False) -> tuple[Data, Findings]:
    """Have Ultralytics read all images and labels that a data YAML names; `download` and `program` as of `resolve`.

    Returns the data, whose truth is written nowhere yet, and what reading them has shown. UserError, in one line, where
    they cannot be read.
    """
    found = resolve(path, download, program)
    check_channels(path, found)
    classes, findings = _distinct(list(found["names"].values())), Findings()
    findings.warnings += [
        f"classes {classes.index(name)} and {index} have the name {name!r}; the latter is called {classes[index]!r}"
        for index, name in found["names"].items()
        if classes[index] != name
    ]
    if gone := [place for place in places_of(found, "test") if not Path(place).exists()]:
        found["test"] = None
        findings.warnings.append(f"test: {gone[0]} does not exist, so the split is not used")
    listed = {split: _listed(path, split, found) for split in SPLITS if found.get(split)}
    same = {  # before Ultralytics, which reads the labels, can rewrite a file
        (judge, other): twins(_absolute(listed[judge]), _absolute(listed[other]))
        for other, judge in combinations(listed, 2)
    }
    splits: dict[str, Split] = {}
    for name, files in listed.items():
        split, of_split = _split(path, name, found, files, classes)
        if name == "test" and not any(Path(label_file(file.as_posix())).is_file() for file in split.files):
            findings.warnings.append(
                f"test: none of the {split.size:,} images has a label file, so the split is not used"
            )
            continue
        splits[name] = split
        findings.add(of_split)
    for (judge, other), copies in same.items():
        if judge in splits:
            findings.faults += known_leaks(judge, splits[judge], copies, TRAINS if other == "train" else CHOOSES)
    return Data(Path(found["yaml_file"]).resolve(), Path(found["path"]).resolve(), classes, **splits), findings


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Names of classes, of which none occurs twice: the second `cup` is `cup (2)`, and not one that is there."""
    found: list[str] = []
    for name in names:
        number, distinct = 1, name
        while distinct in found or (number > 1 and distinct in names):
            number += 1
            distinct = f"{name} ({number})"
        found.append(distinct)
    return tuple(found)


def _split(
    path: Path, name: str, resolved: dict[str, Any], listed: Sequence[str], classes: Sequence[str]
) -> tuple[Split, Findings]:
    """One split of a resolved YAML by Ultralytics' own data set: segments are boxes, equal lines count once.

    Ultralytics writes its label cache beside the labels where it may. `listed`: the images that it finds, with those
    that it leaves out. UserError if there is nothing to read.
    """
    from ultralytics.data.dataset import YOLODataset

    check_cache(listed)
    with in_one_line(f"{path}, {name}"):
        found = YOLODataset(img_path=resolved[name], data=resolved, augment=False)
    label_files = dict(zip(listed, found.label_files, strict=True))
    unread = sorted(set(listed) - set(found.im_files))
    files = tuple(_absolute(found.im_files))
    if odd := next((str(file) for file in files if not _can_be_listed(str(file))), None):
        raise UserError(f"{path}, {name}: {odd!a} has a control character or no UTF-8 in its path; rename it")
    first: dict[Path, Path] = {}
    for file in files:
        if (known := first.setdefault(file.resolve(), file)) is not file:
            link = f", also as {known}" if known != file else ""
            raise UserError(f"{path}, {name}: {file} is listed twice{link}; list every image once")
    root = Path(os.path.commonpath([file.parent for file in files]))
    sizes = np.array([label["shape"][::-1] for label in found.labels], np.int64).reshape(-1, 2)
    boxes = [np.column_stack((label["cls"], label["bboxes"])).astype(np.float64) for label in found.labels]
    names = [file.relative_to(root).as_posix() for file in files]
    split = Split.of(parse(coco(names, sizes, boxes, classes, Path(resolved["yaml_file"]).name), path), root)
    return split, as_read(
        name,
        split,
        left_out=[
            *(_one_line(left_out(file, label_files[file], resolved)) for file in unread),
            *_unseen(places_of(resolved, name), set(label_files.values())),
        ],
        unlabelled=sum(not Path(label_files[file]).is_file() for file in found.im_files),
        boxes=sum(map(len, boxes)),
        outlined=outlines(Path(label_files[file]) for file in found.im_files if "kpt_shape" not in resolved),
    )


def _listed(path: Path, split: str, resolved: dict[str, Any]) -> list[str]:
    """The images that Ultralytics finds in a split, of which it has read nothing yet."""
    with in_one_line(f"{path}, {split}"):
        return images_found(resolved[split], resolved)


def _absolute(files: Iterable[str]) -> list[Path]:
    return [Path(os.path.abspath(file)) for file in files]  # noqa: PTH100 - links stay links


def check_channels(path: Path, resolved: dict[str, Any]) -> None:
    """UserError if the pictures have not the channels that models of this comparison take."""
    if resolved["channels"] != 3:
        raise UserError(f"{path} has channels: {resolved['channels']}; teacher and student take pictures of 3 channels")


def places_of(resolved: dict[str, Any], split: str) -> list[str]:
    """The folders and text files of a split."""
    found = resolved.get(split) or []
    return [found] if isinstance(found, str) else found


def _can_be_listed(file: str) -> bool:
    """Whether a text file of paths can hold this one."""
    return visible(file) == file and len(file.splitlines()) == 1


def _unseen(places: list[str], labels: set[str]) -> Iterator[str]:
    """Yield what Ultralytics passes over without a word: images by their suffix, and lines of a list that end oddly.

    A file is taken for an image if it has a label file that is no other image's. `labels`: those of the images.
    """
    for place in map(Path, places):
        if place.is_file():
            lines = [line for line in place.read_text("utf-8-sig").splitlines() if line.strip() and line[0] != "#"]
            yield from (f"{place}: the line {line!a} does not end as an image does" for line in lines if _passed(line))
        for folder, _, names in os.walk(place):
            for file in (f"{folder}/{name}" for name in sorted(names) if _passed(name) and not name.endswith(".txt")):
                if (label := label_file(file)) not in labels and Path(label).is_file():
                    yield f"{file} has labels and a suffix that Ultralytics does not read; convert it to JPEG or PNG"


def _passed(name: str) -> bool:
    """Whether Ultralytics does not take a file for an image."""
    return name.rpartition(".")[2].lower() not in SUFFIXES


@contextmanager
def in_one_line(where: str) -> Iterator[None]:
    """Ultralytics is quiet, and what it raises, of whatever kind, is a line about the user's files."""
    try:
        with quiet():
            yield
    except UserError:
        raise
    except Exception as error:  # its errors have many kinds, which change from release to release
        raise UserError(f"{where}: {_one_line(error.__cause__ or error)}") from None


def _one_line(message: object) -> str:
    """A message of Ultralytics without colours, pictures, line breaks and links."""
    text = str(message.args[0]) if isinstance(message, KeyError) and message.args else str(message)
    text = text.partition("\nNote dataset download directory")[0]
    text = text.replace("No module named 'pi_heif'", "no image that can be read")  # its last resort for any file
    text = re.sub(r"\x1b\[[0-9;]*m|See https://\S+ for [^.]*\.|[^\w\s!-~\u00a0-\u024f]", "", text)
    return " ".join(text.split())[:_LONGEST] or type(message).__name__
