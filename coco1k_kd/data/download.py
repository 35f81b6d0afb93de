"""COCO from the network, but only what is needed: resumable, checked, and nothing corrupt is kept.

For mirrors: `COCO_ANNOTATIONS_URL` names another annotation archive, `COCO_URL_BASE` takes the place of scheme and host
in the images' addresses.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from coco1k_kd.data.images import jpeg_damage
from coco1k_kd.errors import UserError
from coco1k_kd.files import write_atomic

ANNOTATIONS_URL = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
MEMBERS = ("annotations/instances_train2017.json", "annotations/instances_val2017.json")
ATTEMPTS = 6
BACKOFF_SECONDS = 0.5  # doubled after every failed attempt: about 15 s of waiting in all
PATIENCE_SECONDS = 30  # to connect and between bytes, and before a transfer may be called too slow
SLOWEST = 1000  # bytes per second
GIVE_UP_AFTER = 10  # failed images: then it is the network or the mirror, and trying the rest only takes longer
_PROGRESS = 1 << 20  # bytes; an attempt that brought as many of the archive does not count
_BLOCK = 1 << 16
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images{postfix}, {remaining} to go"

T = TypeVar("T")


class _Again(Exception):
    """A failure that may pass: worth another attempt."""


class _Unreachable(UserError):
    """The server cannot be reached at all: trying the next image would only take longer."""


def fetch_annotations(coco_root: Path) -> None:
    """Fetch COCO 2017's annotations into `coco_root`, unless they are there.

    The archive (241 MB) is kept; broken off, it goes on where it was. Its size and the CRC of what is taken from it are
    checked. Raises UserError when the annotations cannot be had.
    """
    missing = [name for name in MEMBERS if not (coco_root / name).is_file()]
    if not missing:
        return
    url = os.environ.get("COCO_ANNOTATIONS_URL") or ANNOTATIONS_URL
    archive = coco_root / "annotations" / (Path(urlsplit(url).path).name or "annotations.zip")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        if not archive.is_file():
            partial = archive.with_name(f"{archive.name}.part")
            with tqdm(desc=archive.name, unit="B", unit_scale=True) as bar:
                _fetch_archive(url, partial, bar)
            partial.replace(archive)
        _extract(archive, missing, coco_root)
    except OSError as error:
        raise UserError(f"cannot write the annotations to {coco_root}: {error.strerror or error}") from None


def fetch_images(images: list[tuple[str | None, Path]], workers: int) -> None:
    """Fetch (COCO url, path) pairs in parallel; each file is whole and verified, or not there. Those there stay.

    Raises UserError when some cannot be had; the others are kept, so that the next call fetches only the rest.
    """
    if unknown := [path for url, path in images if not url and not path.is_file()]:
        raise UserError(
            f"{len(unknown):,} of {len(images):,} images are not on disk and have no coco_url to fetch them from, "
            f"the first: {unknown[0]}"
        )
    todo = [(_mirrored(url), path) for url, path in images if url and not path.is_file()]
    failures: list[str] = []
    stop = threading.Event()
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(todo), desc="download", bar_format=_BAR, disable=not todo) as bar,
    ):
        jobs = [pool.submit(_fetch_image, url, path, stop) for url, path in todo]
        size = 0
        try:
            for job in as_completed(jobs):
                try:
                    size += job.result()
                    bar.set_postfix_str(f"{size / 1e6:.1f} MB", refresh=False)
                    bar.update()
                except UserError as error:
                    failures.append(str(error))
                    if isinstance(error, _Unreachable) or len(failures) == GIVE_UP_AFTER:
                        break
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    if failures:
        rest = sum(not path.is_file() for _, path in todo)
        raise UserError(
            f"{failures[0]}; {rest} of {len(images)} images are still missing; run the same command again to continue"
        )


def _mirrored(url: str) -> str:
    base = os.environ.get("COCO_URL_BASE")
    return base.rstrip("/") + urlsplit(url).path if base else url


def _fetch_image(url: str, path: Path, stop: threading.Event) -> int:
    """Fetch one image; return its size in bytes. Raises UserError."""

    def attempt() -> bytes:
        with _get(url) as response:
            data = b"".join(_blocks(response, stop))
        if fault := jpeg_damage(data):
            raise _Again(f"the {len(data)} bytes that came are an incomplete or another file: it {fault}")
        return data

    data = _retrying(url, attempt, stop)
    try:
        write_atomic(path, data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    return len(data)


def _fetch_archive(url: str, partial: Path, bar: tqdm) -> None:
    """Fetch `url` to `partial`, going on behind what is there of it."""

    def attempt() -> None:
        have = partial.stat().st_size if partial.exists() else 0
        with _get(url, have) as response:
            begin, total = _span(response, have)
            if begin != have:
                have = 0  # the server knows no ranges: from the start
            bar.total, bar.n = total, have
            with partial.open("r+b" if have else "wb") as file:
                file.seek(have)
                for block in _blocks(response):
                    file.write(block)
                    bar.update(len(block))
        size = partial.stat().st_size
        if total is not None and size > total:
            partial.unlink()  # another file than the one begun
        if total is not None and size != total:
            raise _Again(f"{size} bytes came instead of {total}")

    def gained() -> int:
        return partial.stat().st_size if partial.exists() else 0

    _retrying(url, attempt, gained=gained)
    if not zipfile.is_zipfile(partial):
        partial.unlink()
        raise UserError(f"{url} does not send a zip archive; set COCO_ANNOTATIONS_URL to another address")


def _span(response: requests.Response, have: int) -> tuple[int, int | None]:
    """Where in the file a response begins, and the file's size where the server tells."""
    if response.status_code == 416:  # nothing behind what we have: complete, or another file
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        return have, int(total) if total.isdigit() else 0
    if response.status_code == 206:
        place, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        begin = place.partition("-")[0]
        if begin != str(have):
            raise _Again(f"a range from {begin or 'nowhere'} came instead of one from {have}")
        return have, int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _extract(archive: Path, names: list[str], root: Path) -> None:
    """Take files out of the archive; each appears whole, its CRC checked by `zipfile`."""
    try:
        with zipfile.ZipFile(archive) as content:
            for name in names:
                with (
                    tempfile.TemporaryDirectory(dir=archive.parent, prefix=".extract-") as folder,
                    content.open(name) as source,
                ):
                    copy = Path(folder) / "copy"
                    with copy.open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                    copy.replace(root / name)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink()
        raise UserError(
            f"{archive} was damaged ({error}) and is removed; run the same command again to fetch it"
        ) from None
    except KeyError:
        raise UserError(f"{archive} holds no {name}; it should be COCO's annotations_trainval2017.zip") from None


def _get(url: str, begin: int = 0) -> requests.Response:
    """Send a request; raise UserError where the server's answer is final, _Again where it may change."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()  # keeps connections alive; not shared between threads
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    response = _local.session.get(url, headers=headers, stream=True, timeout=PATIENCE_SECONDS)
    if response.status_code in (200, 206) or (begin and response.status_code == 416):
        return response
    response.close()
    if response.status_code in (408, 425, 429) or response.status_code >= 500:
        raise _Again(f"the server answers {response.status_code} {response.reason}")
    raise UserError(f"cannot fetch {url}: the server answers {response.status_code} {response.reason}")


_local = threading.local()


def _blocks(response: requests.Response, stop: threading.Event | None = None) -> Iterator[bytes]:
    """The body of a response. Raises _Again when it is short or too slow, UserError when it must stop."""
    if response.status_code == 416:
        return
    begun, size = time.monotonic(), 0
    for block in response.iter_content(_BLOCK):
        size += len(block)
        seconds = time.monotonic() - begun
        if seconds > PATIENCE_SECONDS and size < SLOWEST * seconds:
            raise _Again(f"too slow: {size} bytes in {seconds:.0f} s")
        if stop and stop.is_set():
            raise UserError("stopped")
        yield block


def _retrying(
    url: str, attempt: Callable[[], T], stop: threading.Event | None = None, gained: Callable[[], int] = int
) -> T:
    """Call `attempt` until it returns, with exponential back-off and jitter; UserError when it fails for good."""
    failed, most = 0, gained()
    while True:
        kind = UserError
        try:
            return attempt()
        except _Again as error:
            fault = str(error)
        except requests.RequestException as error:
            if isinstance(error, ValueError):
                raise UserError(f"{url} is not an address: {error}") from None
            fault = _plain(error)
            kind = _Unreachable if isinstance(error, (requests.ConnectionError, requests.Timeout)) else UserError
        if gained() >= most + _PROGRESS:
            failed, most = 0, gained()
        failed += 1
        if failed == ATTEMPTS or (stop and stop.is_set()):
            raise kind(f"cannot fetch {url}: {fault} ({failed} attempts)")
        wait = BACKOFF_SECONDS * 2 ** (failed - 1) * random.uniform(0.5, 1.5)
        (stop or threading.Event()).wait(wait)


def _plain(error: requests.RequestException) -> str:
    """The kind of a network failure in words; the library's own texts are nested objects."""
    for kind, text in (
        (requests.Timeout, "no answer in time"),
        (requests.exceptions.ChunkedEncodingError, "the connection broke off"),
        (requests.ConnectionError, "no connection; check the network or the proxy"),
    ):
        if isinstance(error, kind):
            return text
    return type(error).__name__
