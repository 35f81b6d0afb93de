"""What training costs the arms of a study: how long `baseline_same_time` trains, and who may be compared with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from coco1k_kd.runs.spec import SPEC, Result, by_cores, comparable_seconds, read_spec
from coco1k_kd.study.arms import BASELINE, SAME_TIME, Arm, Key
from coco1k_kd.study.plan import Study
from coco1k_kd.verdict.entry import Times

_LABELLING = {False: "labelling_seconds", True: "labelling_cpu_seconds"}  # by whether the time of cores counts


def same_time_epochs(study: Study, results: Mapping[Key, Result]) -> int:
    """How many epochs of the baseline take the training time of the distilled arm.

    Ultralytics' `time=` would guess the number anew after every epoch, and bend the learning rate's schedule with it;
    it would count validation, and the machine's other load. A fixed number is a whole schedule, and repeatable.
    """
    for key in study.plan():
        folder = study.folder(*key)
        if key[0] == SAME_TIME and (folder / SPEC).exists():  # once one has begun, the number stands
            return read_spec(folder).train_args["epochs"]
    epochs, seconds = study.settings.epochs, _seconds(study, results, (BASELINE, study.timed_arm))
    return max(epochs, round(epochs * seconds[study.timed_arm] / seconds[BASELINE]))


def times(study: Study, results: Mapping[Key, Result]) -> dict[Arm, Times]:
    """What a run of each arm that learns from the teacher has cost, beside one of `baseline_same_time`.

    Controls, which nobody would train, are left out; empty where there is no such baseline.
    """
    arms = [arm for arm in study.arms if arm.learns and not arm.control]
    seconds = _seconds(study, results, [SAME_TIME, *arms])
    baseline = seconds.pop(SAME_TIME, None)
    return {arm: Times(cost, baseline) for arm, cost in seconds.items()} if baseline else {}


def _seconds(study: Study, results: Mapping[Key, Result], arms: Iterable[Arm]) -> dict[Arm, float]:
    """Training time of a run of each of these arms, by those of its runs up to the first look that have a result.

    A teacher's own training and its labelling count once, however many runs there are: each has its share of them.
    """
    keys = {arm: [key for key in study.timed_runs(arm) if key in results] for arm in arms}
    done = [key for of_arm in keys.values() for key in of_arm]
    counted = [*(results[key] for key in done), *(of.result for of in study.fitted.values())]
    costs, labelling = comparable_seconds(counted), _LABELLING[by_cores(counted)]
    of_run, of_fit = dict(zip(done, costs, strict=False)), dict(zip(study.fitted, costs[len(done) :], strict=True))
    found = {}
    for arm, of_arm in keys.items():
        if of_arm:
            given = study.teachers.get(arm.teacher, study.teacher) if arm.learns else None
            draws = {draw for _, (draw, _) in of_arm}
            once = sum(of_fit.get((given.path, draw), 0.0) for draw in draws) if given else 0.0
            passes: dict[str | None, float] = {}  # by the teacher that labelled: a fitted one differs from draw to draw
            for key in of_arm:
                teacher = results[key].teacher_sha256
                passes[teacher] = max(passes.get(teacher, 0.0), getattr(results[key], labelling))
            found[arm] = fmean(of_run[key] for key in of_arm) + (once + sum(passes.values())) / len(of_arm)
    return found
