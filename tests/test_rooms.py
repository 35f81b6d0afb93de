"""The package's rooms: imports go one way, and what needs no torch does not load it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "coco1k_kd"
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "names": set(),
    "flags": {"errors"},
    "demo": {"errors", "files"},
    "data": {"errors", "files", "flags"},
    "distill": {"errors", "names", "files", "data"},
    "verdict": {"errors", "files", "data"},
    "runs": {"errors", "files", "data", "distill"},
    "report": {"errors", "names", "files", "flags", "data", "verdict"},
    "study": {"errors", "names", "files", "flags", "data", "distill", "verdict", "runs", "report"},
}


def imports(path: Path) -> set[str]:
    """The rooms, or modules beside them, that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("coco1k_kd.")}
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room: str) -> None:
    files = list((PACKAGE / room).glob("*.py")) or [PACKAGE / f"{room}.py"]
    for file in files:
        found = imports(file) - {room} - {"__version__", "YOLO"}
        assert found <= MAY_IMPORT[room], f"{file.relative_to(PACKAGE)} imports {found - MAY_IMPORT[room]}"


def test_every_room_is_known_and_says_where_to_start() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == {"data", "distill", "verdict", "runs", "report", "study"}
    for room in rooms:
        text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
        assert text and "Start reading at" in text and "import" in text
        assert (PACKAGE / room / text.partition("Start reading at `")[2].partition("`")[0]).is_file()


@pytest.mark.parametrize("room", ["data", "verdict", "report"])
def test_no_torch_is_loaded(room: str) -> None:
    modules = [f"coco1k_kd.{room}.{path.stem}" for path in (PACKAGE / room).glob("[!_]*.py")]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert modules and subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
