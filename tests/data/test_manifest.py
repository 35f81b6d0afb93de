"""A subset is made again from its manifest, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from subsets import annotations, cut, first, make

from coco1k_kd.data.verify import verify
from coco1k_kd.errors import UserError


def test_from_manifest_makes_the_same_again(made: Path, copy: Path, tmp_path: Path):
    again = make(copy, tmp_path / "again", "--from-manifest", str(made / "manifest.json"), "--seed", "9")
    assert (again / "manifest.json").read_bytes() == (made / "manifest.json").read_bytes()
    assert verify(again) == []


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda root, _: edit(annotations(root, "val"), "{", "{ "), "not the file"),
        (lambda _, manifest: cut(manifest, 0.9), "not a whole manifest"),
        (lambda _, manifest: edit(manifest, '"schema_version": 1', '"schema_version": 9'), "schema_version"),
        (lambda _, manifest: edit(manifest, '"image_ids": [', '"image_ids": [99999999,'), "99999999"),
        (lambda _, manifest: manifest.unlink(), "cannot read"),
    ],
)
def test_from_manifest_refuses_what_cannot_be_the_same(made: Path, copy: Path, tmp_path: Path, harm, says: str):
    harm(copy, made / "manifest.json")
    with pytest.raises(UserError, match=says):
        make(copy, tmp_path / "again", "--from-manifest", str(made / "manifest.json"))
    assert not (tmp_path / "again").exists()


def test_from_manifest_refuses_another_image(made: Path, copy: Path, tmp_path: Path):
    name = first(made / "images/train2017")
    one = copy / "train2017" / name
    data = one.read_bytes()
    one.unlink()
    one.write_bytes(data[:-2] + b"\x00\x00" + data[-2:])
    with pytest.raises(UserError, match=f"not what the manifest says, the first: images/train2017/{name}"):
        make(copy, tmp_path / "again", "--from-manifest", str(made / "manifest.json"))
    assert not (tmp_path / "again").exists()
