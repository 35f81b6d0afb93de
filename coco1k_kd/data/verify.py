"""Whether a subset on disk is still what its manifest says."""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from coco1k_kd.data.annotations import read
from coco1k_kd.data.manifest import MANIFEST, Manifest, count, read_manifest
from coco1k_kd.data.subset import SPLITS, YAML, Job, annotation_file, image_fault, labels, yaml_text
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256


def verify(folder: Path) -> list[str]:
    """Recount a subset against its manifest; return every fault, each in a line that names the file."""
    manifest = read_manifest(folder / MANIFEST)
    names, faults, digests = [], [], {}
    for split in SPLITS:
        found, names, hashes = _verify_split(folder, split, manifest)
        faults += found
        digests[split] = hashes
    faults += [
        f"{file}: the same image is in train" for digest, file in digests["val"].items() if digest in digests["train"]
    ]
    yaml = folder / YAML
    if not yaml.is_file():
        faults.append(f"{YAML}: missing")
    elif yaml.read_text(encoding="utf-8", errors="replace") != yaml_text(folder.resolve(), names):
        faults.append(f"{YAML}: path, folders or names are not those of {folder.resolve()} (has it been moved?)")
    return faults


def _verify_split(folder: Path, split: str, manifest: Manifest) -> tuple[list[str], list[str], dict[str, str]]:
    """Check one split: faults, class names, and its images' file names by SHA-256."""
    part = manifest.split(split)
    faults, digests = [], {}
    for file, digest in part.files.items():
        path = folder / file
        if not path.is_file():
            faults.append(f"{file}: missing")
            continue
        actual = sha256(path)
        if file.startswith("images/"):
            digests[actual] = file
        if actual != digest:
            faults.append(f"{file}: content differs from the manifest (SHA-256)")
    listed = set(part.files)
    for kind, suffixes in (("images", PIL.Image.registered_extensions()), ("labels", {".txt"})):
        for path in sorted((folder / kind / f"{split}2017").rglob("*")):
            file = path.relative_to(folder).as_posix()
            if path.suffix.lower() in suffixes and file not in listed:
                faults.append(f"{file}: not in the manifest")

    path = annotation_file(folder, split)
    try:
        annotations = read(path)
        counts = count(annotations, manifest.balance, part.supply_per_class)
    except UserError as error:
        return [*faults, str(error)], list(part.images_per_class), digests
    faults += [
        f"{path.relative_to(folder)}: {key} is not what the manifest says"
        for key in counts.__struct_fields__
        if key != "files" and getattr(counts, key) != getattr(part, key)
    ]
    if any(file.startswith("labels/") for file in listed):
        for entry, text in labels(annotations):
            job = Job(entry, split, folder / "images" / f"{split}2017" / entry.file_name, text)
            label = folder / job.label_file
            if label.is_file() and label.read_bytes() != text.encode():
                faults.append(f"{job.label_file}: boxes differ from the annotations")
            if job.source.is_file() and (fault := image_fault(job.source.read_bytes(), entry)):
                faults.append(f"{job.file}: {fault}")
            faults += [f"{file}: not in the manifest" for file in (job.file, job.label_file) if file not in listed]
    return faults, annotations.names, digests
