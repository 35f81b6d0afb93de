"""Data YAMLs as Ultralytics reads them: what is not UTF-8 and what YAML forbids is passed over."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.2, 5.1: c-printable


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a data YAML holds. OSError if it cannot be read, yaml.YAMLError if it holds no mapping."""
    content = yaml.safe_load(_FORBIDDEN.sub("", path.read_text(encoding="utf-8", errors="ignore")))
    if not isinstance(content, dict):
        raise yaml.YAMLError(f"it holds {type(content).__name__}, not key: value")
    return content
