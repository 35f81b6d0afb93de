"""The flags of a study in a YAML file: read in place of typing them, and written so that the study can be repeated."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from coco1k_kd.data.yamls import load
from coco1k_kd.errors import UserError, nearest
from coco1k_kd.files import write_atomic
from coco1k_kd.flags import command_line
from coco1k_kd.study.settings import Settings

CONFIG = "study.yaml"  # what a study writes into its project
_TYPED_ONLY = ("config", "help", "check", "report-only", "resume")  # what is done, which no file says


def read_config(path: Path, flags: Collection[str]) -> list[str]:
    """What a config file says, as it would be typed.

    Args:
        path: YAML of flags by name, as `epochs: 30` or `arms: [baseline, cwd]`; `-` and `_` are the same.
        flags: those of the program, as `--epochs`.

    Raises:
        UserError: it cannot be read, or has a key that is no flag.
    """
    try:
        content = load(path.read_text(), f"--config {path}") or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(f"--config {path}: {why}") from None
    if not isinstance(content, dict):
        raise UserError(f"--config {path}: give flags by name, as epochs: 30")
    known = {name.removeprefix("--") for name in flags} - {*_TYPED_ONLY}
    words: list[str] = []
    for key, value in content.items():
        name = str(key).replace("_", "-")
        if name not in known:
            raise UserError(f"--config {path}: unknown key {key}{nearest(name, known)}")
        words += _words(f"--{name}", value, path)
    return words


def _words(flag: str, value: Any, path: Path) -> list[str]:
    if isinstance(value, dict):
        raise UserError(f"--config {path}: {flag.removeprefix('--')} is a mapping; give a value or a list")
    if value is None or value is False or value == []:
        return []
    if value is True:
        return [flag]
    values = value if isinstance(value, list) else [value]
    alone = not isinstance(value, list) or (len(value) == 1 and str(value[0]).startswith("-"))  # else it is a flag
    return [f"{flag}={values[0]}"] if alone else [flag, *map(str, values)]


def write_config(settings: Settings, project: Path) -> Path:
    """Write the file that repeats a study, as its settings were given. Returns its path."""
    given = {setting.name: getattr(settings, setting.name) for setting in fields(Settings) if setting.metadata}
    told = {name: _plain(value) for name, value in given.items() if value not in (None, "", [])}
    path = project / CONFIG
    again = f"{command_line('compare')} --config {shlex.quote(str(path))}"
    head = f"# To repeat this study, in {Path.cwd()}:\n# {again}\n"
    write_atomic(path, head + yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
    return path


def _plain(value: Any) -> Any:
    """A setting as YAML has it."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, (bool, int, float, str)) else str(value)
