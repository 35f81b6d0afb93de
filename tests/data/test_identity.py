"""What identifies a study's files: their bytes, wherever the project lies, and nothing is read twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from coco1k_kd.data import identity
from coco1k_kd.data.dataset import read_data
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, write_json


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "own.txt").write_text("own")
    (tmp_path / "image").write_text("image")
    return folder


def test_images_labels_and_annotations_of_both_splits_are_listed(subset: Path, tmp_path: Path) -> None:
    files = identity.files_of_data(read_data(subset / "coco1k.yaml"), tmp_path)
    written = [path.resolve() for path in subset.rglob("*") if path.is_file() and path.suffix in (".jpg", ".txt")]
    assert {path.resolve() for path in files} == {*written, *(subset / "annotations").resolve().glob("*.json")}


def test_hashes_are_kept_and_a_torn_cache_is_made_anew(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [project / "own.txt", project.parent / "image", project.parent / "none"]
    found = identity.hashes(files, project)
    assert found == {"own.txt": sha256(files[0]), str(files[1]): sha256(files[1]), str(files[2]): ""}
    assert [identity.listed_as(file, project) for file in files] == list(found)
    (project / identity.CACHE).write_text("{")
    assert identity.hashes(files, project) == found
    monkeypatch.setattr(identity, "sha256", None)  # nothing is read again
    assert identity.hashes(files, project) == found


def test_a_file_of_the_same_size_and_time_of_change_is_read_where_it_is_another(project: Path) -> None:
    file = project / "own.txt"
    state = file.stat()
    (project / "new").write_text("oxn")
    for replaced in (lambda: (project / "new").replace(file), lambda: file.write_text("own")):  # of one inode, too
        before = identity.hashes([file], project)
        replaced()
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert identity.hashes([file], project) != before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda file: file.write_text("other"), "has changed"),
        (lambda file: file.unlink(), "is gone"),
        (lambda file: (file.parent / "none").write_text("x"), "none is new"),
    ],
)
def test_the_first_file_that_changed_is_named(project: Path, change, named: str) -> None:
    files = [project / "own.txt", project.parent / "image", project.parent / "none"]
    listed = project / "files_x.json"
    write_json(listed, {"some": identity.hashes(files, project)})
    assert identity.check_unchanged(listed)["some"] == identity.hashes(files, project)
    change(project.parent / "image")
    with pytest.raises(UserError, match=f"{named} since the study began: put back what was there, or begin a new"):
        identity.check_unchanged(listed)


def test_a_moved_project_has_the_same_hashes_of_what_it_holds(project: Path) -> None:
    listed = project / "files_x.json"
    write_json(listed, {"some": identity.hashes([project / "own.txt"], project)})
    moved = shutil.move(project, project.parent / "moved")
    assert identity.check_unchanged(Path(moved) / "files_x.json")
    link = project.parent / "link"
    link.symlink_to(moved)
    assert list(identity.hashes([Path(moved) / "own.txt"], link)) == ["own.txt"]


def test_what_a_loss_file_imports_from_its_folder_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "loss.py").write_text("import json\nfrom parts import one\n")
    (tmp_path / "parts.py").write_text("import loss, more.deep\n")
    (tmp_path / "more").mkdir()
    for name in ("__init__", "deep", "used_by_deep"):
        (tmp_path / "more" / f"{name}.py").write_text("from .used_by_deep import x\nimport last\n")
    for name in ("last", "stranger"):
        (tmp_path / f"{name}.py").write_text("")
    found = sorted(path.name for path in identity.files_of_code(tmp_path / "loss.py"))
    assert found == ["__init__.py", "deep.py", "last.py", "loss.py", "parts.py", "used_by_deep.py"]
