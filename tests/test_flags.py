"""The command line: commands as they were typed, misspelt flags, and a help that leaves nothing out."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from coco1k_kd import flags
from coco1k_kd.errors import UserError
from coco1k_kd.study import label
from coco1k_kd.study.settings import Settings

PROJECT = Path(__file__).resolve().parents[1]


def command(*words: str, folder: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("program", "name", "line"),
    [
        ("/somewhere else/test_coco1k_kd.py", "create_coco1k.py", "python create_coco1k.py"),
        ("coco1k-kd compare", "coco1k-kd create", "coco1k-kd create"),
        ("/venv/bin/coco1k-kd", "coco1k-kd create", "coco1k-kd create"),
        ("", "create_coco1k.py", "python create_coco1k.py"),
    ],
)
def test_commands_are_named_as_they_are_typed(
    program: str, name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert flags.typed("create") == name and flags.command_line("create") == line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["test_coco1k_kd.py", "--techer", "x.pt"],
            "--techer (did you mean --teacher?): --help lists",
        ),
        (["test_coco1k_kd.py", "--arms", "cwd", "--eppochs=3"], "unknown flag --eppochs (did you mean --epochs?)"),
        (["create_coco1k.py", "--targetsize", "3"], "unknown flag --targetsize (did you mean --target-size?)"),
        (["create_coco1k.py", "coco"], "unknown flag coco"),
        (["test_coco1k_kd.py", "--epochs", "many"], "--epochs: invalid int value: 'many'"),
        (["-m", "coco1k_kd", "compare", "--data", "no.yaml"], "make a subset with coco1k-kd create"),
        (["test_coco1k_kd.py", "--data", "no.yaml"], "make a subset with create_coco1k.py"),
    ],
)
def test_a_fault_is_one_line_that_says_the_way_out(words: list[str], said: str) -> None:
    done = command(*words)
    assert done.returncode == 2 and said in done.stderr and done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1 and not done.stdout


def test_every_flag_is_explained_with_its_default() -> None:
    sys.path.insert(0, str(PROJECT))
    import create_coco1k
    import test_coco1k_kd

    of_study = test_coco1k_kd.parser()
    assert len([group for group in of_study._action_groups if group._group_actions]) == 8
    for parser in (of_study, create_coco1k.parser(), label.parser()):
        for action in parser._actions:
            of_settings = parser is of_study and action.dest in vars(Settings()) and action.nargs != 0
            has_default = action.default not in (None, False, [], "", argparse.SUPPRESS)
            assert action.help, action.option_strings
            assert "default" in action.help or not (of_settings or has_default), action.option_strings


def test_flags_may_be_cut_short_where_that_is_clear() -> None:
    parser = flags.Parser("")
    parser.add_argument("--epochs", type=int)
    assert parser.parse_args(["--epo", "3"]).epochs == 3
    with pytest.raises(UserError, match="unknown flag --batch: --help"):
        parser.parse_args(["--batch", "3"])
