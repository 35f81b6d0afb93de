"""The files of a folder that a command made: what is not its own, or was changed since, is never written over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from coco1k_kd.data.images import may_have_trailer, without_trailer
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, write_atomic, write_json

RECORD = "made.json"


class Made:
    """Files, and links to images, of an output folder. `made.json` has the SHA-256 of every file, written before it is.

    Args:
        output: the folder.
        files: paths within it that may be written, beside those in `labels` and `images`.

    UserError if one of them, or anything in these folders, was not made by an earlier call, or was changed since.
    """

    def __init__(self, output: Path, files: tuple[str, ...]) -> None:
        self.output, self.record = output, output / RECORD
        try:
            self.known: dict[str, list[str]] = dict(json.loads(self.record.read_bytes()))
        except FileNotFoundError:
            self.known = {}
        except (ValueError, TypeError):
            raise UserError(f"{self.record} is damaged: give another --output") from None
        labels, images = ((output / folder).rglob("*") for folder in ("labels", "images"))
        own = [file for file in labels if file.suffix == ".txt"]
        own += [file for file in images if file.is_file() and not file.is_symlink()]
        for file in sorted([*own, *(output / name for name in files)]):
            name = file.relative_to(output).as_posix()
            if file.exists() and (file.is_dir() or sha256(file) not in self.known.get(name, ())):
                raise UserError(f"{file} was not made by this command, or was changed since: give another --output")

    def write(self, texts: Mapping[str, bytes], links: Mapping[str, Path]) -> None:
        """Write files by their path within the folder, and `images` by theirs within that.

        Images are links, but for a JPEG with bytes after its end marker: Ultralytics would write the original anew, so
        that it is a copy without them. Labels and images of earlier calls that are not among these are removed.
        """
        copies = {f"images/{link}": without_trailer(file.read_bytes()) for link, file in _cut(links).items()}
        contents = {**texts, **copies}
        new = {name: [hashlib.sha256(content).hexdigest()] for name, content in contents.items()}
        both = {name: sorted({*self.known.get(name, ()), *new.get(name, ())}) for name in self.known | new}
        write_json(self.record, both)
        gone = {name for name in self.known.keys() - new.keys() if name.startswith(("labels/", "images/"))}
        for name in gone:
            (self.output / name).unlink(missing_ok=True)
        for link in (self.output / "images").rglob("*"):
            if link.is_symlink():
                link.unlink()
        for name, content in contents.items():
            write_atomic(self.output / name, content)
        for link, file in links.items():
            place = self.output / "images" / link
            place.parent.mkdir(parents=True, exist_ok=True)
            if f"images/{link}" not in copies:
                place.symlink_to(file)
        left = {name: digests for name, digests in self.known.items() if name not in new and name not in gone}
        self.known = {**left, **new}
        write_json(self.record, self.known)


def _cut(links: Mapping[str, Path]) -> dict[str, Path]:
    """Those that have bytes after their end marker."""
    return {link: file for link, file in links.items() if may_have_trailer(file)}
