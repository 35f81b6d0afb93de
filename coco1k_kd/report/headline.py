"""What to do, from all comparisons at once: the report's first line. The cases stand in docs/report.md."""

from __future__ import annotations

from statistics import fmean

from coco1k_kd.names import BASELINE, CONTROLS, SAME_TIME
from coco1k_kd.report.comparison import Answer, Comparison
from coco1k_kd.verdict.entry import Entry


def answer(comparison: Comparison) -> tuple[Answer, Entry | None]:
    """The answer, and the comparison that it speaks of: of the arm that matters most; None where none was made."""
    arms = [entry for entry in comparison.comparisons if entry.against == BASELINE and not is_control(entry.arm)]
    if not arms:
        return "not_known", None
    best = max(arms, key=lambda entry: entry.d_ap.mean)
    if _none_beats_the_student(comparison):
        return "keep_student", best
    beaten = [entry for entry in comparison.comparisons if beaten_at_equal_time(entry)]
    lost = {entry.arm for entry in beaten}
    wins = [entry for entry in arms if entry.verdict == "improves" and entry.arm not in lost]
    above = {entry.arm for entry in comparison.against_given if entry.d_ap.interval[0] > 0}
    if wins:
        return "use_teacher", max(wins, key=lambda entry: (entry.arm in above, entry.d_ap.mean))
    if beaten:
        return "train_longer", max(beaten, key=lambda entry: entry.d_ap.mean)
    words = {entry.verdict for entry in arms}
    if words == {"hurts"}:
        return "hurts", best
    if words <= {"hurts", "no_difference"}:
        return "no_difference", max(arms, key=lambda entry: (entry.verdict == "no_difference", entry.d_ap.mean))
    return "not_known", best


def beaten_at_equal_time(entry: Entry) -> bool:
    """Whether a baseline that had no more time than the arm was shown to be better."""
    return entry.against == SAME_TIME and entry.verdict == "hurts" and not (entry.times and entry.times.less)


def is_control(arm: str) -> bool:
    """Whether an arm of this name, whatever its settings, is never the answer."""
    return arm.partition(":")[0] in CONTROLS


def _none_beats_the_student(comparison: Comparison) -> bool:
    """Whether no arm was shown to be above the student as given, on classes that it knows.

    By the intervals on images that chose no epoch, where there are such; else by AP, if need be of the val images,
    whose choice of the epoch flatters the arms alone, so that an arm not above the student even there is not above it.
    """
    if comparison.against_given:
        return all(entry.d_ap.interval[0] <= 0 for entry in comparison.against_given)
    student = comparison.references.get("student")
    if student is None or student.ap_of_all is None:
        return False
    given, best = given_and_best(comparison)
    return best <= given


def given_and_best(comparison: Comparison) -> tuple[float, float]:
    """AP of the student as given, and the highest mean AP of an arm: on the images that judge where both have that."""
    student = comparison.references["student"]
    arms = [arm for name, arm in comparison.arms.items() if not is_control(name)]
    judged = [[run.ap_judge for run in arm.runs if run.ap_judge is not None] for arm in arms]
    if student.ap_judge is not None and all(judged):
        return student.ap_judge, max(fmean(runs) for runs in judged)
    return student.ap or 0.0, max(arm.mean["ap"] or 0.0 for arm in arms)
