"""Subsets of the generated COCO root, and what of them is looked at or spoilt."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import create_coco1k

SMALL = ("--target-size", "40", "--val-size", "20", "--workers", "2")


def make(root: Path, output: Path, *flags: str) -> Path:
    """Run create_coco1k.py's own code in this process."""
    command = ["--coco-root", str(root), "--output-dir", str(output), *SMALL, *flags]
    create_coco1k.create(create_coco1k.parser().parse_args(command))
    return output


def content(folder: Path) -> dict[str, str]:
    """Digest of every file, links not followed."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def first(folder: Path) -> str:
    return min(path.name for path in folder.iterdir())


def annotations(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}2017.json"


def label(folder: Path, stem: str) -> Path:
    return folder / f"labels/val2017/{stem}.txt"


def image(folder: Path, stem: str) -> Path:
    return folder / f"images/val2017/{stem}.jpg"


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.unlink()  # it may be a hard link: the source must stay whole
    path.write_bytes(data[: min(int(len(data) * share), len(data) - 1)])
