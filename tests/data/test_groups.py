"""Which images are one sample, by a part of their names, and what is said of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import call

from coco1k_kd.data.annotations import read
from coco1k_kd.data.dataset import Split
from coco1k_kd.data.groups import equal_groups, groups_of, notes_on, ungrouped_note
from coco1k_kd.errors import UserError

PROGRAM = Path(__file__).resolve().parents[2] / "test_coco1k_kd.py"
FILES = ["cam1/a_1.jpg", "cam2/a_1.jpg", "cam1/b_1.jpg", "cam1/a_2.jpg", "other.jpg", "third.jpg"]


@pytest.mark.parametrize(
    ("pattern", "number", "alone"),
    [(r"^cam\d", [0, 1, 0, 0, 2, 3], 2), (r"([ab])_\d", [0, 0, 1, 0, 2, 3], 2), (r"\d", [0, 1, 0, 0, 2, 3], 2)],
)
def test_the_first_group_or_the_whole_match_names_the_group(pattern: str, number: list[int], alone: int) -> None:
    found = groups_of(pattern, FILES)
    assert found.number.tolist() == number and found.alone == alone and found.count == 4
    values = np.arange(12.0).reshape(2, 6)
    assert found.sums(values)[1].tolist() == [
        sum(v for v, n in zip(values[1], number, strict=True) if n == g) for g in range(4)
    ]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("(", "not a regular expression"), ("nowhere", "matches the name of no image"), (r"\.jpg", "are one group")],
)
def test_what_makes_no_groups_is_refused_in_a_line(pattern: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as refusal:
        groups_of(pattern, FILES)
    assert "\n" not in str(refusal.value) and str(refusal.value).startswith(f"--groups {pattern}: ")


def test_unequal_groups_count_for_less() -> None:
    assert equal_groups(np.full(12, 3)) == 12 and equal_groups(np.array([True, False, True])) == 2
    assert equal_groups(np.array([97, 1, 1, 1])) == pytest.approx(10_000 / (97**2 + 3))


def test_groups_that_are_trained_on_too_are_named() -> None:
    told = notes_on(groups_of(r"^cam\d", FILES), ["cam2/z.jpg", "else.jpg"])
    assert "4 groups of 6 images, the largest of 3; the names of 2 do not match" in told[0]
    assert "1 of the groups hold images to train on as well (the first: 'cam2')" in told[1]
    assert len(notes_on(groups_of(r"^cam\d", FILES), ["cam3/z.jpg"])) == 1


@pytest.mark.parametrize(("pattern", "code"), [(r"(\d)\d\.", 0), ("[", 2), (r"\.jpg", 2)])
def test_check_says_which_groups_there_are(subset: Path, pattern: str, code: int) -> None:
    command = [sys.executable, str(PROGRAM), "--check", "--data", str(subset / "coco1k.yaml"), "--groups", pattern]
    done = call(command)
    assert done.returncode == code, done.stderr
    said = done.stdout if code == 0 else done.stderr.strip().splitlines()[-1]
    assert f"--groups {pattern}: " in said and "Traceback" not in done.stderr


def test_images_that_look_like_frames_of_a_video_are_named(subset: Path, tmp_path: Path) -> None:
    content = read(subset / "annotations/instances_val2017.json")

    def split(folder: Path) -> Split:
        return Split(content, folder, tuple(sorted(path.name for path in folder.iterdir())))

    scenes = subset / "images" / "val2017"
    assert ungrouped_note(split(scenes)) == []
    for path in sorted(scenes.iterdir())[:8]:
        with Image.open(path) as picture:
            width, height = picture.size
            for frame in range(4):  # the camera turns a little
                box = (2 * frame, frame, width - 20 + 2 * frame, height - 10 + frame)
                picture.convert("RGB").crop(box).save(tmp_path / f"{path.stem}_{frame}.jpg")
    (told,) = ungrouped_note(split(tmp_path))
    assert "24 of 32 images look like the one before them" in told and "--groups REGEX" in told
