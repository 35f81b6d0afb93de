"""Images to judge by that were trained on: files of the same content, but for bytes after a JPEG's end marker.

Ultralytics writes JPEGs with such bytes anew, in their place, when it reads their labels. Ask before it does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from coco1k_kd.data.images import may_have_trailer, without_trailer
from coco1k_kd.files import on_each, sha256

TRAINS = "which is trained on"
CHOOSES = "which chooses the best epoch"


def leaks(judge: Iterable[Path], other: Iterable[Path], used: str = TRAINS) -> list[str]:
    """Images to judge by that are also in `other`, each in a line that names the use of `other`."""
    return [leak(file, twin, used) for file, twin in twins(judge, other).items()]


def leak(file: Path, twin: Path, used: str) -> str:
    """The line that refuses an image to judge by."""
    return f"{file}: the same image as {twin}, {used}; remove it from one of the two splits"


def twins(files: Iterable[Path], others: Iterable[Path]) -> dict[Path, Path]:
    """Those of `files` whose content is in `others` too, with the file there. What is no file is passed over.

    Only files of equal size are read whole.
    """
    one, two = (
        {content.path: content for content in on_each(_content, part) if content}
        for part in (list(files), list(others))
    )
    shared = {content.size for content in one.values()} & {content.size for content in two.values()}
    one, two = ([content for content in part.values() if content.size in shared] for part in (one, two))
    known = {digest: content.path for digest, content in zip(on_each(_digest, two), two, strict=True)}
    asked = dict(zip((content.path for content in one), on_each(_digest, one), strict=True))
    return {path: known[digest] for path, digest in asked.items() if digest in known}


def copies(files: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Those of `files` whose content an earlier one has, behind that one. Only files of equal size are read whole."""
    contents = [content for content in on_each(_content, files) if content]
    times = Counter(content.size for content in contents)
    contents = [content for content in contents if times[content.size] > 1]
    first: dict[str, Path] = {}
    pairs = [
        (first.setdefault(digest, content.path), content.path)
        for content, digest in zip(contents, on_each(_digest, contents), strict=True)
    ]
    return [(one, other) for one, other in pairs if one != other]


class _Content(NamedTuple):
    """A file's content: its size, and its SHA-256 where it had to be read to know the size."""

    path: Path
    size: int
    digest: str | None = None


def _content(path: Path) -> _Content | None:
    try:
        if not path.is_file():  # it may be a pipe, which is waited for
            return None
        if not may_have_trailer(path):
            return _Content(path, path.stat().st_size)
        data = path.read_bytes()
        with suppress(SyntaxError, ValueError):  # no picture: as it is
            data = without_trailer(data)
        return _Content(path, len(data), hashlib.sha256(data).hexdigest())
    except OSError:  # whoever reads the image says why
        return None


def _digest(content: _Content) -> str:
    return content.digest or sha256(content.path)
