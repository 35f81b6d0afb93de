"""Which arms are compared, and the verdicts of all these comparisons at a look."""

from __future__ import annotations

import filecmp
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import structs

from coco1k_kd.names import STUDENT
from coco1k_kd.report.comparison import Change, Reference
from coco1k_kd.runs.spec import EPOCHS
from coco1k_kd.study.arms import BASELINE, RANDOM, SAME_TIME, Arm, Key, Replicate
from coco1k_kd.study.plan import Study
from coco1k_kd.study.references import Evaluator
from coco1k_kd.verdict.compare import compare, decide, decide_families
from coco1k_kd.verdict.entry import Entry, Last, Times
from coco1k_kd.verdict.looks import FIXED, Design, continued, sequential

Pair = tuple[Arm, Arm]  # an arm, and the arm that it is compared with
Files = Mapping[Replicate, Path]  # predictions of one side of a comparison


def pairs(study: Study, arms: Sequence[Arm], in_time: Iterable[Arm] = ()) -> list[Pair]:
    """Each arm against the baseline; distillation also against Ultralytics', longer training, an ignorant teacher.

    One with settings of its own also against the same loss without, a sum against each of its losses. Against longer
    training the arm whose time that had, and those of `in_time`.
    """
    found = [(arm, BASELINE) for arm in arms if arm not in (BASELINE, SAME_TIME)]
    found += [(arm, other) for arm in arms for name in arm.simpler for other in arms if other.name == name]
    ours = [arm for arm in arms if arm.parts and not arm.control]
    found += [(arm, stock) for stock in arms if stock.stock for arm in ours if arm.teacher == stock.teacher]
    if SAME_TIME in arms:
        found += [(arm, SAME_TIME) for arm in dict.fromkeys([study.timed_arm, *in_time]) if arm in arms]
    if RANDOM in arms and study.controlled in arms:
        found.append((study.controlled, RANDOM))
    plain = [arm for arm in arms if arm.taught and not arm.control]
    others = [arm for arm in arms if arm.taught and arm.control]
    return found + [(arm, other) for arm in plain for other in others if (arm.loss, arm.own) == (other.loss, other.own)]


def asked_for(study: Study) -> list[Pair]:
    """The comparisons that a study with seeds auto goes on for: every arm that was typed."""
    found = pairs(study, [arm for arm in study.arms if not arm.control])
    return [pair for pair in found if pair[1] in (BASELINE, SAME_TIME)]


def still_running(study: Study, open_pairs: Iterable[Pair]) -> set[Arm]:
    """The arms that need further runs while `open_pairs` are not settled."""
    arms = {BASELINE, *(arm for pair in open_pairs for arm in pair)}
    taught = any(arm.taught for arm in arms)
    controls = {arm for arm in study.arms if arm.control and taught}
    return arms | controls | ({RANDOM} if study.controlled in arms else set())


def looks_of(study: Study) -> tuple[Design, list[int], set[Change]]:
    """When the study is judged, the seeds that were added after a verdict, and what else it has more of than then.

    A list of seeds is a fixed design, judged once by plain 95% intervals. What is added later makes it a sequential
    one, which looked at what it had before.
    """
    settings, judged = study.settings, [base for base in study.history if base.earlier and base.earlier.judged]
    if not judged:
        return (sequential(settings.looks) if settings.auto else FIXED), [], set()
    known = {seed for base in judged for seed in base.seeds}
    unplanned = [seed for seed in study.seeds if seed not in known]
    last = judged[0].settings
    added = {"arms": settings.arms != last.arms, "seeds": bool(unplanned), "draws": settings.draws != last.draws}
    added["looks"] = (settings.auto, settings.looks) != (last.auto, last.looks)
    of_kind = [base for base in judged if (base.settings.draws > 1) == (settings.draws > 1)]
    earlier = {look for base in of_kind for look in (base.settings.looks if base.settings.auto else [base.units])}
    grown = study.units > max((base.units for base in of_kind), default=0)
    if settings.auto and not added["looks"]:
        design = sequential(settings.looks)
    elif settings.auto or grown:
        design = continued(settings.looks, earlier, study.units)
    else:
        design = FIXED
    return design, unplanned, {change for change, found in added.items() if found}


def judge_all(
    study: Study,
    runs: Sequence[Key],
    evaluator: Evaluator,
    settled: Mapping[Pair, Entry],
    design: Design,
    unplanned: bool,
    times: Mapping[Arm, Times],
) -> dict[Pair, Entry]:
    """The verdicts of all comparisons that `runs` allow.

    Those that were asked for share the 5%, the others another 5%. Among the others are those with `baseline_same_time`
    of arms that were not given its time and took no more: it can only have been in favour of the baseline.

    Args:
        study: what is compared.
        runs: finished runs that count.
        evaluator: knows their detections on the judge's images.
        settled: comparisons that an earlier look has settled, which stand.
        design: of the study's looks.
        unplanned: whether something was changed after a verdict.
        times: what arms have cost beside `baseline_same_time`.
    """
    arms = list(dict.fromkeys(arm for arm, _ in runs))
    in_time = [arm for arm, found in times.items() if not found.more]
    made = {pair: settled.get(pair) or _compared(pair, runs, evaluator) for pair in pairs(study, arms, in_time)}
    entries = {pair: entry for pair, entry in made.items() if entry}
    asked = [pair for pair in asked_for(study) if pair in entries]
    others = [pair for pair in entries if pair not in asked]
    families = ([entries[pair] for pair in chosen] for chosen in (asked, others))
    first, second = decide_families(*families, design=design, unplanned=unplanned, family=len(asked_for(study)))
    decided = dict(zip([*asked, *others], [*first, *second], strict=True))
    timed = {pair: times[pair[0]] for pair in decided if pair[1] == SAME_TIME and pair[0] in times}
    decided |= {pair: structs.replace(decided[pair], times=found) for pair, found in timed.items()}
    decided |= {pair: _at_less_time(decided[pair]) for pair in others if pair in timed and timed[pair].less}
    return {pair: decided[pair] for pair in entries}


def _at_less_time(entry: Entry) -> Entry:
    """The entry of an arm that had less time than the other: only `improves` says something of equal times."""
    told = {"verdict": "inconclusive", "reason": "more_time"}
    if entry.last and entry.last.verdict in ("hurts", "no_difference"):
        entry = structs.replace(entry, last=structs.replace(entry.last, **told))
    return structs.replace(entry, **told, needed=None) if entry.verdict in ("hurts", "no_difference") else entry


def _compared(pair: Pair, runs: Sequence[Key], evaluator: Evaluator) -> Entry | None:
    """The comparison of a pair on the replicates that both arms have; None where there are none."""
    arm, against = pair
    common = [replicate for name, replicate in runs if name == arm and (against, replicate) in runs]
    if not common:
        return None
    files = ([{r: evaluator.predictions((name, r), epoch) for r in common} for name in pair] for epoch in EPOCHS)
    return _entry((arm.name, against.name), evaluator, *files)


def judge_given(
    runs: Sequence[Key],
    evaluator: Evaluator,
    references: Mapping[str, Reference],
    design: Design,
    unplanned: bool,
    effect: bool,
) -> list[Entry]:
    """Each arm against the student as given: is it worth training at all?

    Empty where the student was not evaluated on the judge's images. `effect`: whether a comparison that was asked for
    has found one. The other arguments are those of `judge_all`.
    """
    given = references["student"].judged
    if not given:
        return []
    found = []
    for arm in dict.fromkeys(arm for arm, _ in runs if not arm.control):
        keys = [key for key in runs if key[0] == arm]
        files = ({key[1]: evaluator.predictions(key, epoch) for key in keys} for epoch in EPOCHS)
        student = {key[1]: Path(given) for key in keys}
        found.append(
            _entry((arm.name, STUDENT), evaluator, *([of_epoch, student] for of_epoch in files), in_parts=False)
        )
    return decide(found, design, unplanned, found=effect)


def _entry(
    names: tuple[str, str], evaluator: Evaluator, best: Sequence[Files], last: Sequence[Files], in_parts: bool = True
) -> Entry:
    """Compare the files of predictions of two sides, those of the best and those of the last epoch."""
    groups = evaluator.study.settings.groups
    overlap = evaluator.study.overlap(sorted({draw for draw, _ in best[0]}))
    found = compare(evaluator.truth, *best, in_parts=in_parts, groups=groups, overlap=overlap)
    files = [(one[r], other[r]) for one, other in zip(best, last, strict=True) for r in one]
    same = all(filecmp.cmp(*both, shallow=False) for both in files)
    of_last = found if same else compare(evaluator.truth, *last, in_parts=False, groups=groups, overlap=overlap)
    name = evaluator.judge.name if evaluator.judge else "val"
    last_entry = Last(of_last.d_ap, of_last.d_ap50, of_last.mde, of_last.verdict)
    return structs.replace(found, arm=names[0], against=names[1], judge=name, last=last_entry)
