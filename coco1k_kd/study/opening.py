"""The start of a study: every input is read and checked, and the study found or begun."""

from __future__ import annotations

from dataclasses import replace

from coco1k_kd.data.accept import accept, judge_faults
from coco1k_kd.data.given import open_data
from coco1k_kd.data.groups import groups_of, notes_on, ungrouped_note
from coco1k_kd.data.pool import accept_pool
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError, visible
from coco1k_kd.runs.code import versions
from coco1k_kd.runs.devices import machine
from coco1k_kd.runs.results import finished
from coco1k_kd.runs.slots import Slots
from coco1k_kd.study import store
from coco1k_kd.study.arms import POOL_SELF
from coco1k_kd.study.judge import AUTO, Judge, find_judge
from coco1k_kd.study.plan import Study
from coco1k_kd.study.redraw import further_draws
from coco1k_kd.study.settings import Settings
from coco1k_kd.study.store import check_disk
from coco1k_kd.study.teachers import read_teachers
from coco1k_kd.study.teaching import classes_of_labels
from coco1k_kd.study.unlabelled import kept_out


def open_study(settings: Settings, resume: bool, slots: Slots) -> tuple[Study, Judge | None]:
    """Read and check every input, and find or begin the study. Nothing is written before all is well."""
    project = settings.project.absolute()
    data = open_data(settings.data, project, settings.run_download)
    student = read_weights(settings.student, "student")
    teacher, teachers = read_teachers(settings, student)
    judge = find_judge(settings.judge, data, settings.coco_root)
    if settings.groups:
        groups_of(settings.groups, (judge.split if judge else data.val).names)
    further = further_draws(data, settings.draws, settings.coco_root, project)
    computes = versions() | ({} if slots.grows else machine(settings.device))  # a cluster has several machines
    study = Study(settings, data, student, teacher, project, "", further, teachers=teachers, computes=computes)
    for arm in study.arms:
        if arm.taught and arm.row != POOL_SELF.row and not settings.fit_teacher:  # a fitted one has the data's classes
            classes_of_labels(study.taught_by(arm), data.classes, settings.class_map)
    if settings.unlabelled:
        pool = accept_pool(settings.unlabelled, kept_out(study.drawn, judge), project)
        study = replace(study, pool=pool)
    found = store.find(study) if resume else None
    study = found or study
    slots.check(settings.device, project, study.files())
    warnings = [warning for drawn in study.drawn for warning in accept(drawn)]
    if judge and (faults := judge_faults(judge.split, study.drawn)):
        if settings.judge != AUTO:
            raise UserError(faults[0])
        warnings.append(
            f"the verdict is taken on the val images, since the rest of the source cannot judge: {faults[0]}"
        )
        judge = None
    judging = judge.split if judge else data.val
    if settings.groups:
        trained = [name for drawn in study.drawn for name in drawn.train.names]
        trained += [image.name for image in study.pool.images] if study.pool else []
        told = notes_on(groups_of(settings.groups, judging.names), trained)
        print("\n".join(f"note: {line}" for line in told), flush=True)
    else:
        warnings += ungrouped_note(judging)
    for warning in dict.fromkeys(warnings):
        print(f"warning: {visible(warning)}", flush=True)
    if study.stamp:
        print(f"going on with the study of {study.stamp} in {project}")
    else:
        if study.base:
            print(f"adding to the study of {study.base.stamp} in {project}")
        elif resume:
            print(f"there is no study of these settings in {project}: starting one")
        left = [key for key in study.plan() if not finished(study.folder(*key))]
        largest = max((weights.parameters for weights in study.given().values()), default=0)
        check_disk(project, len(left), student.parameters, data.val.size, largest if settings.fit_teacher else 0)
        study = store.begin(study)
    judged_by = f"{judging.size:,} images of {judge.name.replace('_', ' ')}" if judge else "the val images"
    print(f"the verdict is taken on {judged_by}", flush=True)
    return study, judge.written(data.classes, project) if judge else None
