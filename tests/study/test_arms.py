"""The names of arms, and what is read from them."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from coco1k_kd import names
from coco1k_kd.distill import registry
from coco1k_kd.errors import UserError
from coco1k_kd.study.arms import BASELINE, RANDOM, SAME_TIME, STOCK, WEIGHT0, arm_names, in_order, read_arm

VALUES = {"tau": "2", "levels": "16,32", "weight": "auto", "every": "4", "schedule": "constant"}


def names_of_arms() -> list[str]:
    """All arms without settings, sums of all orders, and for each of these some choice of settings."""
    losses = registry.names()
    sums = ["+".join(chosen) for n in range(1, len(losses) + 1) for chosen in itertools.permutations(losses, n)]
    draw = random.Random(0)
    chosen = [draw.sample(sorted(VALUES), draw.randint(1, len(VALUES))) for _ in sums]
    with_settings = [
        ":".join([one, *(f"{key}={VALUES[key]}" for key in keys)]) for one, keys in zip(sums, chosen, strict=True)
    ]
    return [*arm_names(), *sums, *with_settings]


def test_a_name_that_is_read_is_the_arms_name_again() -> None:
    read = {name: read_arm(name) for name in names_of_arms()}
    assert len(set(read.values())) == len(read) > 20, "other names are other arms"
    for name, arm in read.items():
        assert str(arm) == arm.name == name and read_arm(str(arm)) == arm == read_arm(name.upper())
        assert hash(read_arm(name)) == hash(arm) and arm != name, "an arm is no text"
        assert ":".join([arm.plain, *(f"{key}={value}" for key, value in arm.own.items())]) == name
        assert read_arm(arm.plain).parts == arm.parts


def test_an_arm_says_what_it_is() -> None:
    arm = read_arm("cwd+response:every=4:tau=2")
    assert [part.name for part in arm.parts] == ["cwd", "response"] and arm.loss == arm.plain == "cwd+response"
    assert dict(arm.own) == {"every": "4", "tau": "2"} and arm.learns and not arm.control
    assert (arm.simpler, read_arm(arm.plain).simpler, read_arm("cwd").simpler) == (
        ["cwd+response"],
        ["cwd", "response"],
        [],
    )
    assert arm.folder == "kd_cwd+response_every=4_tau=2"
    assert arm.distillation(2.0).every == 4 and arm.distillation(2.0).weight == 2.0
    assert [one.learns for one in (BASELINE, STOCK, SAME_TIME)] == [False, True, False]
    assert [one.folder for one in (BASELINE, STOCK, SAME_TIME)] == [
        *("baseline", "kd_ultralytics", "baseline_same_time"),
    ]
    assert not any(one.parts or one.loss or one.own or one.simpler for one in (BASELINE, STOCK, SAME_TIME, WEIGHT0))


def test_a_control_has_the_losses_of_an_arm_and_its_own_name() -> None:
    for control in (WEIGHT0, RANDOM):
        made = control.like(read_arm("mgd+cwd"))
        assert made == control and made.control and made.learns and made.loss == "mgd+cwd" and made.simpler == []
        assert made.cost == read_arm("mgd+cwd").cost > read_arm("mgd").cost
        assert made.folder == f"control_{control}" and made.plain == control.name


def test_an_arm_costs_as_much_as_its_losses_in_the_batches_that_are_taught() -> None:
    for name in registry.names():
        (loss,) = registry.parts(name)
        free = loss.compares == registry.LABELS  # the teacher has labelled before
        assert read_arm(name).cost == loss.cost >= BASELINE.cost == SAME_TIME.cost == 1.0
        assert free or loss.cost > 1
    taught = [read_arm(f"cwd+mgd:every={every}").cost - 1 for every in ("1", "4", "4.0")]
    assert taught[0] / 4 == pytest.approx(taught[1]) == taught[2]
    assert read_arm("cwd+mgd:weight=1,3").cost > read_arm("mgd").cost


def test_a_report_has_sums_after_single_losses() -> None:
    ordered = ["baseline", "cwd", "cwd:tau=2", "mgd", "cwd+mgd", "ultralytics", "baseline_same_time"]
    for seed in range(5):
        mixed = random.Random(seed).sample(ordered, len(ordered))
        assert [arm.name for arm in in_order(map(read_arm, mixed))] == ordered


def test_an_arm_may_have_a_teacher_of_its_own() -> None:
    arm = read_arm("CWD+response:every=4:Teacher=My/Big.pt")
    assert arm.name == "cwd+response:every=4:teacher=My/Big.pt" and read_arm(arm.name) == arm
    assert arm.teacher == "My/Big.pt" and arm.settings == {"every": "4"} and arm.distillation().every == 4
    assert arm.folder == "kd_cwd+response_every=4_teacher=Big.pt" and arm.cost == arm.with_teacher("").cost
    assert arm.simpler == ["cwd+response:every=4"] == [arm.with_teacher("").name]
    stock = read_arm("ultralytics:teacher=big.pt")
    assert stock.stock and stock.learns and stock.teacher == "big.pt" and stock.plain == "ultralytics"
    assert [one.teacher for one in (read_arm("cwd"), BASELINE)] == ["", ""]
    for wrong, message in (
        ("baseline:teacher=x.pt", "only arms of a loss take settings"),
        ("ultralytics:tau=2", "only arms of a loss take settings"),
        ("cwd:teacher=", "settings are given as cwd:SETTING=VALUE"),
    ):
        with pytest.raises(UserError, match=message):
            read_arm(wrong)
    with pytest.raises(UserError, match="it learns what the study's --teacher has labelled"):
        read_arm("pool+cwd:teacher=x.pt").distillation()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cdw", "unknown arm cdw (did you mean cwd?): choose of baseline, "),
        ("baselin", "unknown arm baselin (did you mean baseline?)"),
        ("cwd+respons", "unknown arm cwd+respons (did you mean response?)"),
        ("baseline+cwd", "unknown arm baseline+cwd"),
        ("zzz", "unknown arm zzz: choose of"),
        ("kl:tau=2", "unknown arm kl"),
        ("cwd+", "unknown arm cwd+: choose of"),
        ("", "unknown arm : choose of"),
        ("cwd+cwd", "the loss cwd+cwd names cwd twice"),
        ("cwd:tau", "settings are given as cwd:SETTING=VALUE"),
        ("cwd:", "settings are given as cwd:SETTING=VALUE"),
        ("cwd:tau=1:tau=2", "arm cwd:tau=1:tau=2 has the setting tau twice"),
        ("baseline:tau=2", "arm baseline:tau=2: only arms of a loss take settings"),
        ("weight0", "arm weight0 is a control: leave it out and give --controls"),
        ("random_teacher", "arm random_teacher is a control"),
    ],
)
def test_what_is_no_arm_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_arm(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cwd:tua=2", "arm cwd:tua=2: unknown setting 'tua' (did you mean tau?): choose of weight, schedule, tau,"),
        ("cwd:taecher=x", "unknown setting 'taecher' (did you mean teacher?): choose of weight, schedule, tau,"),
        ("mgd:levels=x", "distillation_levels='x' must be strides, as 16,32"),
        ("cwd:mask_ratio=0.4", "arm cwd:mask_ratio=0.4: mask_ratio is not a setting of the loss cwd"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read_arm(name).distillation()


def test_no_loss_has_the_name_of_an_arm_or_of_a_row() -> None:
    assert {*names.NAMED, names.STUDENT, names.TEACHER} <= registry.RESERVED
    assert not registry.RESERVED & set(registry.names())
    assert {name for name, row in names.NAMED.items() if row.control} == names.CONTROLS
