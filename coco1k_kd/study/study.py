"""A study: arms x seeds, each run in a process of its own, audited, compared, and resumable after any kind of end.

The state on disk is `study_<stamp>.json` (the settings) and the run folders; a run is finished when its `result.json`
is there. Each run is a function of a plain spec, so that it does not matter where or in which order runs happen.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from coco1k_kd.data.accept import accept
from coco1k_kd.data.dataset import read_full_val
from coco1k_kd.data.own import open_data
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError
from coco1k_kd.report.comparison import read_comparison
from coco1k_kd.report.loggers import log_study
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.words import Words
from coco1k_kd.report.write import write_report
from coco1k_kd.runs.board import Board
from coco1k_kd.runs.launch import SPEC, RunFailed, finished
from coco1k_kd.runs.slots import Slots
from coco1k_kd.study import collect, store
from coco1k_kd.study.arms import BASELINE, SAME_TIME, STOCK, Key, distilled, run_label, step_cost
from coco1k_kd.study.audit import audit
from coco1k_kd.study.plan import Settings, Study, arm_distillation
from coco1k_kd.study.redraw import further_draws
from coco1k_kd.study.references import Evaluator
from coco1k_kd.study.store import check_disk
from coco1k_kd.verdict.matching import check_truth, coco_metrics

_POLL_SECONDS = 0.5


def run(settings: Settings, resume: bool, command: str, slots: Slots | None = None, language: str = "en") -> int:
    """Do the study, or what is left of it, and write and print the comparison.

    Args:
        settings: what is compared, and how it is trained.
        resume: go on with a study that is there.
        command: what was typed, for the record.
        slots: where runs go, and how many at a time; one at a time on this machine by default.
        language: of the report, of `report.words.LANGUAGES`.

    Returns:
        Exit code: 0, or 1 when a run or a control failed; finished runs are kept either way.

    Raises:
        UserError: bad input, or arms that did not do the same work.
    """
    settings = settings.checked()
    with slots or Slots() as slots, store.locked(_open(settings, resume, slots)) as study:
        try:
            results = _train(study, slots)
            evaluator = Evaluator(study, slots)
            references = evaluator.references()
            full = evaluator.full_val(results)
        except RunFailed as failure:
            print(f"error: {failure}\n  finished runs are kept: give the same command with --resume", file=sys.stderr)
            return 1
        checked = audit(results, study.data.train.size, study.data.val.size)
        print("comparing…", flush=True)
        content = msgspec.to_builtins(collect.build(study, results, references, full, checked, command))
        paths = write_report(content, study.project, study.stamp, language)
    print(markdown(content, Words(language)))
    print("\n".join([*(f"wrote {path}" for path in paths), *log_study(content, paths, Words(language))]))
    failed = [name for name, control in content["controls"].items() if control.get("passed") is False]
    if failed:
        print(f"error: the control {failed[0]} failed: {content['controls'][failed[0]]['sentence']}", file=sys.stderr)
    return 1 if failed else 0


def report_only(path: Path, language: str = "en") -> int:
    """Write a comparison's picture and tables again from its JSON."""
    content = msgspec.to_builtins(read_comparison(path))
    try:
        written = write_report(content, path.parent, path.stem.removeprefix("comparison_"), language)
    except OSError as error:
        raise UserError(f"cannot write beside {path}: {error.strerror}") from None
    print(markdown(content, Words(language)))
    print("\n".join(f"wrote {place}" for place in written))
    return 0


def _open(settings: Settings, resume: bool, slots: Slots) -> Study:
    """Read and check every input, and find or begin the study. Nothing is written before all is well."""
    project = settings.project.absolute()
    data = open_data(settings.data, project)
    full = read_full_val(settings.eval_full_val, data.classes) if settings.eval_full_val else None
    student = read_weights(settings.student, "student")
    arms = settings.arms or []
    teacher = read_weights(settings.teacher, "teacher") if distilled(arms) or settings.controls else None
    if teacher and STOCK in arms and teacher.strides != student.strides:
        raise UserError(
            f"the arm {STOCK} needs a teacher of the student's levels: strides {teacher.strides}, {student.strides}"
        )
    for arm in arms if teacher else ():
        if own := arm_distillation(arm):
            own.shared_levels(student.strides, teacher.strides, f"arm {arm}")
    study = Study(settings, data, student, teacher, full, project, stamp="")
    found = store.find(study) if resume else None
    further = further_draws(data, settings.draws, settings.coco_root, project)
    study = replace(found or study, further=further)
    slots.check(settings.device, project, study.files())
    check_truth(data.val.annotations)
    judges = [study.full_val] if study.full_val else []
    warnings = [warning for drawn in study.drawn for warning in accept(drawn, *judges)]
    for warning in dict.fromkeys(warnings):
        print(f"warning: {warning}", flush=True)
    if study.stamp:
        print(f"going on with the study of {study.stamp} in {project}")
        return study
    if study.base:
        print(f"adding to the study of {study.base.stamp} in {project}")
    elif resume:
        print(f"there is no study in {project} to go on with: starting one")
    left = [key for key in study.plan() if not finished(study.folder(*key))]
    check_disk(project, len(left), student.parameters, data.val.size)
    return store.begin(study)


def _train(study: Study, slots: Slots) -> dict[Key, dict[str, Any]]:
    """Do every run that is not finished, as many at a time as there are slots; results in the order of the plan."""
    plan = study.plan()
    results = {key: result for key in plan if (result := finished(study.folder(*key)))}
    for key, result in results.items():
        print(f"finished before: {run_label(*key)}: {_line(study, key, result)}", flush=True)
    waiting = [key for key in plan if key not in results]
    if slots.number > 1:  # else the last to end would be a long one that began last, with all other slots idle
        waiting.sort(key=lambda key: -step_cost(key[0], study.control_loss))
    under_way: dict[Future[dict[str, Any]], Key] = {}
    with Board(len(results), len(plan), len(waiting) * study.settings.epochs) as board:
        while waiting or under_way:
            for key in [key for key in waiting if study.needs(key) <= results.keys()]:
                waiting.remove(key)
                epochs = _same_time_epochs(study, results) if key[0] == SAME_TIME else study.settings.epochs
                board.add(run_label(*key), study.folder(*key), epochs)
                spec = study.spec(*key, epochs) | {"at_once": min(slots.number, len(plan))}
                under_way[slots.submit(spec, run_label(*key))] = key
            for future in wait(under_way, _POLL_SECONDS, FIRST_COMPLETED).done:
                key = under_way.pop(future)
                results[key] = future.result()
                board.remove(run_label(*key), _line(study, key, results[key]))
            board.refresh()
    return {key: results[key] for key in plan}


def _same_time_epochs(study: Study, results: dict[Key, dict[str, Any]]) -> int:
    """How many epochs of the baseline take the training time of the distilled arm.

    Ultralytics' `time=` would guess the number anew after every epoch, and bend the learning rate's schedule with it;
    it would count validation, and the machine's other load. A fixed number is a whole schedule, and repeatable.
    """
    settings, arm = study.settings, study.timed_arm
    for key in study.plan():
        begun = study.folder(*key) / SPEC
        if key[0] == SAME_TIME and begun.exists():  # once one has begun, the number stands
            return json.loads(begun.read_bytes())["train_args"]["epochs"]
    seconds = {name: sum(results[name, r]["train_seconds"] for r in study.replicates) for name in (BASELINE, arm)}
    return max(settings.epochs, round(settings.epochs * seconds[arm] / seconds[BASELINE]))


def _line(study: Study, key: Key, result: dict[str, Any]) -> str:
    best = coco_metrics(study.data.val.annotations, study.predictions(key, "best"))
    minutes, speed = result["train_seconds"] / 60, result["images"] / result["train_seconds"]
    resumed = "".join(f", resumed after epoch {epoch}" for epoch in result["resumed_after_epochs"])
    return (
        f"AP {100 * best['ap']:.1f}, AP50 {100 * best['ap50']:.1f}, {minutes:.1f} min of training, "
        f"{speed:.1f} images/s, {result['peak_memory_bytes'] / 2**30:.1f} GiB{resumed}"
    )
