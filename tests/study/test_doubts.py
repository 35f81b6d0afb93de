"""Labels that a teacher doubts: which they are, and what a study writes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from coco1k_kd.data.given import open_data
from coco1k_kd.data.lesson import Found, Lesson, Sealed
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.report.words import Words
from coco1k_kd.study.doubts import review, review_of_study
from coco1k_kd.verdict.coco import read_truth


@pytest.mark.parametrize("language", ["en", "ko"])
def test_planted_faults_lead_the_page(subset: Path, tmp_path: Path, language: str) -> None:
    split = open_data(subset / "coco1k.yaml", tmp_path).train
    truth = read_truth(split.annotations)
    tables = {}
    for number, name in enumerate(truth.files):  # a teacher that finds all, and in three images what is not labelled
        own = (truth.image == number) & ~truth.crowd
        table = np.column_stack((truth.category[own], np.full(own.sum(), 0.9), truth.box[own]))
        if number in (3, 7, 11):
            table = np.vstack((table, [0, 0.95 - number / 100, 0, 0, 20, 20]))
            table = table[~((table[:, 2] < 20) & (table[:, 3] < 20) & (table[:, 4] > 20))]
        tables[(split.images / name).resolve()] = table
    known = np.ones(len(truth.names), bool)
    files, doubts = review(split, tables, np.full(len(known), 0.5), known, "t.pt", Words(language))
    content = json.loads(files["label_review.json"])
    listed = {Path(image["file"]).name: image["doubts"] for image in content["images"]}
    for number in (3, 7, 11):
        missing = [one for one in listed[truth.files[number]] if one["kind"] == "missing"]
        assert [one["box"] for one in missing] == [[0, 0, 20, 20]] and missing[0]["label"] is None
    page = files["label_review.html"].decode()
    assert doubts == sum(map(len, listed.values())) and page.count("<figure>") == len(listed)
    assert re.search(r"\b0\.92\b", page) and "{" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert page.count("<dt>") == 4 and Words(language)("mark_missing").split("?")[0] in page


def test_a_study_shows_what_its_teacher_doubts(subset: Path, models: Path, tmp_path: Path, capsys) -> None:
    data, teacher = open_data(subset / "coco1k.yaml", tmp_path), read_weights(str(models / "teacher.pt"), "teacher")
    found = {str(file.resolve()): Found(640, 480, [[0.0, 0.9, 0.0, 0.0, 9.0, 9.0]], "") for file in data.train.files}
    lesson = Lesson(teacher=teacher.sha256, classes=list(data.classes), thresholds=[0.5] * 12, labelled=found)
    Sealed.of(lesson).write(tmp_path / "lesson.json")
    study = SimpleNamespace(
        data=data, project=tmp_path, teacher=teacher, teachers={}, settings=SimpleNamespace(class_map=[])
    )
    study.teachers_lessons = [tmp_path / "lesson.json"]
    assert review_of_study(study, "en") == [tmp_path / "label_review.html", tmp_path / "label_review.json"]
    doubts = json.loads((tmp_path / "label_review.json").read_bytes())["images"]
    assert len(doubts) == 48 and doubts[0]["doubts"][0]["box"] == [0, 0, 9, 9]
    assert "teacher.pt doubts 48 labels of the train images" in capsys.readouterr().out
    study.teachers_lessons = []
    assert review_of_study(study, "en") == []
