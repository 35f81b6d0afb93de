#!/usr/bin/env python3
"""What the identity of a study's files costs at its first start, at each further one, and as a run begins.

    python benchmarks/identity.py                     # 5,000 images of 160 kB, as COCO's are; docs/lab/identity.md

The first start reads all bytes. Later ones ask the file system for size, time of change and inode.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco1k_kd.data.dataset import Split
from coco1k_kd.data.identity import CACHE, check_unchanged, files_of_split, hashes
from coco1k_kd.files import write_json


def made(root: Path, images: int, size: int) -> Split:
    """A split of files of random bytes, with a label file each."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    names = tuple(f"{number:012}.jpg" for number in range(images))
    for name in names:
        (root / "images" / name).write_bytes(os.urandom(size))
        (root / "labels" / name).with_suffix(".txt").write_text(f"0 0.5 0.5 0.1 {name}\n")
    (root / "annotations.json").write_bytes(os.urandom(20_000_000))
    return Split(SimpleNamespace(path=root / "annotations.json"), root / "images", names)


@contextlib.contextmanager
def timed(what: str, found: dict[str, float]) -> Iterator[None]:
    """Note seconds of the clock, and of the processor, which other programs' load does not lengthen."""
    began, worked = time.perf_counter(), time.process_time()
    yield
    found[f"{what}_seconds"] = round(time.perf_counter() - began, 3)
    found[f"{what}_cpu_seconds"] = round(time.process_time() - worked, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--bytes", type=int, default=160_000, help="of an image")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, project = Path(folder).resolve() / "data", Path(folder).resolve() / "project"
        split = made(root, args.images, args.bytes)
        project.mkdir()
        found = {"images": args.images}
        for start in ("first_start", "second_start"):
            with timed(start, found):
                listed = hashes(files_of_split(split, project), project)
        write_json(project / "files_x.json", {"draw 0": listed})
        with timed("run_begins", found):
            check_unchanged(project / "files_x.json")
        found["cache_bytes"] = (project / CACHE).stat().st_size
        print(json.dumps(found))


if __name__ == "__main__":
    main()
