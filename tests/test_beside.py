"""Tests lie beside what they test: each module with logic has a test file of its name, in the folder of its room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "coco1k_kd"
FEW = 3  # statements of a function that are no logic yet: a property, or something that is handed on
EXCEPTIONS = {"__main__": "test_console.py"}  # the command, which is tested as it is installed
FILES = sorted(PACKAGE.rglob("*.py"))


def longest(file: Path) -> int:
    """Statements of the longest function or method of a module, docstrings left out."""
    functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    counts = [sum(isinstance(part, ast.stmt) for part in ast.walk(one)) - 1 for one in functions]
    return max((n - bool(ast.get_docstring(one)) for n, one in zip(counts, functions, strict=True)), default=0)


@pytest.mark.parametrize("file", FILES, ids=[file.relative_to(PACKAGE).as_posix() for file in FILES])
def test_a_module_with_logic_has_a_test_file_of_its_name(file: Path) -> None:
    place = TESTS / file.parent.relative_to(PACKAGE) / EXCEPTIONS.get(file.stem, f"test_{file.stem}.py")
    assert place.is_file() or longest(file) <= FEW, f"tests/{place.relative_to(TESTS)} is missing"


def test_every_test_file_of_a_room_has_tests() -> None:
    for file in TESTS.rglob("test_*.py"):
        names = [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
        assert any(name.startswith("test_") for name in names), f"{file.relative_to(TESTS)} has none"
