"""Whether a subset on disk is still what its manifest says, and still accepted for training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import PIL.Image

from coco1k_kd.data.accept import examine
from coco1k_kd.data.annotations import read
from coco1k_kd.data.dataset import Split
from coco1k_kd.data.images import image_fault
from coco1k_kd.data.leaks import leaks, twins
from coco1k_kd.data.manifest import MANIFEST, POOL, SPLITS, YAML, Manifest, PoolManifest, count, read_manifest
from coco1k_kd.data.subset import annotation_file, split_of, yaml_lines, yaml_text
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256


def verify(folder: Path) -> list[str]:
    """Recount a subset against its manifest and check it as a study would; return every fault, each in a line."""
    manifest = read_manifest(folder / MANIFEST)
    folder = folder.resolve()
    faults: list[str] = []
    parts: list[Split] = []
    for name in SPLITS:
        faults += _recounted(folder, name, manifest)
        if any(file.startswith("labels/") for file in manifest.split(name).files):
            try:
                parts.append(split_of(folder, name, list(manifest.split(name).images_per_class)))
                faults += [*examine(parts[-1], fixed=True).faults, *_undecoded(parts[-1])]
            except UserError as error:
                faults.append(str(error))
    if len(parts) == len(SPLITS):
        train, val = parts
        faults += leaks(val.files, train.files)
    if manifest.pool:
        faults += _pool(folder, manifest.pool, [file for part in parts for file in part.files])
    yaml, names = folder / YAML, list(manifest.val.images_per_class)
    if not yaml.is_file():
        faults.append(f"{YAML}: missing")
    elif yaml_lines(yaml.read_text("utf-8", "replace"), "source") != yaml_lines(yaml_text(folder, names)):
        faults.append(f"{YAML}: path, folders or names are not those of {folder} (has it been moved?)")
    return list(dict.fromkeys(fault.replace(f"{folder}/", "") for fault in faults))


def _recounted(folder: Path, split: str, manifest: Manifest) -> list[str]:
    """Compare the files and counts of a split with the manifest's."""
    part, path = manifest.split(split), annotation_file(folder, split)
    faults = _files(folder, split, part.files)
    try:
        counts = count(read(path), manifest.balance, part.supply_per_class)
    except UserError as error:
        return [*faults, str(error)]
    return faults + [
        f"{path}: {key} is not what the manifest says"
        for key in counts.__struct_fields__
        if key != "files" and getattr(counts, key) != getattr(part, key)
    ]


def _pool(folder: Path, pool: PoolManifest, others: list[Path]) -> list[str]:
    """Compare a pool with the manifest, and its images with those of the splits."""
    faults, path = _files(folder, POOL, pool.files), annotation_file(folder, POOL)
    try:
        images = Split.of(read(path), folder / "images" / f"{POOL}2017")
    except UserError as error:
        return [*faults, str(error)]
    if images.content.image_ids.tolist() != pool.image_ids:
        faults.append(f"{path}: image_ids is not what the manifest says")
    faults += _undecoded(images)
    return faults + [f"{file}: the same image as {twin}" for file, twin in twins(images.files, others).items()]


def _files(folder: Path, split: str, files: Mapping[str, str]) -> list[str]:
    """Compare the files of a split with their SHA-256, and name images and labels that are not among them."""
    faults = []
    for file, digest in files.items():
        path = folder / file
        if not path.is_file():
            faults.append(f"{file}: missing")
        elif sha256(path) != digest:
            faults.append(f"{file}: content differs from the manifest (SHA-256)")
    for kind, suffixes in (("images", PIL.Image.registered_extensions()), ("labels", {".txt"})):
        for path in sorted((folder / kind / f"{split}2017").rglob("*")):
            file = path.relative_to(folder).as_posix()
            if path.suffix.lower() in suffixes and file not in files:
                faults.append(f"{file}: not in the manifest")
    return faults


def _undecoded(split: Split) -> list[str]:
    """Images that are there and cannot be decoded."""
    entries = ((split.images / entry.name, entry) for entry in split.content.images())
    found = ((path, image_fault(path.read_bytes(), entry)) for path, entry in entries if path.is_file())
    return [f"{path} {fault}" for path, fault in found if fault]
