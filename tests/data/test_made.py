"""Files that a command has made are written anew, and what is not its own never is."""

from __future__ import annotations

from pathlib import Path

import pytest
from layouts import picture

from coco1k_kd.data.made import RECORD, Made
from coco1k_kd.errors import UserError

FILES = ("data.yaml",)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{name}.jpg" for name in "ab"]
    for seed, file in enumerate(files):
        picture(file, seed)
    return files


def write(output: Path, photos: list[Path], text: bytes = b"names: [a]\n") -> None:
    labels = {f"labels/{photo.stem}.txt": b"" for photo in photos}
    Made(output, FILES).write({"data.yaml": text, **labels}, {f"x/{photo.name}": photo for photo in photos})


def content(output: Path) -> dict[str, bytes]:
    files = (path for path in output.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def test_a_second_call_replaces_what_the_first_has_made_and_nothing_else(photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "output"
    write(output, photos)
    assert set(content(output)) == {"data.yaml", "labels/a.txt", "labels/b.txt", "images/x/a.jpg", "images/x/b.jpg"}
    assert (output / "images/x/a.jpg").readlink() == photos[0]
    (output / "notes.txt").write_text("mine")
    write(output, photos[:1], b"names: [b]\n")
    assert set(content(output)) == {"data.yaml", "labels/a.txt", "images/x/a.jpg", "notes.txt"}
    assert (output / "data.yaml").read_bytes() == b"names: [b]\n" and all(photo.is_file() for photo in photos)


@pytest.mark.parametrize("name", ["data.yaml", "labels/a.txt", "labels/mine.txt", "images/mine.jpg"])
def test_what_was_changed_or_is_anothers_is_refused_before_anything_is_written(
    name: str, photos: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "output"
    write(output, photos)
    (output / name).write_text("mine")
    before = content(output)
    with pytest.raises(UserError, match=f"{name} was not made by this command, or was changed since: give another"):
        write(output, photos)
    assert content(output) == before


def test_a_damaged_record_is_named(photos: list[Path], tmp_path: Path) -> None:
    write(tmp_path, photos)
    for text in ("{", "7", "[1]"):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(UserError, match=r"made\.json is damaged: give another --output"):
            Made(tmp_path, FILES)


def test_a_jpeg_with_bytes_after_its_end_is_copied_without_them(photos: list[Path], tmp_path: Path) -> None:
    whole = photos[0].read_bytes()
    photos[0].write_bytes(whole + b"\0SEFT")
    for _ in range(2):
        write(tmp_path / "output", photos)
        copy = tmp_path / "output/images/x/a.jpg"
        assert not copy.is_symlink() and copy.read_bytes() == whole
    assert photos[0].read_bytes() == whole + b"\0SEFT"
