"""The subset on disk: images, labels, annotations, YAML and manifest, all of it or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from coco1k_kd.data.accept import accept
from coco1k_kd.data.annotations import Annotations, parse
from coco1k_kd.data.dataset import Data, Split, read_split
from coco1k_kd.data.manifest import (
    MANIFEST,
    POOL,
    SCHEMA_VERSION,
    YAML,
    Manifest,
    PoolManifest,
    SourceFile,
    SplitManifest,
    count,
    own_files,
    read_manifest,
)
from coco1k_kd.data.outside import DrawnPool
from coco1k_kd.data.placing import Job, Placed, jobs, labels, place_images
from coco1k_kd.data.replacing import building, put
from coco1k_kd.data.sampling import ALGORITHM_VERSION, Pool
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256 as hash_file
from coco1k_kd.files import write_json


def annotation_file(root: Path, split: str) -> Path:
    """Where COCO's layout, and the subset's, has the annotations of a split."""
    return root / "annotations" / f"instances_{split}2017.json"


@dataclass(frozen=True)
class Drawn:
    """What was drawn from one split: its annotation file, its counts, and where it came from."""

    split: str
    annotations: Annotations
    counts: SplitManifest
    source: SourceFile


def listed(source: Annotations, manifest: Manifest, split: str) -> np.ndarray:
    """Image ids of a manifest's split. Raise UserError when it was made from other annotations."""
    expected, image_ids = manifest.source[split].sha256, np.array(manifest.split(split).image_ids, np.int64)
    if source.sha256 != expected:
        raise UserError(f"{source.path} is not the file the manifest was made from (SHA-256 {expected[:12]}...)")
    if len(strange := np.setdiff1d(image_ids, source.image_ids)):
        raise UserError(f"the manifest names {split} image {strange[0]}, which {source.path} does not have")
    if unusable := [fault for image_id, fault in source.unusable.items() if image_id in set(image_ids.tolist())]:
        raise UserError(f"{source.path}: {unusable[0]}")
    return image_ids


def take(source: Annotations, pool: Pool, split: str, image_ids: np.ndarray, balance: str) -> Drawn:
    """Extract the chosen images from a source split, of which `pool` is what can be drawn."""
    chosen = parse(source.extract(image_ids), source.path)
    supply = dict(zip(pool.names, pool.supply.tolist(), strict=True))
    return Drawn(
        split=split,
        annotations=chosen,
        counts=count(chosen, balance, supply),
        source=SourceFile(source.path.name, len(source.raw), source.sha256),
    )


def yaml_text(path: Path, names: list[str], source: Path | None = None) -> str:
    """Ultralytics' data file. `path` is absolute, so that it works from any folder; JSON strings are YAML strings.

    `source`: what the subset was drawn from, for a study that wants more images of it.
    """
    head = [
        f"path: {json.dumps(str(path), ensure_ascii=False)}",
        *([f"source: {json.dumps(str(source), ensure_ascii=False)}"] if source else []),
        "train: images/train2017",
        "val: images/val2017",
        "names:",
    ]
    return "\n".join(head + [f"  {i}: {json.dumps(name, ensure_ascii=False)}" for i, name in enumerate(names)]) + "\n"


def split_jobs(drawn: Drawn, images: Path) -> list[Job]:
    """The images of a split, from the folder of its source, with their labels. UserError as `placing.jobs`."""
    return jobs(labels(drawn.annotations), drawn.split, images, drawn.annotations.path)


@dataclass(frozen=True)
class Order:
    """How a subset is to be written. `manifest`: of the subset that this one repeats, if any. `source`: drawn from."""

    output: Path
    link: str
    workers: int
    force: bool
    seed: int
    balance: str
    manifest: Manifest | None = None
    source: Path | None = None


@dataclass(frozen=True)
class Written:
    """What there is to say of a subset that was written."""

    images: list[Placed]
    warnings: list[str]


def write(order: Order, drawn: list[Drawn], work: list[Job], pool: DrawnPool | None = None) -> Written:
    """Write the subset, whole or not at all, and with it a pool of further images, if one was drawn.

    `work`, of both, is empty for a subset without images. Raise UserError when the disk is too small, an image is
    damaged, the acceptance check fails, or a file is not what the repeated manifest says.
    """
    if drawn[0].annotations.names != drawn[1].annotations.names:  # their ids may differ: only the order counts
        raise UserError(f"{drawn[0].source.file} and {drawn[1].source.file} have different categories")
    with building(order.output) as folder:
        old = replaceable(order.output, order.force)
        contents = {part.split: part.annotations.raw for part in drawn} | ({POOL: pool.content} if pool else {})
        _check_space(folder, contents, work, order.link)
        placed: list[Placed] = []
        files: dict[str, dict[str, str]] = {}
        for split, content in contents.items():
            target = annotation_file(folder, split)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
            files[split] = {target.relative_to(folder).as_posix(): sha256(content).hexdigest()}
            if work:
                (folder / f"{split}2017").symlink_to(f"images/{split}2017")
        for job, image in place_images(folder, work, order.link, order.workers):
            files[job.split][job.file] = image.sha256
            if job.label is not None:
                label = job.label.encode()
                (folder / job.label_file).write_bytes(label)
                files[job.split][job.label_file] = sha256(label).hexdigest()
            placed.append(image)
        for part in drawn:
            part.counts.files = dict(sorted(files[part.split].items()))
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            seed=order.seed,
            balance=order.balance,
            algorithm_version=order.manifest.algorithm_version if order.manifest else ALGORITHM_VERSION,
            source={part.split: part.source for part in drawn},
            **{part.split: part.counts for part in drawn},
            **({POOL: PoolManifest(pool.image_ids, dict(sorted(files[POOL].items())))} if pool else {}),
        )
        if order.manifest:
            _check_same(manifest.files, order.manifest.files)
        text = yaml_text(order.output, drawn[0].annotations.names, order.source)
        (folder / YAML).write_text(text, encoding="utf-8")
        warnings = _accepted(folder, order.output, drawn, work) if work else []
        write_json(folder / MANIFEST, msgspec.to_builtins(manifest))
        put(folder, order.output, old)
    return Written(placed, warnings)


def _accepted(folder: Path, output: Path, drawn: list[Drawn], work: list[Job]) -> list[str]:
    """Check the subset that lies in `folder` and is to be `output`; return warnings. A refusal names the sources."""
    classes = drawn[0].annotations.names
    data = Data(folder / YAML, folder, tuple(classes), *(split_of(folder, part.split, classes) for part in drawn))
    try:
        warnings = accept(data)
    except UserError as error:
        text = str(error)
        for job in work:
            text = text.replace(f"{folder / job.file}", str(job.source))
        raise UserError(text.replace(str(folder), str(output))) from None
    for cache in folder.rglob("*.cache"):  # Ultralytics' label caches hold the paths in this folder
        cache.unlink()
    return [warning.replace(str(folder), str(output)) for warning in warnings]


def split_of(folder: Path, split: str, classes: Sequence[str]) -> Split:
    """A split of the subset in `folder`. Raise UserError when its annotations cannot be read."""
    return read_split(annotation_file(folder, split), folder / "images" / f"{split}2017", classes)


def _check_same(files: dict[str, str], expected: dict[str, str]) -> None:
    if changed := [file for file, digest in files.items() if expected.get(file, digest) != digest]:
        raise UserError(f"{len(changed)} files are not what the manifest says, the first: {changed[0]}")


def replaceable(output: Path, force: bool) -> set[str]:
    """Return the files of an earlier subset at `output` that may be replaced (none where there is nothing yet).

    Raise UserError when something is there and `force` is not set, or is there and was not made by this tool, or was
    changed since.
    """
    if not output.exists():
        return set()
    if not force:
        raise UserError(f"{output} exists; --force replaces a subset, or choose another --output-dir")
    if not (output / MANIFEST).is_file():
        raise UserError(f"{output} was not made by this tool, so --force leaves it; choose another --output-dir")
    manifest = read_manifest(output / MANIFEST)
    changed = [f for f, digest in manifest.files.items() if (output / f).is_file() and hash_file(output / f) != digest]
    expected = yaml_lines(yaml_text(output, list(manifest.train.images_per_class)), "path", "source")
    if (output / YAML).is_file():
        text = (output / YAML).read_text(encoding="utf-8", errors="replace")
        changed += [YAML] * (yaml_lines(text, "path", "source") != expected)
    if changed:
        raise UserError(
            f"{output / changed[0]} was changed since the subset was written, so --force leaves all as it is; "
            "move it away or choose another --output-dir"
        )
    return own_files(output)


def yaml_lines(yaml: str, *but: str) -> list[str]:
    """The lines of the YAML without those of keys that depend on the machine."""
    return [line for line in yaml.splitlines() if line.partition(":")[0] not in but]


def _check_space(folder: Path, contents: dict[str, bytes], work: list[Job], link: str) -> None:
    free = shutil.disk_usage(folder).free
    need = sum(map(len, contents.values())) + 4096 * len(work)
    if link != "symlink":
        disk = folder.stat().st_dev if link == "hard" else None
        need += sum(state.st_size for job in work if (state := job.source.stat()).st_dev != disk)
    if need > free:
        raise UserError(f"the subset needs {need / 1e6:.0f} MB but {folder.parent} has {free / 1e6:.0f} MB free")
