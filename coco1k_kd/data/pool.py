"""Images without labels: what a folder or a list holds, each content once, under names that share no label file.

`read_pool` takes all of them; `accept_pool` only what no split of a study holds, in these bytes or as a changed copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from coco1k_kd.data.alike import alike, miniatures
from coco1k_kd.data.arrays import arrays_fault
from coco1k_kd.data.entries import SUFFIXES
from coco1k_kd.data.images import Seen, see
from coco1k_kd.data.labels import label_file
from coco1k_kd.data.leaks import twins
from coco1k_kd.errors import UserError, count, visible
from coco1k_kd.files import on_each, sha256

_PATIENCE = 3  # seconds before a progress bar is shown
_NAMED = 5  # images of a kind that are named


@dataclass(frozen=True)
class PoolImage:
    """An image to label.

    Attributes:
        file: where it lies, absolute.
        name: its path relative to the folder of all images, with /.
        link: the same, changed where two images would share a label file, or where a folder is called `images`.
        sha256: of the file's content.
        width, height: pixels after its EXIF orientation.
    """

    file: Path
    name: str
    link: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class Pool:
    """Images to label, below `root`, and what was left out.

    Attributes:
        images: what is left, by name.
        unreadable: with the reason.
        copies: of the same content as another image of the pool, with that one.
        like: that look like an image of a split, with that one and the name of the split.
        labelled: number of images beside which labels lie, which nobody reads.
    """

    root: Path
    images: tuple[PoolImage, ...]
    unreadable: Mapping[Path, str]
    copies: Mapping[Path, Path]
    labelled: int
    like: Mapping[Path, tuple[Path, str]] = field(default_factory=dict)

    def notes(self, undecoded: Mapping[Path, str] | None = None) -> list[str]:
        """What was left out, in lines; `undecoded`: what turned out to be unreadable later, with the reason."""
        bad = {**self.unreadable, **(undecoded or {})}
        lines = _some([f"{file} is left out: {fault}" for file, fault in bad.items()], "which cannot be read")
        lines += _some(
            [f"{file} is left out: it looks like {other} of {split}" for file, (other, split) in self.like.items()],
            "which look like images of the splits",
        )
        if self.copies:
            lines.append(f"{count(len(self.copies), 'image')} left out: the same content as another")
        if self.labelled:
            lines.append(f"{count(self.labelled, 'image')} with labels beside, which are ignored")
        return [visible(line) for line in lines]


def accept_pool(
    place: Path, kept_out: Mapping[str, Sequence[Path]], without: Path | None = None, flag: str = "--unlabelled"
) -> Pool:
    """The images of a folder or list that a study may add to its training.

    Args:
        place: a folder, or a text file that lists images.
        kept_out: the images of each split of the study, and of what judges, by its name.
        without: a folder that is passed over, since results are written there.
        flag: what the user gave `place` with.

    Returns:
        The pool without images that look like one of `kept_out`, which `Pool.notes` names.

    Raises:
        UserError: an image is of the same bytes as one of `kept_out`, `.npy` files lie beside images, or none is left.
    """
    pool = read_pool(place, without, flag)
    files = [image.file for image in pool.images]
    if arrays := arrays_fault(files):
        raise UserError(f"{flag} {place}: {arrays}")
    for split, others in kept_out.items():
        if same := twins(files, others):
            first, twin = next(iter(same.items()))
            raise UserError(
                f"{flag} {place}: {count(len(same), 'image')} also in {split} (the first: {first}, the same as {twin})"
                "; remove them from the unlabelled images"
            )
    accepted = unlike(pool, kept_out)
    if not accepted.images:
        raise UserError(f"{flag} {place}: no image is left: {'; '.join(accepted.notes())}")
    return accepted


def unlike(pool: Pool, kept_out: Mapping[str, Sequence[Path]]) -> Pool:
    """The pool without images that look like one of a split, which its `like` has; `kept_out` as of `accept_pool`."""
    like = lookalikes([image.file for image in pool.images], kept_out)
    return replace(pool, images=tuple(image for image in pool.images if image.file not in like), like=like)


def lookalikes(files: Sequence[Path], kept_out: Mapping[str, Sequence[Path]]) -> dict[Path, tuple[Path, str]]:
    """Those of `files` that look like an image of a split, with that image and the split's name."""
    owners = [(file, split) for split, others in kept_out.items() for file in others]
    found = alike(miniatures(files), miniatures([file for file, _ in owners]))
    return {files[number]: owners[other] for number, other in found.items()}


def readable(files: Iterable[Path]) -> list[PoolImage]:
    """Labelled images as those of a pool, by their file names; what is not there or cannot be read is left out."""
    read = {file: found for file in files if not isinstance(found := _read(file), str)}
    return [PoolImage(f, f.name, f.name, sha, seen.width, seen.height) for f, (seen, sha) in read.items()]


def read_pool(place: Path, without: Path | None = None, flag: str = "--images") -> Pool:
    """The images of a folder and its sub-folders, or of a text file that lists them. UserError if there are none.

    `without`: a folder that is passed over, since results are written there. `flag`: what the user gave `place` with.
    """
    files = _listed(place, without, flag)
    if not files:
        raise UserError(
            f"{flag} {place}: it holds no image; Ultralytics reads the suffixes {', '.join(sorted(SUFFIXES))}"
        )
    root = place.absolute() if place.is_dir() else Path(os.path.commonpath([file.parent for file in files]))
    reading = tqdm(on_each(_read, files), "read", len(files), unit="image", delay=_PATIENCE)
    seen = dict(zip(files, reading, strict=True))
    unreadable = {file: found for file, found in seen.items() if isinstance(found, str)}
    first: dict[str, Path] = {}
    read = {file: found for file, found in seen.items() if not isinstance(found, str)}
    copies = {file: one for file, (_, digest) in read.items() if (one := first.setdefault(digest, file)) != file}
    kept = [file for file in read if file not in copies]
    names = [file.relative_to(root).as_posix() for file in kept]
    images = tuple(
        PoolImage(file, name, link, read[file][1], read[file][0].width, read[file][0].height)
        for file, name, link in zip(kept, names, _links(names), strict=True)
    )
    return Pool(root, images, unreadable, copies, sum(map(_has_labels, files)))


def _read(file: Path) -> tuple[Seen, str] | str:
    """An image as it is seen, and its SHA-256; or what is wrong with it."""
    if not _is_file(file):
        return "it is no file, or a link to none"
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return "its name is not in UTF-8; rename it"
    seen = see(file)
    return seen if isinstance(seen, str) else (seen, sha256(file))


def _listed(place: Path, without: Path | None, flag: str) -> list[Path]:
    if place.is_dir():
        found = sorted(file for file in _below(place.absolute()) if _is_image(file))
        passed = without.resolve() if without else None
        if not passed or passed in place.resolve().parents:  # all of them lie there, and are asked for nonetheless
            return found
        return [file for file in found if not file.parent.resolve().is_relative_to(passed)]
    if not place.is_file():
        raise UserError(f"{flag} {place}: there is no such folder or file")
    if _is_image(place):
        return [place.absolute()]
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{flag} {place}: give a folder, an image, or a text file in UTF-8 that lists images") from None
    files = [(place.absolute().parent / line.strip()) for line in lines if line.strip()]
    if missing := [file for file in files if not _is_file(file)]:
        name = f"{missing[0]!s:.200}"
        raise UserError(f"{flag} {place}: {name} is not there, the first of {len(missing):,}; correct the list")
    if other := [file for file in files if not _is_image(file)]:
        raise UserError(f"{flag} {place}: {other[0]} does not have the suffix of an image; correct the list")
    return sorted({Path(os.path.normpath(file)) for file in files})


def _below(place: Path) -> Iterator[Path]:
    """All that is no folder below a folder; a folder that several links lead to is looked at once."""
    known: set[str] = set()
    for folder, inner, names in os.walk(place, followlinks=True):
        if (real := os.path.realpath(folder)) in known:
            inner.clear()
            continue
        known.add(real)
        inner.sort()
        yield from (Path(folder, name) for name in names)


def _is_file(path: Path) -> bool:
    with suppress(OSError):  # a name that is too long
        return path.is_file()
    return False


def _is_image(file: Path) -> bool:
    return file.suffix[1:].lower() in SUFFIXES


def _has_labels(file: Path) -> bool:
    beside = (file.with_suffix(suffix) for suffix in (".txt", ".xml", ".json"))
    return any(path.is_file() for path in (Path(label_file(file.as_posix())), *beside))


def _links(names: Iterable[str]) -> list[str]:
    """Names below a folder `images` by which Ultralytics finds one label file each, all in the folder `labels`."""
    found, taken = [], set()
    for name in names:
        path = PurePosixPath(name)
        parts = ["_images" if part == "images" else part for part in path.parts[:-1]]
        stem = path.stem
        while (label := (*parts, stem)) in taken:
            stem += "_" + path.suffix[1:]
        taken.add(label)
        found.append(str(PurePosixPath(*parts, stem + path.suffix)))
    return found


def _some(lines: list[str], what: str) -> list[str]:
    """The first of some lines, and how many more there are."""
    more = len(lines) - _NAMED
    return lines[:_NAMED] + [f"{count(more, 'more image')} left out, {what}"] * (more > 0)
