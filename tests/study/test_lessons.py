"""Images that a teacher labels once for a study: what is learnt from them, by which arm, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from plans import key_of, made, pairs, specs_of
from studies import run

from coco1k_kd.data.lesson import Cost, Found, Lesson, Sealed, digest, read_lesson, unsealed
from coco1k_kd.data.pool import Pool, PoolImage
from coco1k_kd.distill.weights import Weights
from coco1k_kd.errors import UserError
from coco1k_kd.report.comparison import Labelling
from coco1k_kd.runs.spec import Result
from coco1k_kd.study import comparing, equal_time, lessons, store
from coco1k_kd.study.arms import read_arm
from coco1k_kd.study.lessons import (
    LESSONS,
    Source,
    keep,
    labelling,
    labelling_seconds,
    labels_of,
    part_of,
    placebo,
    prepare_run,
    teach_once,
    truth,
)
from coco1k_kd.study.settings import Settings

ARMS = ("baseline", "pool:share=0.25", "fill+response", "pool_self")


@pytest.fixture(scope="module")
def taught(
    command: list[str], coco_root: Path, unlabelled: Path, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """A study of all kinds of arms that learn from boxes, and the command that it was begun with."""
    project = tmp_path_factory.mktemp("taught") / "experiments"
    annotations = project.parent / "truth.json"
    shutil.copy(coco_root / "annotations" / "instances_train2017.json", annotations)
    flags = ["--epochs", "1", "--unlabelled", unlabelled, "--pool-truth", annotations, "--teacher-imgsz", "64"]
    flags = [*command[:-1], project, "--arms", *ARMS, "--controls", *flags]
    done = run([str(flag) for flag in flags])
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(next(project.glob("comparison_*.json")).read_bytes())
    return SimpleNamespace(command=[str(flag) for flag in flags], project=project, content=content, out=done.stdout)


def test_a_study_labels_once_and_says_what_each_run_has_learnt_from(taught: SimpleNamespace) -> None:
    content = taught.content
    arms = {name: arm["runs"][0] for name, arm in content["arms"].items()}
    assert set(arms) == {*ARMS, "pool_truth", "pool_placebo", "random_teacher"}
    pooled = {name: run["pool_images"] for name, run in arms.items() if run["pool_images"]}
    assert pooled == dict.fromkeys(("pool:share=0.25", "pool_self", "pool_truth", "pool_placebo"), 12)
    assert (
        arms["pool_placebo"]["pool_boxes"]
        == arms["pool:share=0.25"]["pool_boxes"]
        > 0
        == arms["baseline"]["pool_boxes"]
    )
    assert arms["fill+response"]["pool_boxes"] > 0
    found = content["labelling"]
    assert found["seconds"] > 0 and found["images"] == 12 + 48 and found["imgsz"] == 64 and found["boxes"] > 0
    assert f"and given {found['boxes']:,} labels" in taught.out and "looked at 60 images at 64 px" in taught.out
    doubts = json.loads((taught.project / "label_review.json").read_bytes())["images"]
    assert f"doubts {sum(len(image['doubts']) for image in doubts):,} label" in taught.out
    assert found["train_images"] == 48 and (taught.project / "label_review.html").is_file()
    assert "label_review.html, beside this report" in taught.out
    assert content["audit"]["excepted"]["pool_self"] == ["batch_hash", "stream_hash"]
    assert content["headline"]["arm"] not in ("pool_self", "pool_truth", "pool_placebo")
    own = read_lesson(next((taught.project / LESSONS).glob("control_pool_self_*.json")), [*_classes(taught)])
    assert own.teacher != content["settings"]["teacher_sha256"]


def _classes(taught: SimpleNamespace) -> list[str]:
    return json.loads(next((taught.project / LESSONS).glob("pool_*.json")).read_bytes())["lesson"]["classes"]


def test_a_further_arm_labels_nothing_again_and_a_lesson_or_truth_that_was_changed_is_refused(
    taught: SimpleNamespace, unlabelled: Path
) -> None:
    results = {file: file.stat().st_mtime_ns for file in taught.project.glob("*/result.json")}
    again = run([*taught.command, "--resume"])
    assert again.returncode == 0 and "label:" not in again.stderr, again.stdout + again.stderr
    assert {file: file.stat().st_mtime_ns for file in results} == results
    (lesson,) = (taught.project / LESSONS).glob("pool_[0-9a-f]*.json")
    before = lesson.read_bytes()
    try:
        lesson.write_bytes(before.replace(b'"imgsz":64', b'"imgsz":96'))
        refused = run([*taught.command, "--resume"])
        assert refused.returncode == 2 and "has been changed since the teacher wrote it" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        lesson.write_bytes(before)
    annotations = taught.project.parent / "truth.json"
    annotations.write_bytes(annotations.read_bytes() + b"\n")
    refused = run([*taught.command, "--resume"])
    assert refused.returncode == 2 and f"{annotations} has changed since the study began" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"arms": ["pool"]}, "arm pool learns from images without labels: give them by --unlabelled DIR"),
        ({"arms": ["pool_self"]}, "arm pool_self learns from images without labels"),
        ({"arms": ["cwd"], "unlabelled": Path("x")}, "no arm learns from it; add pool to --arms"),
        ({"arms": ["pool", "pool_truth"], "unlabelled": Path("x")}, "give it by --pool-truth JSON"),
        ({"unlabelled": Path("x"), "pool_truth": Path("none.json")}, "there is no such file"),
        ({"unlabelled": Path("x"), "teacher_imgsz": 100}, "--teacher-imgsz 100: must be a multiple of 32"),
        ({"arms": ["fill"], "train": ["rect=True"]}, "--train rect"),
        ({"arms": ["pool:share=2"], "unlabelled": Path("x")}, "share='2' must be above 0 and below 1"),
        ({"arms": ["fill:share=0.3"]}, "not a setting of the loss fill"),
        ({"arms": ["fill"], "fit_teacher": "2", "class_map": ["a=b"]}, "a teacher that is fitted has the classes"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Settings(**flags).checked()
    assert "\n" not in str(caught.value)


def test_an_arm_without_images_ends_with_exit_code_2(command: list[str]) -> None:
    done = run([*command, "--arms", "pool+response"])
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--unlabelled DIR" in done.stderr


def plan(*arms: str, **settings: Any) -> Any:
    study = made(arms=list(arms), unlabelled=Path("x"), **settings)
    places = {(key, "", "pool", 0): Path(f"/l/{key or 'pool'}.json") for key in ("", "pool_placebo")}
    return replace(study, lessons=places)


def test_controls_of_a_pool_are_compared_with_it_and_are_no_verdict_of_their_own() -> None:
    study = plan("pool", "pool+cwd:tau=2", "pool_self", controls=True)
    names = [arm.name for arm, _ in study.plan()]
    assert names == ["baseline", "pool", "pool+cwd:tau=2", "pool_self", "pool_placebo", "weight0", "random_teacher"]
    assert made(unlabelled=Path("x")).arms[1].name == "pool"
    found = pairs(study, *names[:5])
    assert {("pool", "pool_self"), ("pool", "pool_placebo"), ("pool_placebo", "baseline")} <= set(found)
    assert {arm.name for arm, _ in comparing.asked_for(study)} == {"pool", "pool+cwd:tau=2"}
    specs = specs_of(study)
    assert specs["pool"].distillation_settings["lesson"] == "/l/pool.json"
    assert specs["pool_placebo"].distillation_settings["lesson"] == "/l/pool_placebo.json"
    assert specs["pool_self"].distillation_settings["lesson"].startswith("/project/labels/control_pool_self_")
    assert specs["pool_self"].distillation == specs["pool"].distillation == "pool"
    assert specs["weight0"].distillation == "cwd" and "lesson" not in specs["weight0"].distillation_settings
    assert study.needs(key_of("pool_self")) == {key_of("baseline")}
    assert not [arm for arm, _ in plan("pool", controls=True).plan() if arm.name == "weight0"]


def test_labelling_is_counted_once_at_equal_time() -> None:
    study = plan("pool", "baseline_same_time", seeds=[0, 1], epochs=10)
    given = {"seconds": 1.0, "train_seconds": 100.0, "images": 10}
    result = Result(**given, ultralytics={}, ultralytics_last={}, work={})
    results = dict.fromkeys(study.timed_runs(*map(read_arm, ("baseline", "pool"))), result)
    assert equal_time.same_time_epochs(study, results) == 10
    for key in results:
        if key[0].name == "pool":
            results[key] = structs.replace(results[key], labelling_seconds=40.0)
    assert equal_time.same_time_epochs(study, results) == 12


def test_labelling_is_counted_in_the_hours_once_a_teacher(tmp_path: Path) -> None:
    study = plan("pool", "pool:share=0.25", "pool_placebo")
    classes = list(study.data.classes)
    lesson = Lesson(teacher="t", classes=classes, thresholds=[0.5] * len(classes), cost=Cost(80.0, 60.0, 40.0))
    other = structs.replace(lesson, teacher="u", cost=Cost(2.0, 2.0, 2.0))
    places = {("", "", "pool", 0): keep(lesson, tmp_path, "pool"), ("", "u", "pool", 0): keep(other, tmp_path, "pool")}
    again = {("", "", "pool", 1): places["", "", "pool", 0]}
    again["pool_placebo", "", "pool", 0] = keep(placebo(lesson), tmp_path, "placebo")
    assert labelling_seconds(replace(study, lessons=places | again)) == 42.0
    assert labelling_seconds(replace(study, lessons={})) == 0.0


def test_a_look_reads_no_image_of_the_lesson_again(tmp_path: Path) -> None:
    study = plan("pool")
    lesson = structs.replace(LESSON, labelled={"/p/l.jpg": LESSON.pool["/p/1.jpg"]}, imgsz=64, cost=Cost(80.0))
    parts = {"fill": structs.replace(lesson, pool={}), "pool": structs.replace(lesson, labelled={})}
    for kept in ({"pool+fill": lesson}, parts):
        places = {("", "", taught, 0): keep(part, tmp_path, "pool") for taught, part in kept.items()}
        found = labelling(replace(study, lessons=places))
        assert found == Labelling(80.0, 6, 11, 64, 1), "there are no files of these names"


def test_what_an_arm_learns_from_does_not_change_with_other_arms_and_draws() -> None:
    images = made(arms=["pool"], unlabelled=Path("x")).data.train
    own = {str(file.resolve()): LESSON.pool["/p/1.jpg"] for file in images.files}
    whole = structs.replace(LESSON, labelled=own | {"/of/another/draw.jpg": LESSON.pool["/p/2.jpg"]})
    assert part_of(whole, {"pool"}, images) == LESSON
    assert part_of(whole, {"fill"}, images) == structs.replace(LESSON, pool={}, labelled=own)
    assert part_of(whole, {"pool", "fill"}, images) == structs.replace(LESSON, labelled=own)
    assert read_arm("pool").lesson != read_arm("pool+fill").lesson != read_arm("fill").lesson


LESSON = Lesson(
    teacher="t",
    classes=["a", "b"],
    thresholds=[0.5, 0.5],
    pool={f"/p/{i}.jpg": Found(100 + i, 50, [[i % 2, 0.9, 10, 10, 20, 20]] * i, str(i)) for i in range(5)},
)


def test_a_placebo_has_all_boxes_and_none_where_it_was(tmp_path: Path) -> None:
    found = placebo(LESSON)
    assert (
        list(found.pool) == list(LESSON.pool) and labels_of(found.pool, found) == labels_of(LESSON.pool, LESSON) == 10
    )
    assert all(len(found.pool[file].rows) != len(LESSON.pool[file].rows) for file in LESSON.pool)
    for one in found.pool.values():
        assert all(box[2] + box[4] <= one.width for box in one.rows)
    assert [one.sha256 for one in found.pool.values()] == [one.sha256 for one in LESSON.pool.values()]
    path, other = keep(LESSON, tmp_path, "pool"), keep(found, tmp_path, "pool")
    assert path != other and path == keep(structs.replace(LESSON, cost=Cost(9.0)), tmp_path, "pool")
    path.write_bytes(other.read_bytes())  # a whole lesson, of another arm or teacher
    with pytest.raises(UserError, match="is another lesson than the one of that name"):
        keep(LESSON, tmp_path, "pool")
    with pytest.raises(UserError, match="arm pool_placebo: --unlabelled has one image"):
        placebo(structs.replace(LESSON, pool={"/p/1.jpg": LESSON.pool["/p/1.jpg"]}))


def test_what_the_teacher_cannot_know_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = {"thresholds": np.ones(3), "detect": {}, "boxes": np.zeros((0, 6)), "store": SimpleNamespace(cost=Cost())}
    labeller = SimpleNamespace(**{name: lambda *_, found=found: found for name, found in looks.items()})
    monkeypatch.setattr(lessons, "Labeller", lambda *_: labeller)
    teacher = Weights("t.pt", "0" * 64, ("b", "z"), 1, (8,))
    data, image = SimpleNamespace(classes=("a", "b", "c"), val=None), PoolImage(Path("/p/1.jpg"), "1.jpg", "", "", 9, 9)
    for pool in (None, Pool(Path("/p"), (image,), {}, {}, 0)):
        teach_once(Source([data], pool, False, tmp_path, 64), teacher)
        said = "note: the teacher does not know 2 of 3 classes, a, c: in the unlabelled images these are background\n"
        assert capsys.readouterr().out == (said if pool else "")


@pytest.mark.parametrize("grows", [True, False])
def test_a_cluster_has_its_nodes_label_for_pool_self(
    grows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, key = replace(plan("pool", "pool_self"), project=tmp_path), key_of("pool_self")
    asked = []
    monkeypatch.setattr(lessons, "read_weights", lambda *_: study.student)
    monkeypatch.setattr(lessons, "teach_once", lambda _, teacher, slots: asked.append((teacher, slots)) or LESSON)
    slots = SimpleNamespace(grows=grows)
    prepare_run(study, key_of("pool"), slots)
    assert not asked
    prepare_run(study, key, slots)
    assert asked == [(study.student, slots if grows else None)]
    assert digest(unsealed(study.lesson(*key))) == Sealed.of(LESSON).sha256


def test_a_truth_is_known_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [
        {"id": n, "image_id": image, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": crowd}
        for n, (image, crowd) in enumerate([(1, 0), (1, 1), (2, 0)])
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in (1, 2)],
        "annotations": boxes,
        "categories": [{"id": 7, "name": "b"}],
    }
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(content))
    images = tuple(PoolImage(Path(f"/p/{i}.jpg"), f"{i}.jpg", f"{i}.jpg", "", 9, 9) for i in (1, 2))
    pool = Pool(Path("/p"), images, {}, {}, 0)
    found = truth(LESSON, file, pool)
    assert found.pool["/p/1.jpg"].rows == [[1, 1, 1, 2, 3, 4]]  # a crowd is no object
    said = capsys.readouterr().out
    assert said == f"note: --pool-truth {file} has no class a: pool_truth takes their objects for background\n"
    unread = structs.replace(LESSON, pool={"/p/1.jpg": LESSON.pool["/p/1.jpg"]})  # 2.jpg could not be decoded
    assert list(truth(unread, file, pool).pool) == ["/p/1.jpg"]
    with pytest.raises(UserError, match=r"1.jpg is 12x9, but its annotations are for 9x9"):
        truth(LESSON, file, replace(pool, images=(replace(images[0], width=12), images[1])))
    two = (
        replace(images[0], name="a/1.jpg", file=Path("/p/1.jpg")),
        replace(images[0], name="b/1.jpg", file=Path("/p/b/1.jpg")),
    )
    with pytest.raises(UserError, match=r"a/1.jpg is not in it"):  # whose boxes would they be?
        truth(LESSON, file, replace(pool, images=two))
    content["images"][0]["file_name"] = "b/1.jpg"
    file.write_text(json.dumps(content))
    assert truth(LESSON, file, pool).pool == found.pool
    content["images"] += [{**content["images"][0], "id": 3, "file_name": "p/2.jpg"}]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"/p/2.jpg may be 2.jpg of it, or p/2.jpg; give --unlabelled the folder"):
        truth(LESSON, file, pool)
    del content["images"][-1]
    with pytest.raises(UserError, match=r"a/1.jpg is not in it"):  # that of folder b is another one
        truth(LESSON, file, replace(pool, images=(two[0], images[1])))
    content["images"][0]["file_name"] = "1.jpg"
    file.write_text(json.dumps(content | {"annotations": [one | {"image_id": 3} for one in boxes]}))
    with pytest.raises(UserError, match="names image 3, which the file does not have"):
        truth(LESSON, file, pool)
    other = {"images": [*content["images"], {**content["images"][0], "id": 3, "file_name": "3.jpg"}]}
    file.write_text(json.dumps(content | other | {"annotations": [one | {"image_id": 3, "score": 1} for one in boxes]}))
    with pytest.raises(UserError, match="it has no box in the images of --unlabelled"):
        truth(LESSON, file, pool)
    file.write_text(json.dumps(content | {"annotations": [one | {"score": 0.9} for one in boxes]}))
    truth(LESSON, file, pool)
    assert "has scores, as a model gives them" in capsys.readouterr().out
    content["categories"][0]["name"] = "c"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="no class 'c'"):
        truth(LESSON, file, pool)
    more = replace(pool, images=(*images, replace(images[0], name="3.jpg", file=Path("/p/3.jpg"))))
    content["categories"][0]["name"] = "b"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"3.jpg is not in it"):
        truth(LESSON, file, more)


def test_a_study_without_images_may_get_some() -> None:
    first = {"arms": ["baseline", "cwd"], "seeds": [0], "draws": 1, "controls": False, "teacher": "t.pt"}
    second = first | {"arms": ["baseline", "cwd", "pool"], "unlabelled": "/photos", "unlabelled_sha256": "1"}
    assert store._adds(second, first)
    assert store._adds(second | {"pool_truth": "/t.json", "pool_truth_sha256": "2"}, second)
    assert not store._adds(second | {"unlabelled_sha256": "2"}, second)
    assert not store._adds(second | {"teacher_imgsz": 320}, second | {"teacher_imgsz": 640})
    assert store._adds(second | {"teacher_imgsz": 320}, first)
    filled = first | {"arms": ["baseline", "fill"], "teacher_imgsz": 64, "class_map": []}
    assert store._adds(filled | {"arms": ["baseline", "fill", "cwd"]}, filled)
    for other in ({"teacher_imgsz": 96}, {"class_map": ["kite=ball"]}):
        assert not store._adds(filled | other, filled), "it is another study, without images, too"
