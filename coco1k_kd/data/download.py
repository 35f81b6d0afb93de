"""COCO from the network, but only what is needed: resumable, checked, and nothing corrupt is kept.

For mirrors: `COCO_ANNOTATIONS_URL` names another place of the annotation archive, `COCO_URL_BASE` takes the place of
scheme and host in the images' addresses. `COCO_ANNOTATIONS_SHA256` is for an archive that is not COCO's own: its hash,
or `any`.
"""

from __future__ import annotations

import os
import shutil
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from coco1k_kd.data.fetch import Again, Unreachable, blocks, get, retrying
from coco1k_kd.data.images import jpeg_damage
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, write_atomic

ANNOTATIONS_URL = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
# As ParlAI and other public projects have it; the archive itself cannot be had where this is written.
ANNOTATIONS_SHA256 = "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"
ANNOTATIONS_SIZE = 252_907_541  # bytes
MEMBERS = ("annotations/instances_train2017.json", "annotations/instances_val2017.json")
MOST_OF_AN_ARCHIVE = MOST_OF_A_MEMBER = 1 << 30  # bytes; COCO's largest member has 470 million
MOST_OF_AN_IMAGE = 1 << 25  # bytes; COCO's have up to one million
GIVE_UP_AFTER = 10  # failed images: then it is the network or the mirror, and trying the rest only takes longer
_ANY = "any"  # in place of a hash
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images{postfix}, {remaining} to go"


def fetch_annotations(coco_root: Path) -> None:
    """Fetch COCO 2017's annotations into `coco_root`, unless they are there.

    The archive (241 MB) is kept; broken off, it goes on where it was. Its size and SHA-256, and size and CRC of what is
    taken from it, are checked. Raises UserError when the annotations cannot be had.
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
            _check_hash(url, partial)
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
                    if isinstance(error, Unreachable) or len(failures) == GIVE_UP_AFTER:
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
        with get(url) as response:
            data = b"".join(blocks(response, MOST_OF_AN_IMAGE, stop))
        if fault := jpeg_damage(data):
            raise Again(f"the {len(data)} bytes that came are an incomplete or another file: it {fault}")
        return data

    data = retrying(url, attempt, stop)
    try:
        write_atomic(path, data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    return len(data)


def _fetch_archive(url: str, partial: Path, bar: tqdm) -> None:
    """Fetch `url` to `partial`, going on behind what is there of it."""
    most = MOST_OF_AN_ARCHIVE if _expected_hash() != ANNOTATIONS_SHA256 else ANNOTATIONS_SIZE

    def attempt() -> None:
        have = partial.stat().st_size if partial.exists() else 0
        with get(url, have) as response:
            begin, total = _span(response, have)
            if total is not None and total > most:
                raise UserError(f"cannot fetch {url}: it has {total:,} bytes, {most:,} at most are expected")
            if begin != have:
                have = 0  # the server knows no ranges: from the start
            bar.total, bar.n = total, have
            with partial.open("r+b" if have else "wb") as file:
                file.seek(have)
                for block in blocks(response, (most if total is None else total) - have):
                    file.write(block)
                    bar.update(len(block))
        size = partial.stat().st_size
        if total is not None and size > total:
            partial.unlink()  # another file than the one begun
        if total is not None and size != total:
            raise Again(f"{size} bytes came instead of {total}")

    def gained() -> int:
        return partial.stat().st_size if partial.exists() else 0

    retrying(url, attempt, gained=gained)
    if not zipfile.is_zipfile(partial):
        partial.unlink()
        raise UserError(f"{url} does not send a zip archive; set COCO_ANNOTATIONS_URL to another address")


def _span(response: requests.Response, have: int) -> tuple[int, int | None]:
    """Where in the file a response begins, and the file's size where the server tells."""
    if response.status_code == 416:  # nothing behind what we have: complete, or another file
        return have, _number(response.headers.get("Content-Range", "").rpartition("/")[2]) or 0
    if response.status_code == 206:
        place, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        begin = place.partition("-")[0]
        if begin != str(have):
            raise Again(f"a range from {begin or 'nowhere'} came instead of one from {have}")
        return have, _number(total)
    return 0, _number(response.headers.get("Content-Length", ""))


def _number(text: str) -> int | None:
    """A number of bytes as a server gives it; None for what is none."""
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _expected_hash() -> str:
    return os.environ.get("COCO_ANNOTATIONS_SHA256") or ANNOTATIONS_SHA256


def _check_hash(url: str, file: Path) -> None:
    """UserError, and the file is gone, if it is not the archive that is expected."""
    expected = _expected_hash().lower()
    if expected != _ANY and (found := sha256(file)) != expected:
        file.unlink()
        raise UserError(
            f"{url} is not the archive that is expected: its SHA-256 is {found}, not {expected}; if it is the one that "
            "you want, give its hash in COCO_ANNOTATIONS_SHA256"
        )


def _extract(archive: Path, names: list[str], root: Path) -> None:
    """Take files out of the archive; each appears whole, its CRC checked by `zipfile`."""
    try:
        with zipfile.ZipFile(archive) as content:
            for name in names:
                if (size := content.getinfo(name).file_size) > MOST_OF_A_MEMBER:
                    raise UserError(f"{archive}: {name} would have {size:,} bytes, which COCO's has not; remove it")
                part = (root / name).with_name(f".{Path(name).name}.part")  # one that a kill left is written over
                try:
                    with content.open(name) as source, part.open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                    part.replace(root / name)
                finally:
                    part.unlink(missing_ok=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:  # or encrypted
        archive.unlink()
        raise UserError(
            f"{archive} was damaged ({error}) and is removed; run the same command again to fetch it"
        ) from None
    except KeyError:
        raise UserError(f"{archive} holds no {name}; it should be COCO's annotations_trainval2017.zip") from None
