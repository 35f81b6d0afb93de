"""Levels of the looks, and the share of each arm."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from msgspec import structs
from scipy.stats import ttest_1samp
from simulation import BENCHMARKS, ends, simulated, slack

from coco1k_kd.errors import UserError
from coco1k_kd.verdict.compare import decide, decide_families
from coco1k_kd.verdict.entry import Entry, Last
from coco1k_kd.verdict.intervals import BAND, Estimate, verdict
from coco1k_kd.verdict.looks import ALPHA, FIXED, Design, sequential, settled


def made(mean, shared, arm="cwd", against="baseline", seeds=3) -> Entry:
    estimate = Estimate(mean, 1, seeds, 400, shared)
    word, reason = verdict(estimate)
    difference = estimate.summary()
    return Entry(
        arm=arm,
        against=against,
        draws=[0],
        seeds=list(range(seeds)),
        images=400,
        d_ap=difference,
        d_ap50=difference,
        per_run=[],
        mde=estimate.mde(),
        verdict=word,
        reason=reason,
    )


def test_levels_of_the_default_looks():
    assert sequential().levels == pytest.approx((0.0110, 0.0183, 0.0293), abs=1e-4)


@pytest.mark.parametrize("looks", [(3, 5, 8), (2, 4), (6,)])
def test_all_looks_together_err_in_one_of_twenty(looks):
    """By t tests of scipy on seeds that are drawn one by one."""
    design, studies = sequential(looks), 20_000
    seeds = np.random.default_rng(1).normal(size=(studies, looks[-1]))
    wrong = np.zeros(studies, bool)
    for look, level in zip(design.looks, design.levels, strict=True):
        wrong |= ttest_1samp(seeds[:, :look], 0, axis=1).pvalue < level
    assert wrong.mean() == pytest.approx(ALPHA, abs=3 * (ALPHA / studies) ** 0.5)


def test_one_look_is_a_fixed_design():
    assert sequential([6]).levels == pytest.approx((0.05,), abs=2e-4)
    assert FIXED.level_at(3) == FIXED.level_at(7) == 0.05 and FIXED.level_at(3, 2) == 0.025
    assert FIXED.overall(0.2, 3) == 0.2


def test_a_number_of_seeds_between_or_beyond_the_looks_has_the_level_of_a_further_look():
    design = sequential()
    assert design.level_at(4) == Design((3, 4, 5, 8)).levels[1] < design.level_at(5)
    assert design.level_at(12) == Design((3, 5, 8, 12)).levels[3] < 0.05
    assert design.next_look(3) == 5 and design.next_look(8) is None


@pytest.mark.parametrize("look", [3, 5, 8])
def test_level_and_corrected_p_say_the_same(look):
    design = sequential()
    for family in (1, 3):
        level = design.level_at(look, family)
        assert (
            family * design.overall(0.999 * level, look) < ALPHA < family * design.overall(1.001 * level, look) + 2e-4
        )
    assert design.overall(1e-12, look) < 1e-10 and design.overall(1.0, look) == 1


@pytest.mark.parametrize("looks", [(), (1, 3), (0,), (3, 3), (5, 3), (3, 5, 101), tuple(range(2, 13))])
def test_looks_without_levels_are_refused(looks):
    with pytest.raises(UserError, match=r"^--looks .*") as error:
        sequential(looks)
    assert "\n" not in str(error.value)


def test_arms_share_the_error_in_equal_parts():
    se = 0.004
    surest, sure, unsure = (made(t * se, se**2, arm) for t, arm in ((3.0, "a"), (2.1, "b"), (1.0, "c")))
    assert [e.verdict for e in (surest, sure, unsure)] == ["improves", "improves", "inconclusive"]
    decided = decide([surest, sure, unsure])
    assert [e.verdict for e in decided] == ["improves", "inconclusive", "inconclusive"]
    for entry in decided:
        assert entry.family == 3 and entry.level == ALPHA / 3
        assert (entry.p_holm < ALPHA) == (entry.d_ap.ci[0] > 0)
        assert entry.d_ap.ci95[0] > entry.d_ap.ci[0] and entry.p_holm >= entry.d_ap.p
    assert decide([sure])[0].verdict == "improves"
    assert decide([sure], family=3)[0] == decide([surest, sure, unsure])[1], "arms that have no runs yet have a share"


def test_what_nobody_asked_for_has_no_word_where_nothing_was_found():
    entries = [made(3.0 * 0.004, 0.004**2), made(-3.0 * 0.004, 0.004**2), made(0.0, 1e-8)]
    assert [e.verdict for e in decide(entries)] == ["improves", "hurts", "no_difference"]
    gated = decide(entries, found=False)
    assert [(e.verdict, e.reason) for e in gated] == [
        ("inconclusive", "gate"),
        ("inconclusive", "gate"),
        ("no_difference", None),
    ]
    assert [e.d_ap for e in gated] == [e.d_ap for e in decide(entries)]


def test_a_look_asks_for_more_than_a_fixed_design():
    entry = made(2.3 * 0.004, 0.004**2)
    (fixed,), (first,) = decide([entry]), decide([entry], sequential(), unplanned=True)
    assert settled(fixed) and fixed.level == 0.05 and not fixed.unplanned
    assert not settled(first) and first.level == sequential().level_at(3) and first.unplanned
    assert first.d_ap.ci95 == fixed.d_ap.ci95 and first.d_ap.ci[0] < 0 < first.d_ap.ci95[0]
    assert first.mde > fixed.mde and first.needed.images > 400


def test_what_settles_as_no_difference_leaves_its_share_to_none():
    none, sure = made(0.0, 1e-8, "a"), made(2.1 * 0.004, 0.004**2, "b")
    assert [e.verdict for e in decide([none, sure])] == ["no_difference", "inconclusive"]


@pytest.mark.parametrize(
    "what",
    [
        {"arms": 3, "share": 0.3, "unequal": True, "standard_error": 0.0012},
        {"arms": 2, "truth": 0.003, "standard_error": 0.0007, "futility": False, "heavy": True},
        {"share": 0.9, "cluster": 10, "uneven": True},
        {"looks": (5,), "fixed": True, "arms": 2, "truth": -0.01},
    ],
)
def test_many_studies_at_once_end_as_each_does_alone(what):
    """The simulation's arrays, against `compare_figures`, `decide`, `settled` and `futile` study by study."""
    benchmark, studies = simulated(), 25
    case = benchmark.Case(**what)
    figures = benchmark.drawn(case, studies, np.random.default_rng(3))
    found = benchmark.at_once(case, figures)
    for number in range(studies):
        entries = benchmark.one_by_one(case, figures, number)
        assert found.seeds[number] == max(len(entry.seeds) for entry in entries)
        assert found.given[number] == any(map(settled, entries))
        assert found.held[number] == all(e.d_ap.ci[0] <= case.truth <= e.d_ap.ci[1] for e in entries)
        words = {"improves": case.truth <= 0, "hurts": case.truth >= 0, "no_difference": abs(case.truth) >= BAND}
        assert found.false[number] == any(words.get(entry.verdict, False) for entry in entries)
    assert found.given.sum() > 0 or len(set(found.seeds)) > 1, "else there is little to compare"


@pytest.mark.parametrize(("share", "truth", "heavy"), [(0.0, 0.0, False), (0.6, -0.003, True)])
def test_studies_that_stop_when_they_are_settled_hold_their_promise(share, truth, heavy):
    found = ends(4000, truth=truth, share=share, heavy=heavy)
    assert found.false.mean() <= 0.05 + slack(4000) and found.held.mean() >= 0.95 - slack(4000)
    assert set(found.seeds) == {3, 5, 8}, "some stop early, some go on"


def test_a_true_difference_is_found_early():
    found = ends(500, truth=0.01, share=0.9)
    assert (found.given & ~found.false).mean() > 0.9 and found.seeds.mean() < 5


@pytest.mark.parametrize("error", [0.0007, 0.003])
@pytest.mark.parametrize("arms", [1, 6])
def test_arms_without_an_effect_hold_their_promise_together(arms, error):
    found = ends(4000, arms=arms, standard_error=error)
    assert found.false.mean() <= 0.05 + slack(4000) and found.held.mean() >= 0.95 - slack(4000)
    assert (1 + arms) * 3 <= found.runs.min() and found.runs.max() <= (1 + arms) * 8


def test_the_benchmark_prints_one_case_as_json():
    flags = [
        "--arms",
        "2",
        "--effect",
        "0.003",
        "--standard-error",
        "0.002",
        "--studies",
        "20",
        "--seed",
        "1",
        "--json",
    ]
    done = subprocess.run([sys.executable, str(BENCHMARKS / "looks.py"), *flags], capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found.keys() == {"false", "held", "runs"} and found["held"] >= 0.8 and 9 <= found["runs"] <= 24


def test_futility_spares_runs_and_costs_neither_truth_nor_power():
    for truth, least in ((0.0, 0.2), (0.01, 0.0)):
        stopped, all_looks = (ends(2000, truth=truth, share=0.3, futility=on) for on in (True, False))
        assert stopped.runs.sum() <= (1 - least) * all_looks.runs.sum()
        assert stopped.false.sum() <= all_looks.false.sum(), "the rule is non-binding"
        assert stopped.given.sum() >= all_looks.given.sum() - 0.02 * 2000


def test_clusters_hold_their_promise_where_the_study_knows_them():
    known, unknown = (ends(1000, share=0.9, cluster=10, grouped=grouped).false.mean() for grouped in (True, False))
    assert known <= 0.05 + slack(1000)
    assert unknown > 0.12, "else the test could not tell"


def test_the_last_epoch_has_no_word_where_the_verdict_has_none():
    """The report would else have two chances of a false one."""
    sure, unsure = made(3.0 * 0.004, 0.004**2), made(0.004, 0.004**2)
    of_last = [Last(e.d_ap, e.d_ap50, e.mde, e.verdict) for e in (sure, unsure)]
    (open_one,) = decide([structs.replace(unsure, last=of_last[0])])
    assert (open_one.last.verdict, open_one.last.reason) == ("inconclusive", "gate") and not open_one.at_odds
    (settled_one,) = decide([structs.replace(sure, last=of_last[0])])
    assert settled_one.last.verdict == "improves" and settled_one.last.reason is None
    (at_odds,) = decide([structs.replace(sure, last=of_last[1])])
    assert at_odds.at_odds and at_odds.last.verdict == "inconclusive"


def test_other_families_have_a_word_only_where_the_first_found_something():
    sure, unsure = made(3.0 * 0.004, 0.004**2), made(0.004, 0.004**2)
    for first, words in ((sure, ["improves", "improves"]), (unsure, ["inconclusive", "inconclusive"])):
        families = decide_families([first], [sure], [], family=1)
        assert [[entry.verdict for entry in family] for family in families] == [[words[0]], [words[1]], []]
    assert decide_families([unsure], [sure])[1][0].reason == "gate"
