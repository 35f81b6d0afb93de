"""One table of losses: what is in it is known everywhere, what is not is refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coco1k_kd.distill import registry
from coco1k_kd.errors import UserError
from coco1k_kd.study.arms import arm_names, read_arm

PACKAGE = Path(registry.__file__).parents[1]


def test_the_table_needs_no_torch():
    code = "import sys, coco1k_kd.distill.registry as r; assert 'torch' not in sys.modules; print(*r.names())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"cwd", "mgd"} <= set(done.stdout.split())


def test_every_loss_has_what_is_asked_of_it():
    for name in registry.names():
        (loss,) = registry.parts(name.upper())
        assert 0 < loss.weight <= loss.fresh_weight and loss.cost >= 1
        assert registry.default_weight([loss]) == loss.weight and registry.default_weight([loss], fresh=True) > 0
        assert loss.make(channels=8, seed=0, tau=1.0, mask_ratio=0.5, classes=[(0, 0)])
        assert name in arm_names() and read_arm(name).parts == (loss,) and read_arm(name).learns


@pytest.mark.parametrize(
    ("name", "message"), [("no_such_loss", "unknown loss 'no_such_loss'"), ("cwd+", "unknown"), ("cwd+cwd", "twice")]
)
def test_what_is_not_in_it_is_refused_and_becomes_no_other(name, message):
    with pytest.raises(UserError, match=message):
        registry.parts(name)


def test_sums_have_a_weight_for_each_part_and_cost_little_more_than_their_dearest():
    mgd, cwd = summed = registry.parts("MGD+cwd")
    assert (mgd.name, cwd.name) == ("mgd", "cwd")
    assert registry.default_weight(summed) == (mgd.weight, cwd.weight)
    assert registry.default_weight(summed, fresh=True) == (mgd.fresh_weight, cwd.fresh_weight)
    assert max(mgd.cost, cwd.cost) < registry.cost(summed) < mgd.cost + cwd.cost


@pytest.mark.parametrize(
    "name", ["baseline", "Teacher", "baseline_same_time", "pool_truth", "box", "cls", "loss", "kd", "dfl_loss", "angle"]
)
def test_a_name_that_means_something_else_names_no_loss(name):
    before = registry.names()
    with pytest.raises(UserError, match="cannot name a loss: an arm, a row or a column") as caught:
        registry.register_loss(name, weight=1)(type("Mine", (), {}))
    assert "\n" not in str(caught.value) and registry.names() == before


L2 = '''"""A loss of one file."""

import torch
import torch.nn.functional as F

from coco1k_kd.distill.registry import built_in


@built_in(name="a_new_one", weight=2.0, cost=1.5, help="the squared difference")
class L2Loss(torch.nn.Module):
    def forward(self, student, teacher):
        return F.mse_loss(student.float(), teacher.float())
'''


def test_a_loss_of_the_package_is_one_file(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / PACKAGE.name / "distill" / "a_new_file.py").write_text(L2)
    code = (
        "import sys\n"
        "from coco1k_kd.distill import registry\n"
        "from coco1k_kd.study.arms import read_arm\n"
        "from coco1k_kd.study.settings import Settings\n"
        "arm = read_arm('cwd+a_new_one:every=2')\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'a_new_one, the squared difference' in Settings.__dataclass_fields__['loss'].metadata['help']\n"
        "assert registry.default_weight(arm.parts, fresh=True) == (3.0, 6.0) and arm.parts[1].cost == 1.5\n"
        "import torch\n"
        "print(float(arm.parts[1].make(channels=4, tau=1.0)(torch.zeros(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "9.0\n"


def test_no_two_losses_of_the_package_have_a_name():
    names = [row.name for row in registry._rows(PACKAGE / "distill")]
    assert len(set(names)) == len(names) >= 3 and set(names) <= set(registry.names())
