"""One table of losses: what is in it is known everywhere, what is not is refused."""

import subprocess
import sys

import pytest

from coco1k_kd.distill import registry
from coco1k_kd.errors import UserError
from coco1k_kd.study.arms import arm_names, distilled, in_order, is_arm, step_cost


def test_the_table_needs_no_torch():
    code = "import sys, coco1k_kd.distill.registry as r; assert 'torch' not in sys.modules; print(*r.names())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"cwd", "mgd"} <= set(done.stdout.split())


def test_every_loss_has_what_is_asked_of_it():
    for name in registry.names():
        (loss,) = registry.parts(name.upper())
        assert 0 < loss.weight <= loss.fresh_weight and loss.cost >= 1
        assert registry.default_weight(name) == loss.weight and registry.default_weight(name, fresh=True) > 0
        assert loss.make(channels=8, seed=0, tau=1.0, mask_ratio=0.5, classes=[(0, 0)])
        assert is_arm(name) and name in arm_names() and distilled([name]) == [name]
        assert step_cost(name, "cwd") == loss.cost > step_cost("baseline", "cwd") == 1.0


@pytest.mark.parametrize(
    ("name", "message"), [("no_such_loss", "unknown loss 'no_such_loss'"), ("cwd+", "unknown"), ("cwd+cwd", "twice")]
)
def test_what_is_not_in_it_is_refused_and_becomes_no_other(name, message):
    with pytest.raises(UserError, match=message):
        registry.parts(name)


def test_sums_have_a_weight_for_each_part_and_come_after_the_single_losses():
    assert [part.name for part in registry.parts("MGD+cwd")] == ["mgd", "cwd"]
    assert registry.default_weight("mgd+cwd") == (4.0, 1.0) and registry.default_weight("mgd+cwd", fresh=True) == (
        12,
        3,
    )
    assert step_cost("cwd+mgd:weight=1,3", "cwd") > step_cost("mgd", "cwd")
    arms = ["baseline_same_time", "ultralytics", "cwd+mgd", "mgd", "cwd:tau=2", "cwd", "baseline"]
    ordered = ["baseline", "cwd", "cwd:tau=2", "mgd", "cwd+mgd", "ultralytics", "baseline_same_time"]
    assert in_order(arms) == ordered
    assert step_cost("weight0", "mgd") == step_cost("mgd", "cwd")


@pytest.mark.parametrize(
    "name", ["baseline", "Teacher", "baseline_same_time", "pool_truth", "box", "cls", "loss", "kd", "dfl_loss", "angle"]
)
def test_a_name_that_means_something_else_names_no_loss(name):
    before = registry.names()
    with pytest.raises(UserError, match="cannot name a loss: an arm, a row or a column") as caught:
        registry.register_loss(name, weight=1)(type("Mine", (), {}))
    assert "\n" not in str(caught.value) and registry.names() == before
