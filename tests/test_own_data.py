"""docs/own-data.md as its reader follows it: every command, in its order, in one folder with generated data."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import programs
import pytest
import yaml

from coco1k_kd.study.settings import Settings

PROJECT = Path(__file__).resolve().parents[1]
PAGE = (PROJECT / "docs" / "own-data.md").read_text()
# The commands at toy size: what stands there, and what is typed here.
TOY = {"--fit-teacher auto": "--fit-teacher 1", "size 500": "size 32", "size 100": "size 12", "draws auto": "draws 2"}
STUDY = "--epochs 1 --batch 8 --imgsz 64 --device cpu --seeds 0"
OF_A_WALK = ("--fit-teacher", "--check")  # other studies show that their data are taken: a baseline does


def commands() -> list[str]:
    """What the page's bash blocks say, a command a line."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def walk(coco_root: Path, subset: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A folder after all commands: what each of them said, and the comparison of the study that is walked through."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("own")
    _own_data(folder, coco_root, subset)
    for given, name in (("student", "yolo11n.pt"), ("teacher", "yolo11l.pt")):
        shutil.copy(models / f"{given}.pt", folder / name)
    program = folder / "bin" / "coco1k-kd"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{programs.__file__}" -m coco1k_kd "$@"\n')
    program.chmod(0o755)
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    own[programs.ADDRESS] = programs.address(own)
    said = {}
    for command in commands():
        done = subprocess.run(
            ["bash", "-ec", _toy(command)], cwd=folder, env={**os.environ, **own}, capture_output=True, text=True
        )
        assert done.returncode == 0, command + done.stdout[-1500:] + done.stderr[-2500:]
        said[command] = done.stdout
    paths = folder.glob("coco1k_kd_experiments/comparison_*.json")
    found = [content for path in sorted(paths) if (content := json.loads(path.read_bytes())).get("exports")]
    return SimpleNamespace(folder=folder, said=said, shipped=found)


def _toy(command: str) -> str:
    for words, smaller in TOY.items():
        command = command.replace(words, smaller)
    if "label" in command:
        return f"{command} --device cpu --imgsz 64"
    if "compare" not in command or "--check" in command:
        return command
    baseline = "" if any(flag in command for flag in OF_A_WALK) else " --arms baseline"
    return f"{command} {STUDY}{baseline}"


def _own_data(folder: Path, coco_root: Path, subset: Path) -> None:
    """my.yaml with its three splits, photos without labels, and COCO files under two kinds of names."""
    names = yaml.safe_load((subset / "coco1k.yaml").read_text())["names"]
    train, val = (sorted((subset / "images" / split).glob("*.jpg")) for split in ("train2017", "val2017"))
    for split, images in {"train": train[:40], "val": val[:14], "test": val[14:]}.items():
        for image in images:
            label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
            for file, kind in ((image, "images"), (label, "labels")):
                place = folder / "own" / kind / split
                place.mkdir(parents=True, exist_ok=True)
                if file.exists():
                    shutil.copy(file, place)
    content = {"path": str(folder / "own"), "names": names} | {s: f"images/{s}" for s in ("train", "val", "test")}
    (folder / "my.yaml").write_text(yaml.safe_dump(content))
    (folder / "photos").mkdir()
    for image in train[40:]:
        shutil.copy(image, folder / "photos")
    (folder / "my_data").symlink_to(coco_root)
    for name, split in (("a", "train2017"), ("b", "val2017")):
        (folder / name).symlink_to(coco_root / split)
        shutil.copy(coco_root / "annotations" / f"instances_{split}.json", folder / f"{name}.json")


def test_every_command_runs_and_the_teacher_is_fitted_once(walk: SimpleNamespace) -> None:
    assert sum("fitting to the train images" in said for said in walk.said.values()) == 1
    assert len(list(walk.folder.glob("coco1k_kd_experiments/teacher_*"))) == 1
    assert list(walk.folder.glob("labelled/labels/**/*.txt")) and list(walk.folder.glob("more/labels/**/*.txt"))


def test_at_the_end_there_are_an_onnx_file_and_one_sentence(walk: SimpleNamespace) -> None:
    (content,) = walk.shipped
    assert content["headline"]["text"] in list(walk.said.values())[_last_of_walk(walk)]
    assert content["references"]["teacher"]["fitted"]["epochs"] == 1
    files = [Path(row["file"]) for row in content["exports"]]
    assert files and all(file.suffix == ".onnx" and file.is_file() for file in files)


def _last_of_walk(walk: SimpleNamespace) -> int:
    return next(place for place, command in enumerate(walk.said) if "--export" in command)


def test_the_page_recommends_no_other_loss_than_the_flag() -> None:
    """`--loss` has its default in one place: where the page names a loss, it is beside the default."""
    assert Settings.loss == "cwd" and "the default `cwd`" in PAGE
    assert not any("--loss" in command for command in commands())
    assert all(Settings.loss in command.split() for command in commands() if "--arms" in command)
