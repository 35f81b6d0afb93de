"""Arrays in the place of pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from layouts import absolute
from studies import PROGRAM, run

from coco1k_kd.data import given
from coco1k_kd.data.arrays import arrays_fault


def test_arrays_in_the_place_of_pictures_are_refused_and_left_alone(tmp_path: Path) -> None:
    """Ultralytics would train on them, overwrite those of another shape and delete those that it cannot load."""
    path = absolute(tmp_path)
    folder = tmp_path / "data/images/val"
    np.save(folder / "01.npy", np.zeros((1, 8, 8)))
    (folder / "02.npy").write_bytes(b"of another program")
    before = {file: file.read_bytes() for file in folder.iterdir()}
    done = run([sys.executable, str(PROGRAM), "--check", "--data", str(path)])
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "01.npy" in done.stderr and "2 such .npy files" in done.stderr
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    (folder / "01.npy").rename(tmp_path / "01.npy")
    (folder / "02.npy").rename(folder / "other.npy")
    given.check(path)


def test_only_an_array_of_an_images_name_is_a_fault(tmp_path: Path) -> None:
    images = [tmp_path / "a.jpg", tmp_path / "b.png"]
    (tmp_path / "c.npy").touch()
    assert arrays_fault([]) is None and arrays_fault(images) is None
    (tmp_path / "b.npy").touch()
    assert arrays_fault(images).startswith(f"{tmp_path}/b.npy lies beside its image (1 such .npy files in all)")
