"""The boxes that a teacher has found, kept in files: of no other teacher, unchanged, and of several processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coco1k_kd.errors import UserError
from coco1k_kd.runs.boxes import BoxStore

IDENTITY = {"teacher": "0" * 64, "imgsz": 640, "low": 0.05}
ROW = [1.0, 0.5, 10.0, 20.0, 30.0, 40.0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    store = BoxStore(tmp_path / "boxes_640.json", IDENTITY)
    store.add("one", np.array([ROW]))
    store.add("none", np.zeros((0, 6)))
    store.spend(2.0, 3.0)
    store.save()
    return store.path


def test_processes_have_a_file_each_and_all_are_read(file: Path) -> None:
    second = BoxStore(file, IDENTITY, process=1)
    assert "one" in second and second["none"].shape == (0, 6)
    second.add("two", np.array([ROW, ROW]))
    second.spend(4.0, 5.0)
    second.save()
    (file.parent / "boxes_64.json").write_text("of another resolution")
    both = BoxStore(file, IDENTITY)
    assert [len(both[digest]) for digest in ("one", "none", "two")] == [1, 0, 2] and "three" not in both
    assert (both.cost.seconds, both.cost.cpu_seconds, both.cost.elapsed) == (6.0, 8.0, 4.0)
    both.add("three", np.array([ROW]))
    both.spend(1.0, 1.0)
    both.save()
    assert BoxStore(file, IDENTITY).cost.seconds == 7.0
    assert sorted(path.name for path in file.parent.glob("boxes_640*")) == ["boxes_640.json", "boxes_640_1.json"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b"10.0", b"90.0", "has been changed since the teacher wrote it"),  # a box
        (b'"seconds":2.0', b'"seconds":0.1', "has been changed"),
        (b'"one":[[1.0,0.5,10.0,20.0,30.0,40.0]],', b"", "has been changed"),
        (b"0" * 64, b"1" * 64, "was made with another --teacher"),
        (b'"imgsz":640', b'"imgsz":320', "was made with another --imgsz"),
        (b',40.0]', b']', "does not hold a teacher's boxes"),
        (b'}', b'', "does not hold a teacher's boxes"),
        (b'{"identity"', b'["identity"', "does not hold a teacher's boxes"),
    ],
)  # fmt: skip
def test_boxes_that_are_not_this_teachers_are_refused(file: Path, before: bytes, after: bytes, message: str) -> None:
    content = file.read_bytes()
    assert before in content
    file.write_bytes(content.replace(before, after))
    with pytest.raises(UserError, match=message) as caught:
        BoxStore(file, IDENTITY)
    assert "\n" not in str(caught.value)


def test_a_file_that_another_process_wrote_for_another_teacher_is_refused_too(file: Path) -> None:
    file.with_stem("boxes_640_7").write_bytes(file.read_bytes().replace(b"0" * 64, b"1" * 64))
    with pytest.raises(UserError, match=r"boxes_640_7.json was made with another --teacher"):
        BoxStore(file, IDENTITY)
