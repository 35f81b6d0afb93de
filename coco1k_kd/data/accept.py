"""The faults of data: what is trained on is what is annotated, and what is judged by was not trained on.

`create_coco1k.py`, its `--verify` and the study all ask here, so that what one accepts, all accept. Labels are compared
as Ultralytics' own dataset reads them, images by the size that they have after their EXIF orientation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coco1k_kd.data.annotations import Annotations
from coco1k_kd.data.arrays import arrays_fault
from coco1k_kd.data.caches import check_cache
from coco1k_kd.data.columns import Outlines
from coco1k_kd.data.dataset import Data, Split, known_as
from coco1k_kd.data.images import brightest, see, size_fault
from coco1k_kd.data.labels import label_clashes, label_file, left_out
from coco1k_kd.data.leaks import CHOOSES, copies, leak, leaks
from coco1k_kd.data.listing import images_found
from coco1k_kd.data.quiet import quiet
from coco1k_kd.data.yamls import read_yaml
from coco1k_kd.errors import UserError, count
from coco1k_kd.files import on_each

TOLERANCE = 5e-4  # of the image: how far a label may be from its annotation; a third of a pixel at 640
_MANY_CROWDS = 0.1  # of the annotations; COCO has 0.01
_LOOKED_AT = 50  # images of more than 8 bits
_LEFT_OUT = 0.01  # of a split: so many unreadable images are named and left out, more are refused


@dataclass
class Findings:
    """What forbids a study of some data, and what is worth knowing of them, each in a line.

    `outlines`: some of the labels are polygons, around which Ultralytics draws the boxes.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outlines: bool = False

    def add(self, other: Findings) -> None:
        """Take over what was found elsewhere."""
        self.faults += other.faults
        self.warnings += other.warnings
        self.outlines |= other.outlines


def as_read(
    name: str, split: Split, *, left_out: Sequence[str], unlabelled: int, boxes: int, outlined: Outlines
) -> Findings:
    """What is to be said of a split of a data YAML once Ultralytics has read it.

    Args:
        name: of the split.
        split: what it keeps.
        left_out: what it says of each image that it leaves out.
        unlabelled: images without a label file.
        boxes: number of them, with those without width or height.
        outlined: rows of labels that it reads as polygons; their files' own, since it forgets them where other files
            hold boxes.
    """
    listed, judged = split.size + len(left_out), len(split.content.ids)
    faults, notes = [], []
    if len(left_out) > _LEFT_OUT * listed:
        faults.append(f"Ultralytics leaves out {len(left_out):,} of {listed:,} images, the first: {left_out[0]}")
    elif left_out:
        notes.append(f"Ultralytics leaves out {count(len(left_out), 'image')}, the first: {left_out[0]}")
    if not judged:
        first = split.files[0]
        places = f"{first} has its labels in {_label_file(first)}"
        faults.append(f"none of the {split.size:,} images has a box; {places}")
    faults += label_clashes(split.names)
    if unlabelled:
        notes.append(f"{count(unlabelled, 'image')} without a label file, taken for background")
    if outlined.keypoints:
        faults.append(
            f"all {outlined.rows:,} rows of more than 6 columns look like class, box and keypoints, and Ultralytics "
            f"would take them for polygons (the first: {outlined.keypoints}); give kpt_shape in the YAML, or cut the "
            "columns behind the box"
        )
    elif outlined.rows:
        notes.append(
            f"{outlined.rows:,} of {count(boxes, 'box', 'boxes')} are drawn around outlines: rows of more than 5 "
            "columns are taken for class and polygon; where they are class, box and keypoints, give kpt_shape in the "
            "YAML"
        )
    if empty := boxes - judged:
        notes.append(f"{count(empty, 'box', 'boxes')} without width or height, not judged")
    faults, notes = ([f"{name}: {line}" for line in lines] for lines in (faults, notes))
    return Findings(faults, notes, outlined.rows > 0)


def known_leaks(name: str, split: Split, twins: Mapping[Path, Path], used: str) -> list[str]:
    """The fault of images that judge and have `twins`, which were found before; `used`: what is done by these."""
    same = [leak(file, twins[file], used) for file in split.files if file in twins]
    return [f"{name}, {len(same):,} of {split.size:,} images: {same[0]}"] if same else []


def refuse(where: Path, faults: Sequence[str]) -> None:
    """UserError with the first fault of the data in `where`, if there is one, and how many more there are."""
    if faults:
        more = f" (and {count(len(faults) - 1, 'fault')} more)" if faults[1:] else ""
        raise UserError(f"{where}: {faults[0]}{more}")


def boxes_alone(data: Data, outlines: bool = False) -> list[str]:
    """What of labels for other tasks than detection a study leaves aside, in a line; empty where there is nothing.

    `outlines`: such were read from label files.
    """
    found = [split.content.beyond_boxes() for split in data.splits.values()]
    outlines |= any(outline for outline, _ in found)
    keypoints = any(points for _, points in found) or "kpt_shape" in read_yaml(data.yaml)
    more = ["outlines (segmentation, oriented boxes)"] * outlines + ["keypoints (pose)"] * keypoints
    told = "a study is of detectors: it trains and judges the upright boxes, and none of the"
    return [f"{told} {' and '.join(more)}"] if more else []


def accept(data: Data) -> list[str]:
    """Check a study's data before anything is trained.

    Ultralytics' label caches are there from then on: runs that start at once would each write them.

    Returns:
        Warnings, each in a line.

    Raises:
        UserError: the first fault, and how many there are.
    """
    fixed, keypoints = data.manifest.exists(), read_yaml(data.yaml).get("kpt_shape")
    judging = [split for name, split in data.splits.items() if name != "train"]
    faults = [fault for split in judging for fault in leaks(split.files, data.train.files)]
    faults += leaks(data.test.files, data.val.files, CHOOSES) if data.test else []
    _raise_first(faults)  # before Ultralytics, which reads the labels, can rewrite a file
    found = [examine(split, fixed=fixed, keypoints=keypoints) for split in data.splits.values()]
    _raise_first([fault for findings in found for fault in findings.faults])
    return [warning for findings in found for warning in findings.warnings]


def judge_faults(judge: Split, drawn: Sequence[Data]) -> list[str]:
    """Why a study of some data cannot be judged by further images, which need no labels; each in a line."""
    faults = examine(judge, labels=False).faults
    if judge.content.lack:
        faults.append(f"{judge.annotations}: the validation images hold no boxes: nothing to compare")
    return faults + [fault for data in drawn for fault in leaks(judge.files, data.train.files)]


def examine(split: Split, labels: bool = True, fixed: bool = False, keypoints: Sequence[int] | None = None) -> Findings:
    """Compare a split's images with its annotations, and its labels with both as Ultralytics reads them.

    Args:
        split: its annotations, images and names.
        labels: False for a judge, which needs none.
        fixed: no file may change, since a manifest has the hashes; Ultralytics would rewrite JPEGs with a trailer.
        keypoints: `kpt_shape` of the data YAML, where the labels hold keypoints behind the box.
    """
    annotations = split.content
    findings = Findings(faults=[f"{split.annotations}: {fault}" for fault in annotations.unusable.values()] * labels)
    findings.faults += [annotations.lack] if labels and annotations.lack else []
    listed = [image.name for image in annotations.images() if image.id not in annotations.unusable]
    findings.faults += [f"{split.annotations}: {fault}" for fault in label_clashes(listed)]
    _examine_images(split, annotations, fixed, findings)
    crowds = int(annotations.crowd.sum())
    if crowds > _MANY_CROWDS * len(annotations.crowd):
        findings.warnings.append(
            f"{split.annotations}: {crowds:,} of {len(annotations.crowd):,} annotations are crowd regions (iscrowd 1) "
            "and left out of the labels; where they are single objects, set iscrowd to 0"
        )
    if labels and not findings.faults:
        findings.warnings += _differing_copies(split, annotations)
        findings.faults += _label_faults(split, annotations, _yolo_data(annotations.names, keypoints))
    return findings


def _raise_first(faults: Sequence[str]) -> None:
    if faults:
        raise UserError(faults[0] + (f" ({len(faults):,} such faults in all)" if len(faults) > 1 else ""))


def _examine_images(split: Split, annotations: Annotations, fixed: bool, findings: Findings) -> None:
    """Add the images that are not there, cannot be read, or are not of the annotated size."""
    entries = [image for image in annotations.images() if image.id not in annotations.unusable]
    if missing := [entry.name for entry in entries if not (split.images / entry.name).is_file()]:
        findings.faults.append(
            f"{len(missing):,} of {len(entries):,} images of {split.annotations} are not in {split.images} "
            f"(the first: {missing[0]})"
        )
        return
    if arrays := arrays_fault(split.images / entry.name for entry in entries):
        findings.faults.append(arrays)
        return
    turned, trailers, deep = [], [], []
    for entry, seen in zip(entries, on_each(see, (split.images / entry.name for entry in entries)), strict=True):
        if fault := seen if isinstance(seen, str) else size_fault(seen, entry):
            findings.faults.append(f"{split.images / entry.name} {fault}")
        else:
            turned += [f"{entry.name}, orientation {seen.orientation}"] * seen.turned_unseen
            trailers += [entry.name] * seen.trailer
            deep += [split.images / entry.name] * seen.deep
    if trailers:
        text = (
            f"{split.images}: {len(trailers):,} JPEGs have bytes after their end marker (the first: {trailers[0]}); "
            "Ultralytics writes them anew, in their place"
        )
        (findings.faults if fixed else findings.warnings).append(text)
    if deep:
        findings.warnings.append(
            f"{split.images}: {len(deep):,} images have more than 8 bits a channel (the first: {deep[0].name}); "
            f"training sees the upper 8; the brightest value that it sees in {min(len(deep), _LOOKED_AT)} of them is "
            f"{brightest(deep[:_LOOKED_AT])} of 255; where that is dark, convert them to 8 bits"
        )
    if turned:
        findings.warnings.append(
            f"{split.images}: {len(turned):,} images are turned or mirrored by EXIF in a way that their size does not "
            f"show (the first: {turned[0]}); check that their boxes are those of the turned image"
        )


def _differing_copies(split: Split, annotations: Annotations) -> Iterator[str]:
    """Yield that pictures of one content have other boxes each: one of them lacks some, or has wrong ones."""
    boxes = annotations.label_rows()
    known = [[known_as(file, split.images) for file in pair] for pair in copies(split.files)]
    differ = [(one, other) for one, other in known if not _same(boxes[one], boxes[other])]
    if differ:
        one, other = differ[0]
        yield (
            f"{split.images}: {len(differ):,} images are copies of others with other boxes (the first: {other}, of "
            f"{one}); one of the two has wrong boxes or lacks some: keep the other"
        )


def _yolo_data(classes: Sequence[str], keypoints: Sequence[int] | None) -> dict[str, Any]:
    """What Ultralytics' dataset needs to know of the data YAML."""
    data: dict[str, Any] = {"names": dict(enumerate(classes)), "channels": 3}
    return data | ({"kpt_shape": keypoints} if keypoints else {})


def _label_faults(split: Split, annotations: Annotations, data: dict[str, Any]) -> Iterator[str]:
    """Yield how what Ultralytics reads differs from the annotations, both ways."""
    listed, found = _read_as_ultralytics(split, data)
    expected = annotations.label_rows()
    if extra := sorted(set(listed) - set(expected)):
        yield (
            f"{split.images} holds {len(extra):,} images that {split.annotations} does not list (the first: "
            f"{extra[0]}); Ultralytics would read them: remove them"
        )
    if unseen := sorted(set(expected) - set(listed)):
        yield f"Ultralytics does not see {len(unseen):,} images of {split.images} (the first: {unseen[0]})"
    for name, wanted in expected.items():
        if name not in listed:
            continue
        if name not in found:
            yield f"{split.images / name}: Ultralytics would leave it out ({_reason(split.images / name, data)})"
        elif not _same(wanted, found[name]):
            label = _label_file(split.images / name)
            if not label.is_file():
                yield f"{label}: there is no label file, but {len(wanted)} boxes are annotated"
            elif len(wanted) != len(found[name]):
                yield f"{label}: boxes differ from the annotations: {len(found[name])} instead of {len(wanted)}"
            else:
                yield f"{label}: boxes differ from the annotations in class or place"


def _read_as_ultralytics(split: Split, data: dict[str, Any]) -> tuple[set[str], dict[str, np.ndarray]]:
    """The images that Ultralytics finds, and (N, 5) class and box of those it keeps, by name."""
    from ultralytics.data.dataset import YOLODataset

    with quiet():
        try:
            listed = images_found(str(split.place), data)
            check_cache(listed)
            dataset = YOLODataset(img_path=str(split.place), data=data, augment=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"Ultralytics cannot read {split.images}: {' '.join(str(error).split())}") from None
    rows = {known_as(one["im_file"], split.images): np.hstack((one["cls"], one["bboxes"])) for one in dataset.labels}
    rows = {name: boxes[(boxes[:, 3:] > 0).all(axis=1)] for name, boxes in rows.items()}
    return {known_as(file, split.images) for file in listed}, rows


def _label_file(image: Path) -> Path:
    return Path(label_file(image.as_posix()))


def _reason(image: Path, data: dict[str, Any]) -> str:
    """Why Ultralytics leaves out an image."""
    with quiet():
        text = left_out(str(image), str(_label_file(image)), data)
    return " ".join(text.rpartition("ignoring corrupt image/label: ")[2].split()) or "its labels are damaged"


def _same(wanted: np.ndarray, found: np.ndarray) -> bool:
    """Whether two (N, 5) arrays hold the same boxes in any order; equal boxes may be one."""
    if not len(wanted) or not len(found):
        return len(wanted) == len(found)
    if len(wanted) == len(found) and np.abs(wanted - found).max() <= TOLERANCE:
        return True
    near = np.abs(wanted[:, None] - found).max(axis=2) <= TOLERANCE
    return bool(near.any(axis=0).all() and near.any(axis=1).all())
