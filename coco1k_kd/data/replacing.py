"""A subset's way into its place: built beside it, renamed into it whole, and put right after a process was killed.

Beside `sub` there may be `.sub.lock`, held by the process at work; `.sub.partial`, which can always go; and `.sub.old`,
the earlier subset while files of the user's move out of it. Who holds the lock knows that nobody works on the others.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from coco1k_kd.data.manifest import own_files
from coco1k_kd.errors import UserError
from coco1k_kd.files import lock


@contextmanager
def building(output: Path) -> Iterator[Path]:
    """Give a new folder beside `output`, on the same file system, and leave none behind.

    Raise UserError while another process builds the same, and when nothing can be written there.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with _alone(output):
            _put_right(output)
            folder = _beside(output, "partial")
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""  # it may be an image that cannot be read
        raise UserError(f"cannot write {output}: {error.strerror or error}{where}") from error


def put_right(output: Path) -> list[str]:
    """Bring back what a killed process has left beside `output`, and remove what it had not finished.

    Returns what there is to say of it, each in a line. Raise UserError while the process is at work.
    """
    if not any((_beside(output, "lock").exists(), _left(output, "partial"), _left(output, "old"))):
        return []
    with _alone(output):
        return _put_right(output)


def put(built: Path, output: Path, owned: set[str]) -> None:
    """Rename a new subset into place, undisturbed by interrupts. Of the old one only the `owned` files go.

    Raise UserError when a file of the user's has the name of a new one.
    """
    with ThreadPoolExecutor(1) as undisturbed:  # an interrupt waits until all is in place
        undisturbed.submit(_put, built, output, owned).result()


def _put(built: Path, output: Path, owned: set[str]) -> None:
    if not output.exists():
        built.rename(output)
        return
    if clash := [path for path in _foreign(output, owned) if os.path.lexists(built / path)]:
        raise UserError(f"{output / clash[0]} is not the tool's own and in the way; move it away")
    old = _beside(output, "old")
    output.rename(old)
    try:
        built.rename(output)
    except BaseException:
        old.rename(output)
        raise
    _hand_over(old, output, owned)


def _hand_over(old: Path, output: Path, owned: set[str]) -> list[Path]:
    """Move the user's files out of an old subset, of which the rest goes. Returns where they are now."""
    moved = []
    for path in _foreign(old, owned):
        if (old / path).is_dir() and (output / path).is_dir():
            continue  # all that was in it has moved before
        moved.append(_free(output / path))
        moved[-1].parent.mkdir(parents=True, exist_ok=True)
        (old / path).rename(moved[-1])
    rest = _beside(output, "partial")
    old.rename(rest)  # what has lost a file of its own has lost the name by which it comes back
    shutil.rmtree(rest)
    return moved


def _free(place: Path) -> Path:
    """The place itself, or the first one behind it that has nothing: what was made since a kill stays."""
    while os.path.lexists(place):
        place = place.with_name(f"{place.name}~")
    return place


def _put_right(output: Path) -> list[str]:
    for folder in _left(output, "partial"):
        shutil.rmtree(folder)
    said = []
    for old in _left(output, "old"):
        if not output.exists():
            old.rename(output)
            said.append(f"{output} is back as it was before a process was killed that replaced it")
            continue
        try:
            owned = own_files(old)
        except UserError:  # what is whose cannot be told any more
            place = _free(output.with_name(f"{output.name}.old"))
            old.rename(place)
            said.append(f"{place} is what is left of an earlier subset; look whether it holds files of yours")
            continue
        if moved := _hand_over(old, output, owned):
            said.append(f"{len(moved):,} files of yours are back, which a killed process had taken away: {moved[0]}")
    return said


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Hold the lock of the place. A lock file that another process has just removed locks nobody out."""
    place = _beside(output, "lock")
    while True:
        with place.open("a") as file:
            if not lock(file):
                raise UserError(f"another process is writing {output}; wait for it, or choose another --output-dir")
            if not place.exists() or not os.path.samestat(place.stat(), os.fstat(file.fileno())):
                continue
            try:
                yield
            finally:
                with suppress(OSError):
                    place.unlink()
            return


def _beside(output: Path, what: str) -> Path:
    return output.with_name(f".{output.name}.{what}")


def _left(output: Path, what: str) -> list[Path]:
    """Folders beside `output` that a process may have left. Their names ended in its number once."""
    name = re.compile(rf"{re.escape(_beside(output, what).name)}(-\d+)?")
    found = [path for path in sorted(output.parent.glob(".*")) if name.fullmatch(path.name)]
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _foreign(folder: Path, owned: set[str]) -> list[Path]:
    """What of a folder is not `owned`: files, links (not followed) and empty folders, by path relative to it."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        found += [here / name for name in files]
        found += [here / name for name in folders if (here / name).is_symlink() or not any((here / name).iterdir())]
    return [path for file in found if (path := file.relative_to(folder)).as_posix() not in owned]
