"""Whether a subset on disk is still what its manifest says, and still accepted for training."""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from coco1k_kd.data.accept import examine
from coco1k_kd.data.annotations import read
from coco1k_kd.data.dataset import Split
from coco1k_kd.data.images import image_fault
from coco1k_kd.data.leaks import leaks
from coco1k_kd.data.manifest import MANIFEST, Manifest, count, read_manifest
from coco1k_kd.data.subset import SPLITS, YAML, annotation_file, split_of, yaml_lines, yaml_text
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
                faults += _accepted(parts[-1])
            except UserError as error:
                faults.append(str(error))
    if len(parts) == len(SPLITS):
        train, val = parts
        faults += leaks(val.files, train.files)
    yaml, names = folder / YAML, list(manifest.val.images_per_class)
    if not yaml.is_file():
        faults.append(f"{YAML}: missing")
    elif yaml_lines(yaml.read_text("utf-8", "replace"), "source") != yaml_lines(yaml_text(folder, names)):
        faults.append(f"{YAML}: path, folders or names are not those of {folder} (has it been moved?)")
    return list(dict.fromkeys(fault.replace(f"{folder}/", "") for fault in faults))


def _recounted(folder: Path, split: str, manifest: Manifest) -> list[str]:
    """Compare the files and counts of a split with the manifest's."""
    part = manifest.split(split)
    faults = []
    for file, digest in part.files.items():
        path = folder / file
        if not path.is_file():
            faults.append(f"{file}: missing")
        elif sha256(path) != digest:
            faults.append(f"{file}: content differs from the manifest (SHA-256)")
    for kind, suffixes in (("images", PIL.Image.registered_extensions()), ("labels", {".txt"})):
        for path in sorted((folder / kind / f"{split}2017").rglob("*")):
            file = path.relative_to(folder).as_posix()
            if path.suffix.lower() in suffixes and file not in part.files:
                faults.append(f"{file}: not in the manifest")
    path = annotation_file(folder, split)
    try:
        counts = count(read(path), manifest.balance, part.supply_per_class)
    except UserError as error:
        return [*faults, str(error)]
    return faults + [
        f"{path}: {key} is not what the manifest says"
        for key in counts.__struct_fields__
        if key != "files" and getattr(counts, key) != getattr(part, key)
    ]


def _accepted(split: Split) -> list[str]:
    """The faults that the acceptance check finds, and images that cannot be decoded."""
    faults = examine(split, read(split.annotations).names, fixed=True).faults
    for entry in read(split.annotations).images():
        path = split.images / entry.name
        if path.is_file() and (fault := image_fault(path.read_bytes(), entry)):
            faults.append(f"{path} {fault}")
    return faults
