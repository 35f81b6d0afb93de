"""benchmarks/kills.py in small: a study that is killed in a snapshot, at random and in its comparison ends the same."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from programs import forking

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kills", SCRIPT)
    module = sys.modules["kills"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_study_killed_three_times_says_what_the_undisturbed_one_says(
    kills: ModuleType, whole: SimpleNamespace, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(kills, "subprocess", forking())
    project, moments = tmp_path / "killed", [kills.SNAPSHOT, kills.RANDOM, kills.COMPARISON]
    killer = kills.Killer(command[:-2], seconds=60, rng=random.Random(0), runs=2)
    killer.study(project, moments)
    assert len(killer.told) + len(moments) == 3 and len(killer.told) > 1, "it ended before it was killed"
    stamp = whole.path.stem.removeprefix("comparison_")
    expected = kills.without_times(whole.content, whole.project, stamp)
    assert list(kills.where_they_differ(kills.comparison(project), expected)) == []


def test_a_difference_is_found_and_times_are_none(kills: ModuleType) -> None:
    one = {"ap": [0.1, {"train_seconds": 1.0}], "dir": "/a/run_1"}
    other = {"ap": [0.1, {"train_seconds": 2.0}], "dir": "/b/run_2"}
    alike = (kills.without_times(*part) for part in ((one, "/a", "1"), (other, "/b", "2")))
    assert list(kills.where_they_differ(*alike)) == []
    assert list(kills.where_they_differ(one, other | {"ap": [0.2, {"train_seconds": 1.0}]})) == [
        ".ap[0]: 0.1 against 0.2",
        ".dir: /a/run_1 against /b/run_2",
    ]
