"""A loss in a user's own file: that of docs/adding-a-loss.md, through the comparison and through the API."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from programs import call
from studies import environment, run

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pkd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's file."""
    page = (PROJECT / "docs" / "adding-a-loss.md").read_text()
    file = tmp_path_factory.mktemp("own") / "pkd.py"
    file.write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1))
    return file


def in_process(pkd: Path, code: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, in the file's folder: registering is for a whole process."""
    command = [sys.executable, "-c", code, *more]
    own = {**environment(), "PYTHONPATH": str(PROJECT)}
    return call(command, cwd=pkd.parent, env=own)


def test_it_is_one_minus_the_correlation(pkd):
    """Half of the mean squared difference of standardised maps: arXiv 2207.02039, equation 4."""
    code = (
        "import torch, pkd; from coco1k_kd.distill import registry; from coco1k_kd.distill.losses import standardise\n"
        "torch.manual_seed(0); a, b = torch.randn(2, 2, 3, 5, 6)\n"
        "(loss,) = registry.parts('PKD')\n"
        "value = loss.make(channels=3, seed=0)(standardise(a), standardise(b))\n"
        "rows = [x.transpose(0, 1).flatten(1) for x in (a, b)]\n"
        "each = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*rows)]\n"
        "torch.testing.assert_close(value, 1 - torch.stack(each).mean(), rtol=1e-3, atol=1e-4)\n"
        "print(loss.weight, loss.fresh_weight, loss.file)"
    )
    done = in_process(pkd, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["6.0", "18.0", str(pkd)]


def test_a_study_compares_it_and_nothing_of_the_package_is_edited(pkd, command, tmp_path):
    more = ["--loss-file", str(pkd), "--arms", "baseline", "pkd+response:weight=2,1", "--epochs", "1", "--project"]
    done = run(command, *more, str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(next(tmp_path.glob("comparison_*.json")).read_bytes())
    assert list(content["arms"]) == ["baseline", "pkd+response:weight=2,1"]
    assert content["settings"]["loss_file"] == str(pkd) and len(content["settings"]["loss_file_sha256"]) == 64
    (folder,) = tmp_path.glob("kd_pkd*")
    with (folder / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["train/kd_pkd"]) > 0 and float(row["kd/weight_pkd"]) == 2


def test_the_api_takes_it_by_file_and_a_resumed_run_finds_it_again(pkd, subset, models, tmp_path):
    code = (
        "import sys; from coco1k_kd import YOLO\n"
        "class Cut(Exception): pass\n"
        "def cut(trainer):\n    raise Cut\n"
        "model = YOLO(sys.argv[1]); model.add_callback('on_fit_epoch_end', cut)\n"
        "try: model.train(data=sys.argv[3], teacher=sys.argv[2], distillation_loss='pkd', project=sys.argv[4],\n"
        "    distillation_loss_file='pkd.py', epochs=2, imgsz=64, batch=8,\n"
        "    workers=0, plots=False, device='cpu', name='run')\n"
        "except Cut: pass"
    )
    given = [str(models / "student.pt"), str(models / "teacher.pt"), str(subset / "coco1k.yaml"), str(tmp_path)]
    done = in_process(pkd, code, *given)
    assert done.returncode == 0, done.stderr
    last = next(tmp_path.rglob("last.pt"))
    saved = torch.load(last, weights_only=False)["optimizer"]["distillation"]
    assert saved["loss"] == "pkd" and saved["loss_file"] == str(pkd)
    again = "import sys; from coco1k_kd import YOLO; YOLO(sys.argv[1]).train(resume=True)"
    resumed = in_process(pkd, again, str(last))
    assert resumed.returncode == 0, resumed.stderr
    with (last.parents[1] / "results.csv").open() as file:
        assert [float(row["train/kd_loss"]) > 0 for row in csv.DictReader(file)] == [True, True]


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "deep.py").write_text("FACTOR = 2\n")
    (tmp_path / "own.py").write_text(
        "import torch\nfrom beside.deep import FACTOR\nfrom coco1k_kd import register_loss\n"
        "@register_loss('with_a_part', weight=FACTOR)\nclass Loss(torch.nn.Module): pass\n"
    )
    asked = (
        "import sys; from coco1k_kd.distill import registry as r; r.load(sys.argv[1]); print(r.parts('with_a_part'))"
    )
    done = subprocess.run([sys.executable, "-c", asked, str(tmp_path / "own.py")], capture_output=True, text=True)
    assert "weight=2" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a Python file"),
        ("x = 1\n", "registers no loss"),
        ("import nothing_of_that_name\n", "cannot be run: ModuleNotFoundError"),
        ("from coco1k_kd import register_loss\n@register_loss('cwd', weight=1)\nclass A: pass\n", "a loss cwd already"),
        ("from coco1k_kd import register_loss\n@register_loss('a b', weight=1)\nclass A: pass\n", "cannot name a loss"),
    ],
)
def test_an_unfit_file_is_refused_in_one_line(content, message, command, tmp_path):
    file = tmp_path / "own.py"
    if content:
        file.write_text(content)
    done = run(command, "--loss-file", str(file), "--project", str(tmp_path / "p"))
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "p").exists()
