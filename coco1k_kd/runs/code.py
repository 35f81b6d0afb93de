"""A hash of the code that a training's result depends on, and the versions of the packages that it calls.

    python -m coco1k_kd.runs.code     # for the stage keys of run_coco1k_kd.sh

It covers `distill` and of `runs` what happens inside a run; what that reads has hashes of its own (`data/identity.py`).
Comments, docstrings and layout do not count, nor do the modules that start, place and display runs.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Of runs/ what starts, places, shows and reads runs, or works beside their training: all else is what a run depends on.
_BESIDE = ("board", "cluster", "code", "export", "formats", "launch", "results", "slots", "speed", "taught")


@lru_cache
def code_hash() -> str:
    """Sixteen hex digits."""
    runs = [file for file in sorted((_PACKAGE / "runs").glob("*.py")) if file.stem not in _BESIDE]
    files = [*sorted((_PACKAGE / "distill").glob("*.py")), *runs]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.stem.encode() + b"\0" + essence(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def essence(source: str) -> str:
    """Python source without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed, by name. None is imported."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def versions() -> dict[str, str]:
    """Of the packages that compute, by name."""
    import cv2
    import numpy
    import PIL
    import torch
    import torchvision
    import ultralytics

    return {
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),  # of a type of its own
        "ultralytics": ultralytics.__version__,
        "numpy": numpy.__version__,
        "torchvision": str(torchvision.__version__),
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }


if __name__ == "__main__":
    print(code_hash())
