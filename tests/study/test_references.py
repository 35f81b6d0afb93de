"""Student and teacher as given, where their classes are not those of the data. No training."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics import YOLO

from coco1k_kd.data.given import open_data
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.runs.slots import Slots
from coco1k_kd.study import collect
from coco1k_kd.study.plan import Study
from coco1k_kd.study.references import Evaluator
from coco1k_kd.study.settings import Settings


@pytest.fixture(scope="module")
def given(subset: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """References of one model under three sets of names: the data's, in part the data's in another order, and none."""
    folder = tmp_path_factory.mktemp("references")
    names = list(open_data(subset / "coco1k.yaml", folder).classes)
    shuffled = [names[1].upper(), f" {names[0]}", "unicorn", *names[:3:-1], "dragon"]
    assert len(shuffled) == len(names)
    found = {}
    for key, of_model in (("all", names), ("some", shuffled), ("none", [f"beast {i}" for i in range(len(names))])):
        model = YOLO(models / "student.pt")
        model.model.names = dict(enumerate(of_model))
        model.save(folder / f"{key}.pt")
    with Slots(2) as slots:
        for student, teacher in (("all", "some"), ("none", "none")):
            study = _study(subset, folder, student, teacher)
            rows = Evaluator(study, slots, None).references()()
            found |= {student: rows["student"], teacher: rows["teacher"]}
    return SimpleNamespace(names=names, shuffled=shuffled, truth=study.data.val.annotations, **found)


def _study(subset: Path, folder: Path, student: str, teacher: str) -> Study:
    asked = Settings(data=subset / "coco1k.yaml", seeds=[0], device="cpu", imgsz=64, batch=8).checked()
    weights = [
        read_weights(str(folder / f"{name}.pt"), role) for name, role in ((student, "student"), (teacher, "teacher"))
    ]
    return Study(asked, open_data(asked.data, folder), *weights, folder, "20260101_120000")


def test_classes_count_by_name_whatever_their_order_and_case(given: SimpleNamespace) -> None:
    categories = [category["id"] for category in json.loads(given.truth.read_bytes())["categories"]]
    plain = {name.strip().lower() for name in given.names}
    renamed = {
        categories[number]: categories[[n.lower() for n in given.names].index(name.strip().lower())]
        for number, name in enumerate(given.shuffled)
        if name.strip().lower() in plain
    }
    wanted = [
        {**box, "category_id": renamed[box["category_id"]]}
        for box in json.loads(Path(given.all.predictions).read_bytes())
        if box["category_id"] in renamed
    ]
    found = json.loads(Path(given.some.predictions).read_bytes())
    assert len(found) > 100 and _sorted(found) == _sorted(wanted)


def _sorted(boxes: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(box, sort_keys=True) for box in boxes)


def test_ap_is_that_of_the_classes_that_it_knows(given: SimpleNamespace) -> None:
    known = [name for name in given.names if name in {n.strip().lower() for n in given.shuffled} | set(given.shuffled)]
    assert given.some.classes == known and 0 < len(known) < len(given.names)
    ap, ap50 = _coco(given.truth, given.some.predictions, known)
    assert given.some.ap == pytest.approx(ap) and given.some.ap50 == pytest.approx(ap50)
    assert given.some.ap50 > 0, "nothing found, nothing shown"
    assert given.all.classes == [] and given.all.ultralytics and given.some.ultralytics is None


def _coco(annotations: Path, predictions: str, names: list[str]) -> tuple[float, float]:
    """AP and AP50 of these classes by COCOeval."""
    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(predictions), "bbox")
    evaluation.params.catIds = sorted(truth.getCatIds(catNms=names))
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[1]


def test_arms_are_measured_on_the_classes_of_the_student_as_given_too(given: SimpleNamespace) -> None:
    files = {1: given.all.predictions, 2: given.some.predictions}
    val = SimpleNamespace(annotations=given.truth)
    study = SimpleNamespace(
        data=SimpleNamespace(classes=given.names, val=val), predictions=lambda key, epoch: Path(files[key])
    )
    known = collect.known_classes(study, {"student": given.some})
    assert [given.names[number] for number in known] == given.some.classes
    wanted = fmean(_coco(given.truth, file, given.some.classes)[0] for file in files.values())
    assert collect.ap_known(study, [1, 2], known) == pytest.approx(wanted) and wanted > 0
    assert collect.ap_known(study, [1, 2], collect.known_classes(study, {"student": given.all})) is None


def test_without_a_class_of_the_data_there_is_no_ap(given: SimpleNamespace) -> None:
    assert given.none.ap is None and given.none.predictions == ""
    assert given.none.note == "none of its 12 classes is one of the data's 12 by name: no AP on them"
