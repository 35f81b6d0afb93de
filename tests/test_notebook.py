"""docs/notebook.ipynb runs from own images to the report and an exported student, as a reader runs it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import programs
import pytest

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOK = PROJECT / "docs" / "notebook.ipynb"


def test_where_nothing_is_installed_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "".join(next(c for c in json.loads(NOTEBOOK.read_bytes())["cells"] if c["cell_type"] == "code")["source"])
    ran: list[list[str]] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda command, check: ran.append(command))
    with pytest.raises(SystemExit, match="set REPOSITORY in this cell"):
        exec(cell, {})
    assert not ran
    exec(cell.replace('REPOSITORY = ""', 'REPOSITORY = "git+https://example.org/o/n"'), {})
    assert ran[0][1:6] == ["-m", "pip", "install", "-q", "git+https://example.org/o/n"]


def test_the_notebook_goes_from_images_to_the_report(
    subset: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            shutil.copytree(subset / kind / f"{split}2017", tmp_path / "mine" / kind / split)
    truth = json.loads((subset / "annotations" / "instances_val2017.json").read_bytes())
    names = [category["name"] for category in sorted(truth["categories"], key=lambda category: category["id"])]
    given = {"FOLDER": tmp_path / "mine", "CLASSES": ",".join(names), "EPOCHS": 1, "IMAGE_SIZE": 64, "SEEDS": 0}
    given |= {"STUDENT": models / "student.pt", "TEACHER": models / "teacher.pt", "EXPORT": "torchscript"}
    for name, value in given.items():
        monkeypatch.setenv(f"KD_{name}", str(value))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    forked = tmp_path / "python"  # which is called with -u
    forked.write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" -S "{programs.__file__}" "$@"\n')
    forked.chmod(0o755)
    monkeypatch.setenv(programs.ADDRESS, programs.address(os.environ))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"import sys; sys.executable = {str(forked)!r}"))
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is committed as nobody has run it"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    shown = {kind for output in outputs for kind in output.get("data", {})}
    (comparison,) = (tmp_path / "my_study").glob("comparison_*.json")
    content = json.loads(comparison.read_bytes())
    assert f"train: {48} images" in printed and content["headline"]["text"] in printed
    assert {"image/png", "text/markdown"} <= shown
    assert list(content["arms"]) == ["baseline", "cwd+response"]
    for row in content["exports"]:
        assert row["file"] in printed and Path(row["file"]).is_file()
