"""What a teacher found, as it is written and read again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from coco1k_kd.data.lesson import Lesson, Sealed, digest, read_lesson
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    image = tmp_path / "a.jpg"
    image.touch()
    found = {
        "width": 64,
        "height": 48,
        "rows": [[0, 0.9, 1, 2, 30, 20.5], [1, 0.2, 0, 0, 8, 8]],
        "sha256": sha256(image),
    }
    content = {"teacher": "t", "classes": ["a", "b"], "thresholds": [0.5, 0.3], "pool": {str(image): found}}
    return msgspec.convert(content, Lesson)


def test_what_is_written_is_read_as_it_was(lesson: Lesson, tmp_path: Path) -> None:
    Sealed.of(lesson).write(tmp_path / "lesson.json")
    read = read_lesson(tmp_path / "lesson.json", ["a", "b"])
    assert read == Sealed.of(lesson).lesson and Sealed.of(read).sha256 == digest(read)
    (found,) = read.pool.values()
    assert found.table.shape == (2, 6) and found.table[0].tolist() == [0, 0.9, 1, 2, 30, 20.5]
    assert structs.replace(found, rows=[]).table.shape == (0, 6)
    assert digest(structs.replace(read, thresholds=[0.5, 0.4])) != digest(read)


def test_a_lesson_that_was_changed_by_hand_is_refused(lesson: Lesson, tmp_path: Path) -> None:
    file = tmp_path / "lesson.json"
    Sealed.of(lesson).write(file)
    file.write_text(file.read_text().replace("20.5", "21.5"))
    with pytest.raises(UserError, match=r"lesson\.json has been changed since the teacher wrote it: remove it"):
        read_lesson(file, ["a", "b"])


def test_an_array_in_the_place_of_a_labelled_image_is_refused(lesson: Lesson, tmp_path: Path) -> None:
    Sealed.of(lesson).write(tmp_path / "lesson.json")
    (tmp_path / "a.npy").touch()
    with pytest.raises(UserError, match=r"a\.npy lies beside its image"):
        read_lesson(tmp_path / "lesson.json", ["a", "b"])
