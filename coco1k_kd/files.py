"""Files that are whole or not there: atomic writes and content hashes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what a JSON file of anybody's may raise
_THREADS = 8  # that read files at a time
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # Lustre without -o flock, NFS without lockd
F, R = TypeVar("F"), TypeVar("R")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` at the end: a reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def on_each(work: Callable[[F], R], files: Iterable[F]) -> Iterator[R]:
    """What `work` gives for each of some files, in their order; several are read at a time."""
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(work, files)


def state(path: Path) -> tuple[int, int, int, int]:
    """What tells a file from the one that it was, unread: size, inode, time of change, and that of any change.

    A copy can be given the first three of another file; nobody sets the last, which every write moves. OSError if there
    is none.
    """
    found = path.stat()
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def lock(file: IO[Any]) -> bool:
    """Lock an open file for this process and its children; False where another process holds it.

    A file system without locks has nothing to hold: that is said, and counts as held.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(
            f"note: {Path(file.name).parent} has no file locks ({error.strerror}): see to it yourself that no other "
            "process works there",
            file=sys.stderr,
            flush=True,
        )
    return True


def leftovers(folder: Path) -> list[Path]:
    """Files that `atomic` had not finished when its process was killed. Only for a folder that is locked."""
    return list(folder.glob(".?*.????????"))


def _umask() -> int:
    """To read it is to set it, for the whole process: once, before there are threads."""
    current = os.umask(0)
    os.umask(current)
    return current


_UMASK = _umask()
