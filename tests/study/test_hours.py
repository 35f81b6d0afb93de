"""Nothing is begun that would not end in time."""

from __future__ import annotations

import math

import pytest
from msgspec import structs
from plans import arms_of, key_of, timed

from coco1k_kd.study.hours import SECONDS, Hours, run_seconds, unit_seconds


def test_a_clock_goes_on_from_what_earlier_commands_have_spent() -> None:
    now = [1000.0]
    hours = Hours(2, spent=600, clock=lambda: now[0])
    assert (hours.spent, hours.left) == (600, 2 * SECONDS - 600)
    now[0] += 1000
    assert hours.spent == 1600 and hours.hold(2 * SECONDS - 1600) and not hours.hold(2 * SECONDS - 1599)
    assert Hours(math.inf).hold(1e12) and Hours(math.inf).left == math.inf


def test_a_run_takes_what_runs_of_its_arm_took_else_what_its_steps_cost_more_than_others() -> None:
    baseline, cwd, mgd = arms_of("baseline", "cwd", "mgd")
    assert run_seconds({}, cwd) == 0
    results = {key_of("baseline", seed=seed): timed(100.0 + 20 * seed) for seed in (0, 1)}
    assert run_seconds(results, baseline) == 110
    assert run_seconds(results, cwd) == pytest.approx(120 * cwd.cost / baseline.cost), "by the longest"
    results[key_of("cwd")] = structs.replace(timed(200.0), train_seconds=150.0)
    assert run_seconds(results, cwd) == 200
    expected = max(50 + 150 * mgd.cost / cwd.cost, 120 * mgd.cost / baseline.cost)
    assert run_seconds(results, mgd) == pytest.approx(expected), "validation costs all arms the same"


def test_runs_side_by_side_take_a_share_each_and_never_less_than_the_longest() -> None:
    results = {key_of("baseline"): timed(100.0), key_of("cwd"): timed(300.0)}
    keys = [key_of(arm, seed=1) for arm in ("baseline", "cwd")]
    assert [unit_seconds(results, keys, at_once) for at_once in (1, 2, 4)] == [400, 300, 300]
    assert unit_seconds(results, [], 2) == 0
