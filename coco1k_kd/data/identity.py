"""Which bytes a study reads: a hash of every file, kept by what the file system says of it, and what has changed."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.data.labels import label_file
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, write_json

CACHE = "hashes.json"  # in the project folder
Hashes = dict[str, str]  # SHA-256 by absolute path


def hashes(files: Iterable[Path], cache: Path) -> Hashes:
    """SHA-256 of each file by its path; "" where there is none.

    A file of the size, time of change and inode that `cache` knows is not read again. A torn cache is made anew.
    """
    try:
        known = dict(json.loads(cache.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    found, new = {}, {}
    for file in map(str, files):
        try:
            state = Path(file).stat()
        except OSError:
            found[file] = ""
            continue
        key = f"{file} {state.st_size} {state.st_mtime_ns} {state.st_ino}"
        if not isinstance(known.get(key), str):
            new[key] = sha256(Path(file))
        found[file] = new.get(key) or known[key]
    if new:
        with contextlib.suppress(OSError):  # a folder that cannot be written to: they are read again next time
            write_json(cache, known | new)
    return found


def digest(found: Mapping[str, str]) -> str:
    """One hash of all of them."""
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """The first file that is not what it was."""
    return next((file for file in sorted(before) if now.get(file, before[file]) != before[file]), None)


def check_unchanged(listed: Path) -> Hashes:
    """The hashes of the files of a study's list, as they are now. UserError names the first that has changed."""
    before = json.loads(listed.read_bytes())
    now = hashes(map(Path, before), listed.with_name(CACHE))
    if file := changed(before, now):
        raise UserError(f"{file} has changed since the study began: put it back, or begin a new study without --resume")
    return now


def files_of_split(split: Split) -> list[Path]:
    """Images, their labels and their annotations."""
    labels = [label for image in split.files if (label := Path(label_file(image.as_posix()))).is_file()]
    return [split.annotations, *split.files, *labels, *([split.listed] if split.listed else [])]


def files_of_data(data: Data) -> list[Path]:
    """What training and validation read."""
    return [*files_of_split(data.train), *files_of_split(data.val)]


def files_of_code(file: Path) -> list[Path]:
    """A Python file and those of its own folder that it imports, directly or not."""
    found, left = [], [file.resolve()]
    while left:
        path = left.pop()
        found.append(path)
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # what reads it says so
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        own = {path.parent / f"{name.split('.')[0]}.py" for name in names}
        left += sorted(other for other in own if other.is_file() and other not in (*found, *left))
    return found
