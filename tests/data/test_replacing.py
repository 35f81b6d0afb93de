"""A subset's way into its place: whenever a process is killed, the next one finds every file of the user's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import create_coco1k
from coco1k_kd.data.manifest import MANIFEST, own_files
from coco1k_kd.data.replacing import building, put, put_right
from coco1k_kd.errors import UserError

MINE = ("notes.txt", "mine/deep.txt", "images/of_mine.txt")


def copy(subset: Path, folder: Path) -> None:
    """The subset as it was made, without label caches that other tests had written."""
    shutil.copytree(subset, folder, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.cache"))


def build(subset: Path, output: Path) -> None:
    """Replace the subset at `output`, or put one there."""
    with building(output) as folder:
        copy(subset, folder)
        (folder / "new").touch()
        put(folder, output, own_files(output) | {"new"} if output.exists() else set())


def killed_at(step: int, action: Callable[[], None]) -> bool:
    """Whether a process that does something was killed before the step that renames or removes for the nth time."""
    if not (child := os.fork()):
        done = 0

        def watched(act: Callable) -> Callable:
            def step_by_step(*args, **more):
                nonlocal done
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
                return act(*args, **more)

            return step_by_step

        Path.rename, os.unlink, os.rmdir = watched(Path.rename), watched(os.unlink), watched(os.rmdir)
        Path.mkdir, Path.unlink = watched(Path.mkdir), watched(Path.unlink)
        action()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture
def place(subset: Path, tmp_path: Path) -> Path:
    """A subset with files of the user's in it."""
    output = tmp_path / "here/sub"
    copy(subset, output)
    for name in MINE:
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_text(name)
    return output


@pytest.mark.parametrize("step", [*range(12), 15, 30])
def test_a_kill_at_any_step_loses_no_file_and_leaves_nothing_behind(subset: Path, place: Path, step: int) -> None:
    assert killed_at(step, lambda: build(subset, place))
    put_right(place)
    assert not list(place.parent.glob(".*"))
    assert [(place / name).read_text() for name in MINE] == list(MINE)
    assert (place / MANIFEST).is_file()
    build(subset, place)
    assert [(place / name).read_text() for name in MINE] == list(MINE)
    assert not list(place.parent.glob(".*"))
    assert {path.name for path in place.iterdir()} == {path.name for path in subset.iterdir()} | {
        "new", "notes.txt", "mine"
    }  # fmt: skip


KILLS = """
import os, pathlib, signal
rename = pathlib.Path.rename
def killed(self, target):
    rename(self, target)
    if self.name == "sub":
        os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.rename = killed
"""


def test_a_start_after_a_kill_brings_the_subset_back_and_says_so(coco_root: Path, place: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLS)
    command = [sys.executable, create_coco1k.__file__, "--coco-root", str(coco_root)]
    command += ["--output-dir", str(place), "--target-size", "40", "--val-size", "20", "--seed", "1"]
    site = {**os.environ, "PYTHONPATH": str(tmp_path)}
    killed = subprocess.run([*command, "--force"], env=site, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL and not place.exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2 and "exists; --force replaces" in again.stderr
    assert "is back as it was before a process was killed" in again.stdout
    assert [(place / name).read_text() for name in MINE] == list(MINE)
    assert [path.name for path in place.parent.iterdir()] == ["sub"]


def test_leftovers_of_numbered_processes_are_put_right_too(subset: Path, place: Path) -> None:
    """Also where the number is that of this process, as after a new start of a container."""
    place.rename(place.with_name(f".sub.old-{os.getpid()}"))
    (place.parent / f".sub.partial-{os.getpid()}").mkdir()
    (said,) = put_right(place)
    assert "is back as it was before a process was killed" in said
    assert [path.name for path in place.parent.iterdir()] == ["sub"]


def test_what_was_made_since_a_kill_stays_beside_what_comes_back(subset: Path, place: Path) -> None:
    place.rename(place.with_name(".sub.old"))
    copy(subset, place)
    (place / "notes.txt").write_text("newer")
    (said,) = put_right(place)
    assert said.startswith("3 files of yours are back")
    assert ((place / "notes.txt").read_text(), (place / "notes.txt~").read_text()) == ("newer", "notes.txt")


def test_what_nobody_can_tell_apart_is_left_in_sight(subset: Path, place: Path) -> None:
    (place / MANIFEST).unlink()
    place.rename(place.with_name(".sub.old-7"))
    copy(subset, place)
    (said,) = put_right(place)
    assert "look whether it holds files of yours" in said
    assert (place.parent / "sub.old/notes.txt").is_file() and not list(place.parent.glob(".*"))


def test_folders_of_other_names_are_nobodys_business(place: Path) -> None:
    others = [place.parent / name for name in (".sub.partial-notes", ".subs.partial", "sub.partial-1", ".s.old")]
    for other in others:
        other.mkdir()
    assert put_right(place) == [] and all(other.is_dir() for other in others)


def test_two_processes_do_not_write_the_same_subset(subset: Path, place: Path) -> None:
    with building(place) as folder:
        (folder / "begun").touch()
        for other in (lambda: put_right(place), lambda: build(subset, place)):
            with pytest.raises(UserError, match="another process is writing"):
                other()
        assert (folder / "begun").is_file()
    build(subset, place)
