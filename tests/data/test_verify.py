"""--verify names the fault of a subset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from subsets import annotations, cut, first, image, label

from coco1k_kd.data.verify import verify

# What is done to a val image's files (m: the subset, n: the image's stem), and what --verify says of it.
FAULTS = {
    "no label": (lambda m, n: label(m, n).unlink(), "labels/val2017/{n}.txt: missing"),
    "other label": (lambda m, n: label(m, n).write_text("0 1 1 1 1\n"), "labels/val2017/{n}.txt: boxes differ"),
    "extra label": (lambda m, n: label(m, "x").write_text(""), "labels/val2017/x.txt: not in the manifest"),
    "no image": (lambda m, n: image(m, n).unlink(), "images/val2017/{n}.jpg: missing"),
    "cut image": (lambda m, n: cut(image(m, n), 0.7), "images/val2017/{n}.jpg is cut short"),
    "end of image lost": (lambda m, n: image(m, n).write_bytes(endless(m, n)), "images/val2017/{n}.jpg is cut short"),
    "extra image": (lambda m, n: shutil.copy(image(m, n), image(m, "x")), "images/val2017/x.jpg: not in the manifest"),
    "leak": (lambda m, n: leak(m, n), "images/val2017/{n}.jpg: the same image as images/train2017/"),
    "torn json": (lambda m, n: cut(annotations(m, "val"), 0.5), "not a whole COCO instances file"),
    "no json": (lambda m, n: annotations(m, "val").unlink(), "annotations/instances_val2017.json: missing"),
    "other json": (lambda m, n: drop_annotation(annotations(m, "val")), "instances_per_class is not what"),
    "no yaml": (lambda m, n: (m / "coco1k.yaml").unlink(), "coco1k.yaml: missing"),
    "other yaml": (lambda m, n: (m / "coco1k.yaml").write_text("path: /x\n"), "coco1k.yaml: path, folders or names"),
}


def endless(folder: Path, stem: str) -> bytes:
    """The image without its end marker; what PIL needs to decode it is there, as after a torn download's last block."""
    data = image(folder, stem).read_bytes()
    image(folder, stem).unlink()
    return data[:-2] + b"\0" * 200


def leak(folder: Path, stem: str) -> None:
    data = (folder / "images/train2017" / first(folder / "images/train2017")).read_bytes()
    image(folder, stem).unlink()
    image(folder, stem).write_bytes(data)


def drop_annotation(path: Path) -> None:
    data = json.loads(path.read_text())
    data["annotations"].remove(next(a for a in data["annotations"] if not a["iscrowd"]))
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_names_the_fault(made: Path, fault: str):
    name = Path(first(made / "images/val2017")).stem
    harm, says = FAULTS[fault]
    harm(made, name)
    assert any(says.format(n=name) in line for line in verify(made)), verify(made)


def test_verify_sees_that_a_subset_was_moved(made: Path, tmp_path: Path):
    made.rename(tmp_path / "elsewhere")
    assert [line for line in verify(tmp_path / "elsewhere") if "has it been moved?" in line]
