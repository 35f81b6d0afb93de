"""Warnings of the report that no interval covers."""

from __future__ import annotations

from statistics import median

from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.words import Words

COLLAPSED = 0.5  # of the median of an arm's runs: AP below which one of them has collapsed
LITTLE = 0.01  # AP below which an arm has learned next to nothing


def cautions(comparison: Comparison, words: Words) -> list[str]:
    """What no interval knows: that there is little to compare, or that all of it is worse than doing nothing."""
    told = [words("failure", arm=one.arm, seed=one.seed, message=one.message) for one in comparison.failures]
    for name, arm in comparison.arms.items():
        usual = median(run.ap for run in arm.runs)
        fallen = [run for run in arm.runs if run.ap < COLLAPSED * usual and usual >= LITTLE]
        figures = {"arm": name, "median": f"{100 * usual:.1f}"}
        told += [words("collapsed", seed=run.seed, ap=f"{100 * run.ap:.1f}", **figures) for run in fallen]
    best = max(arm.mean["ap"] for arm in comparison.arms.values())
    student = comparison.references.get("student")
    if best < LITTLE:
        told.append(words("little_learned", least=f"{100 * LITTLE:g}"))
    elif student and best < (student.ap_of_all or 0.0):
        told.append(words("worse_than_given", ap=f"{100 * student.ap:.1f}"))
    if student and student.classes and student.ap is not None:
        given, known = f"{100 * student.ap:.1f}", words.count("class", len(student.classes))
        aps = {name: arm.ap_known for name, arm in comparison.arms.items() if arm.ap_known is not None}
        parts = ", ".join(f"{name} {100 * ap:.1f}" for name, ap in aps.items())
        told += [words("known_classes", classes=known, given=given, parts=parts)] * bool(parts)
    if entries := comparison.against_given:
        parts = "; ".join(f"{entry.arm} {words.result(entry)}" for entry in entries)
        told.append(words("against_given", images=words.judged_on(entries[0]), parts=parts))
    return told
