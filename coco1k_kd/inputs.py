"""Everything that a study is given, checked before anything is trained."""

from __future__ import annotations

import difflib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, write_atomic

STRIDE = 32
_NOMINAL_BATCH = 64  # Ultralytics' `nbs`
# Settings of Ultralytics that have flags of their own, or with which there would be nothing left to compare.
_SETTLED = (
    "task mode model data epochs time patience batch imgsz save device workers project name exist_ok pretrained seed "
    "deterministic single_cls classes fraction val split cfg resume save_dir distill_model plots profile tracker"
)


@dataclass(frozen=True)
class Split:
    """Train or val: its images and its COCO annotations."""

    annotations: Path
    images: Path
    names: tuple[str, ...]  # file names of the images
    description: str = ""  # what the annotations say they are: COCO 2017, or generated scenes

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.names)


@dataclass(frozen=True)
class Data:
    """A subset as `create_coco1k.py` writes it."""

    yaml: Path
    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split

    def record(self) -> dict[str, Any]:
        """What identifies the data, for the comparison's JSON."""
        manifest = self.root / "manifest.json"
        return {
            "description": self.val.description,
            "yaml": str(self.yaml),
            "manifest_sha256": sha256(manifest) if manifest.exists() else None,
            "train_annotations_sha256": sha256(self.train.annotations),
            "val_annotations_sha256": sha256(self.val.annotations),
            "train_images": self.train.size,
            "val_images": self.val.size,
            "classes": len(self.classes),
        }


@dataclass(frozen=True)
class Weights:
    """A model as it is given: a checkpoint, or an architecture to train from scratch."""

    path: str
    sha256: str | None  # None: an architecture
    classes: tuple[str, ...]
    parameters: int
    strides: tuple[int, ...]

    @property
    def scratch(self) -> bool:
        """Whether there are no trained weights."""
        return self.sha256 is None


def read_data(path: Path) -> Data:
    """Read and check a data YAML, its annotations, images and labels. UserError names the first fault."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: make the subset with create_coco1k.py, or give --data its coco1k.yaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        classes = tuple(str(names[i]) for i in range(len(names)))
        places = [str(content[key]) for key in ("train", "val")]
        root = Path(content.get("path") or path.parent)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path} is no data YAML with train, val and names ({reason})") from None
    if not root.is_dir():
        raise UserError(f"{path} says path: {root}, which is no folder: correct it, or make the subset anew")
    train, val = (_split(root, root / place, classes) for place in places)
    return Data(path.resolve(), root.resolve(), classes, train, val)


def read_full_val(coco_root: Path, classes: Sequence[str]) -> Split:
    """COCO's whole val2017, for `--eval-full-val`."""
    images = coco_root / "val2017"
    annotations = coco_root / "annotations" / "instances_val2017.json"
    for place in (images, annotations):
        if not place.exists():
            raise UserError(
                f"--eval-full-val: {place} does not exist; give the folder that holds val2017/ and annotations/"
            )
    with _well_formed(annotations):
        content = _read_annotations(annotations)
        _check_classes(annotations, content, classes)
        return Split(annotations, images, _check_images(annotations, content, images))


def read_weights(path: str, role: str) -> Weights:
    """Load a student or teacher as Ultralytics would, which may download it. UserError if it cannot serve."""
    import ultralytics

    from coco1k_kd.teacher import detect_head

    if not path.endswith((".pt", ".yaml", ".yml")):
        raise UserError(f"the {role} {path} is neither a checkpoint (.pt) nor an architecture (.yaml)")
    if role == "teacher" and not path.endswith(".pt"):
        raise UserError(f"the teacher {path} is an architecture: it has learnt nothing; give a checkpoint (.pt)")
    logger = logging.getLogger("ultralytics")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # its warnings about a missing network would bury our line
        model = ultralytics.YOLO(path)
    except Exception as error:  # Ultralytics raises whatever its download, unpickler or parser raised
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot load the {role} {path}: {reason} (a file that exists, or a name that Ultralytics can download)"
        ) from None
    finally:
        logger.setLevel(level)
    head = detect_head(model.model, role)
    if model.task != "detect":
        raise UserError(f"the {role} {path} is made for the task {model.task}: give a detector")
    checkpoint = Path(model.ckpt_path) if path.endswith(".pt") and model.ckpt_path else None
    return Weights(
        path=str(checkpoint.resolve()) if checkpoint else path,
        sha256=sha256(checkpoint) if checkpoint else None,
        classes=tuple(model.names[i] for i in range(len(model.names))),
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        strides=tuple(int(stride) for stride in head.stride),
    )


def resolve_optimizer(train_images: int, batch: int, epochs: int, classes: int) -> dict[str, Any]:
    """What Ultralytics' `optimizer="auto"` would choose, as explicit settings.

    `auto` decides by the number of iterations, and silently; pinned, it is the same for all arms and on record. The
    rule is that of `BaseTrainer.build_optimizer` in Ultralytics 8.4, and a test holds it to that.
    """
    iterations = math.ceil(train_images / max(batch, _NOMINAL_BATCH)) * epochs
    name, rate = ("MuSGD", 0.01) if iterations > 10_000 else ("AdamW", round(0.002 * 5 / (4 + classes), 6))
    return {"optimizer": name, "lr0": rate, "momentum": 0.9, "warmup_bias_lr": 0.0}


def read_train_args(pairs: Sequence[str]) -> dict[str, Any]:
    """Ultralytics' training settings from `KEY=VALUE`. UserError if it knows none such, or a study settles it."""
    from ultralytics.cfg import get_cfg, smart_value
    from ultralytics.utils import DEFAULT_CFG_DICT

    chosen: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or key not in DEFAULT_CFG_DICT:
            near = [name for name in DEFAULT_CFG_DICT if key and key in name] or difflib.get_close_matches(
                key, DEFAULT_CFG_DICT
            )
            hint = f"did you mean {' or '.join(near[:3])}?" if near else "give KEY=VALUE, a setting of Ultralytics"
            raise UserError(f"--train {pair}: {hint}")
        if key in _SETTLED.split() or key in chosen:
            raise UserError(f"--train {pair}: {'given twice' if key in chosen else 'a study settles that itself'}")
        chosen[key] = smart_value(value)
        if key == "optimizer" and str(chosen[key]).lower() == "auto":
            raise UserError(f"--train {pair}: a study pins the optimizer, as auto would choose it; leave it out")
    if "optimizer" in chosen and "lr0" not in chosen:
        raise UserError(f"--train optimizer={chosen['optimizer']}: give lr0=, too; the study's own is for AdamW")
    try:
        get_cfg(overrides=chosen)
    except (TypeError, ValueError, SyntaxError) as error:
        raise UserError(f"--train: {str(error).splitlines()[0]}") from None
    return chosen


def read_devices(device: str) -> list[str]:
    """The devices of one run: the numbers of several GPUs, or one of any kind. UserError for what can be neither."""
    devices = device.split(",")
    if len(devices) > 1 and len({int(number) for number in devices if number.isdecimal()}) < len(devices):
        raise UserError(f"--device {device}: several GPUs are given by their numbers, each once: 0,1")
    return devices


def check_device(device: str) -> None:
    """UserError if a GPU that is asked for is not there."""
    import torch

    numbers = ["0" if name == "cuda" else name.removeprefix("cuda:") for name in read_devices(device)]
    if all(number.isdecimal() for number in numbers):
        count = torch.cuda.device_count()
        if max(map(int, numbers)) >= count:
            raise UserError(f"--device {device}: there are {count} CUDA GPUs here; give another, or --device cpu")
    elif device == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: there is no Apple GPU here; give --device cpu")
    elif device not in ("", "cpu", "mps"):
        raise UserError(f"--device {device}: give cpu, mps, the number of a GPU, or those of several, as 0,1")


def full_val_yaml(split: Split, classes: Sequence[str], project: Path) -> Path:
    """A data YAML for all of val2017 whose images are links in the project: Ultralytics writes a cache beside them."""
    folder = project / "references" / f"val2017_{sha256(split.annotations)[:8]}"
    images = folder / "images" / "val2017"
    images.mkdir(parents=True, exist_ok=True)
    for name in split.names:
        link, target = images / name, (split.images / name).absolute()
        if not link.is_symlink() or link.readlink() != target:  # COCO may have moved since
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    content = {
        "path": str(folder),
        "train": "images/val2017",
        "val": "images/val2017",
        "names": dict(enumerate(classes)),
    }
    write_atomic(folder / "val2017.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return folder / "val2017.yaml"


def scan(data: Data) -> None:
    """Have Ultralytics look at all images and labels, which takes seconds. UserError if it would leave some out.

    It does so without a word, and the audit would find it when all is trained. Its label caches are there from then on:
    runs that start at once would each write them, and unlink another's.
    """
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    try:
        LOGGER.setLevel(logging.ERROR)
        for split in (data.train, data.val):
            names = dict(enumerate(data.classes))
            found = YOLODataset(img_path=str(split.images.resolve()), data={"names": names, "channels": 3})
            if len(found) != split.size:
                whole = {Path(file).name for file in found.im_files}
                first = next(name for name in split.names if name not in whole)
                raise UserError(
                    f"Ultralytics would leave out {split.size - len(found)} of {split.size} images of {split.images}: "
                    f"{first} or its labels are damaged; look with create_coco1k.py --verify"
                )
    finally:
        LOGGER.setLevel(level)


def check_disk(folder: Path, runs: int, parameters: int, val_images: int) -> None:
    """UserError if the runs will not fit beside each other: checkpoints, predictions, and one snapshot at a time."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    need = runs * (8 * parameters + 70_000 * val_images) + 60 * parameters
    free = shutil.disk_usage(there).free
    if free < need:
        raise UserError(
            f"{runs} runs need about {need / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free: make room, "
            "or give another --project"
        )


def _split(root: Path, images: Path, classes: Sequence[str]) -> Split:
    annotations = root / "annotations" / f"instances_{images.name}.json"
    with _well_formed(annotations):
        content = _read_annotations(annotations)
        _check_classes(annotations, content, classes)
        names = _check_images(annotations, content, images)
        _check_labels(annotations, content, images)
    info = content.get("info")
    description = str(info.get("description", "")) if isinstance(info, dict) else ""
    return Split(annotations.resolve(), images, names, description)


def _read_annotations(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if all(isinstance(content[key], list) for key in ("images", "annotations", "categories")):
            return content
        raise ValueError("no lists of images, annotations and categories")
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}): the figures come from COCO annotations beside the images; "
            "make the subset with create_coco1k.py"
        ) from None


@contextmanager
def _well_formed(path: Path) -> Iterator[None]:
    """Whatever a reader of `path` stumbles over means that it is not what it should be."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no COCO annotation file ({type(error).__name__}: {error}): make the subset anew with "
            "create_coco1k.py"
        ) from None


def _check_classes(path: Path, content: dict[str, Any], classes: Sequence[str]) -> None:
    named = [category["name"] for category in sorted(content["categories"], key=lambda category: category["id"])]
    if named != list(classes):
        raise UserError(
            f"{path} has {len(named)} classes ({', '.join(named[:3])}…), the data YAML has {len(classes)} "
            f"({', '.join(classes[:3])}…): they must be the same, by category id; make the subset anew"
        )


def _check_images(path: Path, content: dict[str, Any], folder: Path) -> tuple[str, ...]:
    names = sorted(Path(image["file_name"]).name for image in content["images"])
    if not names:
        raise UserError(f"{path} lists no images")
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} images of {path} are not in {folder} (the first: {missing[0]}): "
            "look with create_coco1k.py --verify, or make the subset anew"
        )
    extra = sorted(name for name in there - set(names) if Path(name).suffix.lower() in {".jpg", ".jpeg", ".png"})
    if extra:
        raise UserError(
            f"{folder} holds {len(extra)} images that {path} does not list (the first: {extra[0]}): take them away"
        )
    return tuple(names)


def _check_labels(path: Path, content: dict[str, Any], images: Path) -> None:
    """Ultralytics takes an image without a label file for an empty one, and says nothing."""
    with_boxes = {
        box["image_id"] for box in content["annotations"] if not box.get("iscrowd") and min(box["bbox"][2:]) > 0
    }
    head, _, tail = str(images).rpartition("/images/")
    labels = Path(head) / "labels" / tail
    stems = [Path(image["file_name"]).stem for image in content["images"] if image["id"] in with_boxes]
    missing = [stem for stem in stems if not (labels / f"{stem}.txt").exists()]
    if not head or missing:
        raise UserError(
            f"{len(missing)} of {len(stems)} label files are not in {labels if head else images}: training would see "
            "empty images; make the subset anew with create_coco1k.py"
        )
