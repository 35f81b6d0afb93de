"""Data YAMLs as Ultralytics reads them: what is not UTF-8 and what YAML forbids is passed over.

Ask here before Ultralytics reads one: a few lines can stand for more than the memory holds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from coco1k_kd.errors import UserError

_MOST = 10_000_000  # characters that a file may stand for
_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.2, 5.1: c-printable


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a data YAML holds.

    OSError if it cannot be read, yaml.YAMLError if it holds no mapping, UserError if nobody should read it.
    """
    content = load(_FORBIDDEN.sub("", path.read_text(encoding="utf-8", errors="ignore")), str(path))
    if not isinstance(content, dict):
        raise yaml.YAMLError(f"it holds {type(content).__name__}, not key: value")
    return content


def load(text: str, where: str) -> Any:
    """What a YAML holds. UserError where it would fill the memory, ValueError or yaml.YAMLError where it is none."""
    try:
        content = yaml.safe_load(text)
        if _length(content, {}) > _MOST:
            raise UserError(f"{where}: its aliases (*) stand for more than can be read; write out what they mean")
    except RecursionError:
        raise UserError(f"{where}: it is nested too deeply") from None
    return content


def _length(content: Any, known: dict[int, int]) -> int:
    """How long a value would be in words, where every alias counts anew; one within itself has no end."""
    if isinstance(content, str):
        return 1 + len(content)
    if not isinstance(content, (dict, list)):
        return 1
    if id(content) not in known:
        known[id(content)] = _MOST
        parts = [*content, *content.values()] if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_length(part, known) for part in parts)
    return known[id(content)]
