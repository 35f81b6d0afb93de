"""Which bytes a study reads: a hash of every file, kept by what the file system says of it, and what has changed."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.data.labels import label_file
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, state, write_json

CACHE = "hashes.json"  # in the project folder
Hashes = dict[str, str]  # SHA-256 by path: of what lies in the project relative to it, since a project may be moved


def listed_as(file: str | Path, project: Path) -> str:
    """The path by which a file is listed."""
    return _names([Path(file)], project)[0]


def hashes(files: Iterable[Path], project: Path) -> Hashes:
    """SHA-256 of each file by its path, which is absolute; "" where there is none.

    A file of which the file system says what the project's cache knows is not read again. A torn cache is made anew.
    """
    cache = project / CACHE
    try:
        known = dict(json.loads(cache.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    found, new, files = {}, {}, list(files)
    for file, name in zip(files, _names(files, project), strict=True):
        try:
            key = " ".join(map(str, (name, *state(file))))
        except OSError:
            found[name] = ""
            continue
        if not isinstance(known.get(key), str):
            new[key] = sha256(file)
        found[name] = new.get(key) or known[key]
    if new:
        with contextlib.suppress(OSError):  # a folder that cannot be written to: they are read again next time
            write_json(cache, known | new)
    return found


def digest(found: Mapping[str, str]) -> str:
    """One hash of all of them."""
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()


def check_unchanged(listed: Path) -> dict[str, Hashes]:
    """The hashes of the files of a list, as they are now: the list has them by part. UserError names what has changed.

    The list lies in the project folder.
    """
    before: dict[str, Hashes] = json.loads(listed.read_bytes())
    project = listed.parent
    now = {part: hashes([project / name for name in files], project) for part, files in before.items()}
    for part, files in before.items():
        for name, found in files.items():
            if now[part][name] != found:
                what = "is new" if not found else "has changed" if now[part][name] else "is gone"
                raise UserError(
                    f"{project / name} {what} since the study began: put back what was there, or begin a new study "
                    "without --resume"
                )
    return now


def files_of_split(split: Split, project: Path) -> list[Path]:
    """Images, their labels, also those that are not there, and their annotations."""
    labels = [Path(label_file(image.as_posix())) for image in split.files]
    listed = [split.listed] if split.listed and not split.listed.is_relative_to(project) else []  # ours moves with it
    return [split.annotations, *split.files, *labels, *listed]


def files_of_data(data: Data, project: Path) -> list[Path]:
    """What training and validation read."""
    return [*files_of_split(data.train, project), *files_of_split(data.val, project)]


def _names(files: Iterable[Path], project: Path) -> list[str]:
    inside = tuple(f"{place}{os.sep}" for place in (project, project.resolve()))
    return [next((file[len(place) :] for place in inside if file.startswith(place)), file) for file in map(str, files)]


def files_of_code(file: Path) -> list[Path]:
    """A Python file and those of its own folder that it imports, directly or not; of a package all."""
    folder, found, left = file.resolve().parent, [], [file.resolve()]
    while left:
        path = left.pop()
        found.append(path)
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # what reads it says so
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        for first in {name.split(".")[0] for name in names}:
            own = [folder / f"{first}.py", *sorted((folder / first).rglob("*.py"))]
            left += [other for other in own if other.is_file() and other not in (*found, *left)]
    return found
