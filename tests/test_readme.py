"""Every command in the README runs, and the Korean README has the same commands, code and pictures.

What docs name (flags, links, files) exists, and their lines are short.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from time import strptime

import pytest
import torch
import ultralytics
from programs import call
from studies import with_signal

import create_coco1k
import test_coco1k_kd
from coco1k_kd.study.plan import Settings

PROJECT = Path(__file__).resolve().parents[1]
README, KOREAN = (PROJECT / name for name in ("README.md", "README.ko.md"))


def blocks(file: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", file.read_text(), re.DOTALL | re.MULTILINE)


def commands(file: Path) -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks(file, "bash") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def place(coco_root, subset, tmp_path_factory) -> Path:
    """Where a user would stand: COCO, a subset, and weights under the names of the published ones."""
    folder = tmp_path_factory.mktemp("readme")
    for name, architecture in (("yolo11n.pt", "yolo11n.yaml"), ("yolo11l.pt", "yolov8n.yaml")):
        torch.manual_seed(0)
        with_signal(ultralytics.YOLO(architecture, verbose=False)).save(folder / name)
    (folder / "coco1k").symlink_to(subset)
    shutil.copy(subset / "coco1k.yaml", folder / "my.yaml")
    return folder


def environment(folder: Path) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder), "PYTHONPATH": str(PROJECT)}
    return {**os.environ, **own, "VENV": str(Path(sys.executable).parents[1])}


SMALLER = {"100": "1", "1500": "48", "400": "24", "16": "8"}  # epochs, images, batch: the command, at toy size


@pytest.mark.parametrize("command", [c for c in commands(README) if not c.startswith("git clone")])
def test_command(command, place, coco_root, tmp_path):
    words = [SMALLER.get(w, w) for w in shlex.split(command.replace("/path/to/coco", str(coco_root)))]
    program, arguments = words[0], words[1:]
    if program == "./run_coco1k_kd.sh":
        words = [str(PROJECT / program), *arguments, "--dry-run"]  # the stages run for real in test_pipeline.py
    elif program == "tests/run.sh":
        words = ["bash", "-n", str(PROJECT / program)]  # it is what is running
    elif arguments[0] == "create_coco1k.py":
        words = [sys.executable, str(PROJECT / arguments[0]), *arguments[1:], "--output-dir", str(tmp_path / "coco1k")]
    elif arguments[0] == "test_coco1k_kd.py":
        toy = ["--epochs", "1", "--batch", "8", "--imgsz", "64", "--seeds", "0", "--project", str(tmp_path)]
        words = [sys.executable, str(PROJECT / arguments[0]), *arguments[1:], *toy]
    else:
        pytest.fail(f"nobody knows how to run {command}")
    if words[0] == sys.executable:
        done = call(words, cwd=place, env=environment(place))
    else:
        done = subprocess.run(words, cwd=place, env=environment(place), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]


def test_snippet(place):
    (code,) = blocks(README, "python")
    code = code.replace("epochs=100", "epochs=1, imgsz=64")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=environment(place), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "kd_loss" in done.stdout
    (folder,) = re.findall(r"Results saved to .*?(kd_\d{8}_\d{6})\b(?!-)", done.stdout)
    assert strptime(folder, "kd_%Y%m%d_%H%M%S"), "each second has a name of its own, so that nothing is written over"


def test_korean_readme_is_the_same():
    def comparable(file: Path) -> tuple:
        text = file.read_text()
        return (
            commands(file),
            [re.sub(r"#.*", "", code) for code in blocks(file, "python")],
            re.findall(r"\]\(([^)]+)\)", text.replace("README.ko.md", "").replace("README.md", "")),
            len(re.findall(r"^#+ ", text, re.MULTILINE)),
            len(re.findall(r"^\|", text, re.MULTILINE)),
            re.findall(r"`(--[a-z0-9-]+|[a-z_]+=[^`]*)`", text),
        )

    assert comparable(KOREAN) == comparable(README)


DOCS = [README, KOREAN, *sorted((PROJECT / "docs").rglob("*.md"))]


def test_commands_of_the_docs_have_flags_of_today():
    pattern = r"python (create_coco1k|test_coco1k_kd)\.py((?:[^\n`#\\]|\\\n)*)"
    found = {match for file in DOCS for match in re.findall(pattern, file.read_text(encoding="utf-8"))}
    for program, flags in found:
        script = {"create_coco1k": create_coco1k, "test_coco1k_kd": test_coco1k_kd}[program]
        words = shlex.split(flags.replace("...", "").replace("\\\n", " "))
        args = vars(script.parser().parse_args(words))  # exits, with what was typed, at a flag that is not known
        if script is test_coco1k_kd and not args["loss_file"]:
            args["seeds"] = test_coco1k_kd.read_seeds(args["seeds"])
            names = {field.name for field in dataclasses.fields(Settings)}
            given = {name: value for name, value in args.items() if name in names}
            there = args.get("pool_truth") and README  # no page's files are here
            Settings(**given | {"device": "", "pool_truth": there}).checked()
    assert len(found) > 15


def test_links_of_the_docs_lead_somewhere():
    for file in DOCS:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.relative_to(PROJECT)} names {target}"


def test_files_that_the_docs_name_exist():
    for file in DOCS:
        text = file.read_text(encoding="utf-8")
        for name in re.findall(r"\b(?:tests|benchmarks|coco1k_kd)/[\w/]+\.(?:py|sh)\b", text):
            old = name == "benchmarks/recipe.py"  # of an earlier commit, as the page says
            assert old or (PROJECT / name).exists(), f"{file.relative_to(PROJECT)} names {name}"


def test_lines_of_the_docs_are_short():
    long = [
        f"{file.relative_to(PROJECT)}:{number}"
        for file in DOCS
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(re.sub(r"https?://\S+", "", line)) > 120 and not line.startswith("|")  # a table's row cannot be broken
    ]
    assert len(DOCS) > 10 and not long, f"over 120 characters: {long}"


@pytest.mark.parametrize("script", sorted((PROJECT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_benchmarks_run_as_the_docs_name_them(script, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
