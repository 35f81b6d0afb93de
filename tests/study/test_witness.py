"""Ultralytics' own AP is held against ours, and a difference that its rules do not explain is said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from coco1k_kd.report.comparison import OwnFigures
from coco1k_kd.report.markdown import note_ap
from coco1k_kd.report.words import Words
from coco1k_kd.study.arms import read_arm
from coco1k_kd.study.witness import TOLERANCE, witness


def figures(ap: float, own: float, ap_last: float = 0.3, own_last: float = 0.3) -> SimpleNamespace:
    both = OwnFigures(0.5, own), OwnFigures(0.5, own_last)
    return SimpleNamespace(ap=ap, ap_last=ap_last, ultralytics=both[0], ultralytics_last=both[1], fitted=None)


def test_the_farthest_figure_of_all_runs_and_models_is_named() -> None:
    cwd = read_arm("cwd")
    runs = {(read_arm("baseline"), (0, 0)): figures(0.30, 0.29), (cwd, (0, 1)): figures(0.30, 0.31, 0.30, 0.25)}
    blank = SimpleNamespace(ap=None, ultralytics=None, fitted=None)
    found = witness(runs, {"student": figures(0.2, 0.2), "teacher": blank})
    assert (found.of, found.difference) == ("cwd (seed 1), last epoch", pytest.approx(-0.05)) and not found.agrees
    runs[cwd, (0, 1)].ultralytics_last = OwnFigures(0.5, 0.3 + 0.9 * TOLERANCE)
    assert witness(runs, {}).agrees
    assert witness(runs, {"student": figures(0.2, 0.2 + 1.1 * TOLERANCE)}).of == "student as given"
    assert witness({}, {}) is None


@pytest.mark.parametrize(("language", "said"), [("en", "Check this: of cwd"), ("ko", "확인이 필요합니다: cwd")])
def test_the_report_says_where_the_two_disagree_and_is_silent_where_they_agree(language: str, said: str) -> None:
    words = Words(language)
    words.elsewhere = words.repeated = lambda _: ""
    for own, shown in ((0.35, True), (0.32, False)):
        audit = SimpleNamespace(witness=witness({(read_arm("cwd"), (0, 0)): figures(0.3, own)}, {}))
        note = note_ap(SimpleNamespace(audit=audit, references={}), words)
        assert (said in note) == shown and ("5.0" in note) == shown
