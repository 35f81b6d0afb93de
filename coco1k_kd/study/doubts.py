"""Labels that may be missing or wrong, by what a teacher finds in the same images: a page to look at, and a list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from coco1k_kd.data.dataset import Split
from coco1k_kd.data.lesson import unsealed
from coco1k_kd.errors import count
from coco1k_kd.files import write_atomic
from coco1k_kd.report.review import Mark, Picture, suspicions_caption, suspicions_page
from coco1k_kd.report.words import Words
from coco1k_kd.study.plan import Study
from coco1k_kd.study.teaching import classes_of_labels
from coco1k_kd.verdict.coco import Truth, of_images, read_truth
from coco1k_kd.verdict.suspicions import Suspicion, suspicions

PAGE, LIST = "label_review.html", "label_review.json"
_PICTURES = 48
_SCHEMA = 1


def review(
    split: Split, tables: Mapping[Path, np.ndarray], thresholds: np.ndarray, known: np.ndarray, model: str, words: Words
) -> tuple[dict[str, bytes], int]:
    """The page and the list, by name, and how many doubts there are.

    Args:
        split: labelled images.
        tables: (n, 6) class, score, left, top, width, height of what the teacher finds, by image; images that are not
            here, links resolved, are left out.
        thresholds: (C,) of each class the score from which on a box counts as an object.
        known: (C,) bool, the classes that the teacher knows.
        model: what the teacher is called.
    """
    truth = read_truth(split.annotations)
    files = [split.images / name for name in truth.files]
    looked = [tables.get(file.resolve()) for file in files]
    here = np.array([table is not None for table in looked], bool)[truth.image]
    truth, found = truth[here], of_images(looked)
    told: dict[int, list[Suspicion]] = {}
    for one in suspicions(truth, found, thresholds, known):
        told.setdefault(one.image, []).append(one)
    first = sorted(told, key=lambda image: (-sum(one.doubt for one in told[image]), image))
    pictures = [
        Picture(
            truth.files[image],
            files[image],
            _marks(truth, image, told[image]),
            suspicions_caption(words, len(told[image])),
        )
        for image in first[:_PICTURES]
    ]
    number = sum(map(len, told.values()))
    content = {
        "schema_version": _SCHEMA,
        "teacher": model,
        "images": [
            {"file": str(files[image]), "doubts": [_entry(one, truth.names) for one in told[image]]} for image in first
        ],
    }
    return {
        PAGE: suspicions_page(words, model, number, len(looked), pictures).encode(),
        LIST: (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(),
    }, number


def review_of_study(study: Study, language: str) -> list[Path]:
    """Write page and list into the project, where the teacher has looked at the train images: for the loss `fill`."""
    lessons = map(unsealed, study.teachers_lessons)  # `prepare` has just checked them
    lesson = next((lesson for lesson in lessons if lesson.labelled), None)
    teachers = [weights for weights in (study.teacher, *study.teachers.values()) if weights]
    teacher = next((weights for weights in teachers if lesson and weights.sha256 == lesson.teacher), None)
    if lesson is None or teacher is None:
        return []
    numbers = classes_of_labels(teacher, lesson.classes, study.settings.class_map)[1]
    known = np.isin(np.arange(len(lesson.classes)), numbers)
    tables = {Path(file): found.table for file, found in lesson.labelled.items()}
    model, words = Path(teacher.path).name, Words(language)
    files, number = review(study.data.train, tables, np.array(lesson.thresholds), known, model, words)
    for name, content in files.items():
        write_atomic(study.project / name, content)
    print(f"{model} doubts {count(number, 'label')} of the train images: {study.project / PAGE}", flush=True)
    return [study.project / name for name in files]


def _marks(truth: Truth, image: int, told: Sequence[Suspicion]) -> list[Mark]:
    """The doubts of an image with their classes, and its other labels without a word."""
    doubted = {tuple(one.box) for one in told if one.kind != "missing"}
    own = [box for box in truth.box[(truth.image == image) & ~truth.crowd] if tuple(box) not in doubted]
    return [Mark("label", "", box) for box in own] + [Mark(one.kind, _text(one, truth.names), one.box) for one in told]


def _text(one: Suspicion, names: Sequence[str]) -> str:
    classes = " → ".join(names[number] for number in (one.label, one.found) if number >= 0)
    return f"{classes}?" if one.kind == "unseen" else f"{classes} {one.doubt:.2f}"


def _entry(one: Suspicion, names: Sequence[str]) -> dict[str, object]:
    label, found = (names[number] if number >= 0 else None for number in (one.label, one.found))
    box = [round(float(side), 2) for side in one.box]
    return {"kind": one.kind, "label": label, "found": found, "box": box, "doubt": round(one.doubt, 3)}
