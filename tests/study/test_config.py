"""A study's flags from a file, and the file that repeats a study."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from studies import PROGRAM, run

from coco1k_kd.errors import UserError
from coco1k_kd.study.config import CONFIG, read_config, write_config
from coco1k_kd.study.settings import Settings

sys.path.insert(0, str(PROGRAM.parent))
from test_coco1k_kd import read_flags


def test_a_file_stands_for_flags_and_what_is_typed_wins(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 7\nfreeze_bn: true\nrun-download: false\narms: [baseline, cwd]\nhours: .inf\ndraws:\n")
    said = read_flags(["--config", str(path), "--epochs", "3"])
    assert (said["epochs"], said["freeze_bn"], said["run_download"]) == (3, True, False)
    assert said["arms"] == ["baseline", "cwd"] and said["hours"] == float("inf") and said["draws"] == 1
    assert read_flags(["--config", str(path), "--arms", "mgd"])["arms"] == ["mgd"]
    assert said.keys() == read_flags([]).keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epocs: 3", r"unknown key epocs \(did you mean epochs\?\)"),
        ("resume: true", "unknown key resume"),
        ("epochs: three", "--epochs: invalid int value: 'three'"),
        ("train: {lr0: 0.1}", "train is a mapping"),
        ("just words", "give flags by name"),
        ("a: [", "while parsing"),
        ("epochs: 2026-99-99", "month must be in"),
        (f"arms: {5000 * '['}", "nested too deeply"),
        ("arms: &all [*all]", "aliases .* stand for more than can be read"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_fault(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_flags(["--config", str(path)])
    assert str(caught.value).startswith(f"--config {path}: ") and "\n" not in str(caught.value)


def test_what_is_written_is_read_as_the_same_settings(tmp_path: Path) -> None:
    given = Settings(
        data=tmp_path / "a b.yaml",
        teacher=["t.pt"],
        arms=["cwd:tau=2"],
        seeds=[0, 1],
        draws="2",
        hours=float("inf"),
        train=["lr0=-1"],
    )
    path = write_config(given, tmp_path)
    assert path.name == CONFIG
    known = [f"--{name.replace('_', '-')}" for name in vars(given)]
    assert "--train" in read_config(path, known)
    path.write_text(f"{path.read_text()}class_map: [-a=b]\n")
    assert "--class-map=-a=b" in read_config(path, known), "alone it would be taken for a flag"
    said = read_flags(["--config", str(write_config(given, tmp_path))])
    same = {name: said[name] for name in vars(given) if name in said} | {"seeds": [int(n) for n in said["seeds"]]}
    assert Settings(**same) == given


def test_a_study_writes_the_file_that_repeats_it(whole: SimpleNamespace, command: list[str], tmp_path: Path) -> None:
    written = yaml.safe_load((whole.project / CONFIG).read_text())
    assert written["epochs"] == 3 and written["seeds"] == [0] and written["project"] == str(whole.project)
    project = tmp_path / "experiments"
    shutil.copytree(whole.project, project)
    done = run([*command[:2], "--config", str(whole.project / CONFIG), "--project", str(project), "--resume"])
    assert done.returncode == 0 and "going on with the study" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("finished before") == 2, "the same study: nothing is trained"
