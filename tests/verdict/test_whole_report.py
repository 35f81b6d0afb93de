"""A report of a study without effects seldom holds a false word: benchmarks/whole_report.py, held to the product."""

from __future__ import annotations

import numpy as np
import pytest
from simulation import simulated, slack


@pytest.mark.parametrize(("arms", "fixed"), [(3, False), (1, True)])
def test_a_report_without_effects_has_a_false_word_in_one_study_of_twenty_at_most(arms: int, fixed: bool) -> None:
    benchmark, studies = simulated("whole_report"), 300
    setup = benchmark.Setup(arms, fixed)
    figures = benchmark.drawn(setup, studies, np.random.default_rng(5))
    says, ungated, kinds = benchmark.at_once(setup, figures)
    assert says.mean() <= 0.05 + slack(studies) and kinds.mean() <= 0.05 + slack(studies)
    assert ungated.mean() > 0.15, "else there is nothing to be corrected"
    for number in {*np.flatnonzero(says)[:3], *np.flatnonzero(kinds)[:3], *range(4)}:
        assert benchmark.one_by_one(setup, figures, number) == (says[number], kinds[number])
