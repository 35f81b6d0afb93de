"""Which arms are compared with which."""

from __future__ import annotations

from plans import made, pairs

from coco1k_kd.study import comparing


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
