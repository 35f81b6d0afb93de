"""Which arms are compared with which."""

from __future__ import annotations

import pytest
from comparisons import comparison
from msgspec import structs
from plans import arms_of, made, pairs

from coco1k_kd.study import comparing
from coco1k_kd.study.arms import BASELINE, SAME_TIME
from coco1k_kd.verdict.entry import Components, Difference, Entry, Times
from coco1k_kd.verdict.looks import FIXED


def test_ours_are_compared_with_the_baseline_and_with_ultralytics_own() -> None:
    arms = ["baseline", "cwd", "mgd", "ultralytics", "baseline_same_time"]
    assert pairs(made(arms=arms, loss="mgd"), *arms) == [
        *(("cwd", "baseline"), ("mgd", "baseline"), ("ultralytics", "baseline")),
        *(("cwd", "ultralytics"), ("mgd", "ultralytics"), ("mgd", "baseline_same_time")),
    ]


def test_a_sum_is_compared_with_each_of_its_losses() -> None:
    arms = ["baseline", "cwd", "response", "cwd+response", "cwd+response:weight=1"]
    found = pairs(made(arms=arms), *arms)
    assert found[len(arms) - 1 :] == [
        *(("cwd+response", "cwd"), ("cwd+response", "response")),
        ("cwd+response:weight=1", "cwd+response"),
    ]
    assert pairs(made(arms=arms), "baseline", "cwd+response") == [("cwd+response", "baseline")]
    assert all(against.name == "baseline" for _, against in comparing.asked_for(made(arms=arms)))


@pytest.mark.parametrize(("word", "less", "left"), [
    ("hurts", True, "inconclusive"), ("no_difference", True, "inconclusive"), ("improves", True, "improves"),
    ("hurts", False, "hurts"),
])  # fmt: skip
def test_an_arm_that_had_less_time_can_only_win(
    monkeypatch: pytest.MonkeyPatch, word: str, less: bool, left: str
) -> None:
    effect = {"improves": 0.05, "hurts": -0.05, "no_difference": 0.0}[word]
    arms = arms_of("baseline", "cwd", "cwd:every=4", "baseline_same_time")
    sure = structs.replace(comparison(arms=("a", "b"), seeds=8, gain=0.05).comparisons[0], per_class={}, per_size={})
    other = comparison(arms=("a", "b"), seeds=8, gain=effect).comparisons[0]
    other = structs.replace(other, d_ap=_narrow(other.d_ap), last=structs.replace(other.last, d_ap=_narrow(other.d_ap)))

    def compared(pair: comparing.Pair, *_: object) -> Entry:
        entry = other if pair[0].name == "cwd:every=4" and pair[1] == SAME_TIME else sure
        return structs.replace(entry, arm=pair[0].name, against=pair[1].name)

    monkeypatch.setattr(comparing, "_compared", compared)
    plan, times = made(arms=[arm.name for arm in arms]), Times(100.0, 200.0 if less else 101.0)
    runs = [(arm, (0, 0)) for arm in arms]
    entries = comparing.judge_all(plan, runs, None, {}, FIXED, False, {arms[1]: Times(200.0, 200.0), arms[2]: times})
    found = entries[arms[2], SAME_TIME]
    assert (found.verdict, found.times) == (left, times) and found.last.verdict == left
    assert (found.reason == "more_time") == (word != left)
    assert entries[arms[1], SAME_TIME].verdict == "improves" and entries[arms[1], BASELINE].times is None


def _narrow(difference: Difference) -> Difference:
    """The same with next to no spread."""
    parts = Components(shared=1e-10, single=0.0, spread=1e-10, of_seeds=1e-10)
    return structs.replace(difference, components=parts)
