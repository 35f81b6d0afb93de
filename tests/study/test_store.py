"""A study's place on disk: begun once, found again, and never another's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from plans import key_of, made

from coco1k_kd.data.dataset import Data, read_data
from coco1k_kd.data.labels import label_file
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.runs import train
from coco1k_kd.runs.launch import launch
from coco1k_kd.runs.results import write_result
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import SPEC, Result, TrainSpec, write
from coco1k_kd.study import store
from coco1k_kd.study.arms import BASELINE
from coco1k_kd.study.judge import Judge
from coco1k_kd.study.plan import Study
from coco1k_kd.study.references import Evaluator
from coco1k_kd.study.settings import Settings


@pytest.fixture
def study(subset: Path, models: Path, tmp_path: Path) -> Study:
    data, student = subset / "coco1k.yaml", models / "student.pt"
    settings = Settings(data=data, student=str(student), teacher=str(student), arms=["baseline"], seeds=[0]).checked()
    return Study(settings, read_data(data), read_weights(str(student), "student"), None, tmp_path / "p", stamp="")


@pytest.fixture
def spec(study: Study) -> TrainSpec:
    spec = study.spec(BASELINE, (0, 0), 3)
    Path(spec.folder).mkdir(parents=True)
    return spec


def test_studies_that_begin_at_the_same_moment_are_two(study: Study) -> None:
    with ThreadPoolExecutor(4) as pool:
        stamps = {begun.stamp for begun in pool.map(store.begin, [study] * 4)}
    assert len(stamps) == 4


@pytest.mark.parametrize("content", ["", '{"arms": [', "[]", "{}"])
def test_a_torn_record_is_left_out_with_a_note(study: Study, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    begun = store.begin(study)
    torn = study.project / "study_20990101_000000.json"
    torn.write_text(content)
    found = store.find(study)
    assert found is not None and found.stamp == begun.stamp
    assert f"note: {torn} is left out" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_file_locks_it_goes_on_and_says_so(
    study: Study, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = store.begin(study)
    with store.locked(begun), pytest.raises(UserError, match="another process"), store.locked(begun):
        pass

    def no_locks(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with store.locked(begun), store.locked(begun):
        assert f"{study.project} has no file locks" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "named"), [({"seed": 7}, "seed is 7"), ({"arm": "cwd"}, "arm is cwd")])
def test_the_folder_of_another_run_is_not_taken_over(
    spec: TrainSpec, change: dict[str, object], named: str, result_of: Callable[[], Result]
) -> None:
    folder = Path(spec.folder)
    write_result(folder, result_of())
    write(folder / SPEC, spec)
    assert launch(spec, "baseline").work == result_of().work
    content = json.loads((folder / SPEC).read_bytes()) | change
    (folder / SPEC).write_text(json.dumps(content))
    for file in ("result.json", "nothing"):  # then one that is to go on from its snapshot
        with pytest.raises(UserError, match=f"holds another run: its {named}"):
            launch(spec, "baseline")
        (folder / file).unlink(missing_ok=True)


@pytest.fixture
def result_of() -> Callable[[], Result]:
    return lambda: Result(seconds=1.0, ultralytics={}, ultralytics_last={}, work={"amp": False})


@pytest.fixture
def own(study: Study, tmp_path: Path) -> Study:
    """A study of a copy of data and student, which may be changed."""
    shutil.copytree(study.data.root, tmp_path / "own")
    path = tmp_path / "own" / "coco1k.yaml"
    path.write_text(path.read_text().replace(str(study.data.root), str(tmp_path / "own")))
    student = shutil.copy(study.student.path, tmp_path / "student.pt")
    settings = replace(study.settings, data=path, student=str(student))
    return replace(study, data=read_data(path), settings=settings, student=read_weights(str(student), "student"))


@pytest.mark.parametrize(
    "named",
    [
        lambda own: own.data.val.files[3],
        lambda own: Path(label_file(str(own.data.train.files[3]))),
        lambda own: own.data.val.annotations,
        lambda own: Path(own.student.path),
    ],
)
def test_a_file_that_was_replaced_is_named_and_nothing_goes_on(own: Study, named: Callable[[Study], Path]) -> None:
    begun, file = store.begin(own), named(own)
    assert store.find(replace(own)).stamp == begun.stamp
    spec = begun.spec(BASELINE, (0, 0), 3)
    other = replace(own, data=own.data)
    file.write_bytes(file.read_bytes() + b" ")
    if file.suffix == ".pt":
        other = replace(own, student=replace(own.student, sha256=sha256(file)))
    with pytest.raises(UserError, match=f"{file} has changed since the study began"):
        store.find(other)
    with pytest.raises(UserError, match=f"{file} has changed since the study began"):
        train.train(spec)


def test_the_images_of_further_draws_and_of_a_judge_are_checked_by_the_run_that_reads_them(own: Study) -> None:
    begun = store.begin(replace(own, further=(own.data,)))
    draw = structs.replace(begun.spec(BASELINE, (0, 0), 3), draw=1)
    assert train.what_it_reads(draw) == begun.read_by((BASELINE, (1, 0)))
    judge = Judge("test", own.data.val, own.data.yaml)
    spec = Evaluator(begun, Slots(), judge).of_run((BASELINE, (0, 0)))
    image = own.data.val.files[0]
    image.write_bytes(b"other")
    for reads in (lambda: train.what_it_reads(draw), lambda: train.evaluate(spec)):
        with pytest.raises(UserError, match=f"{image} has changed since the study began"):
            reads()


def test_the_disk_must_hold_all_runs_and_one_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checkpoints of 4 bytes a number and the predictions of each run, the fitted teacher's, and a snapshot."""
    need = 3 * (8 * 2_600_000 + 70_000 * 400) + 8 * 20_000_000 + 60 * 20_000_000
    for free, said in ((need, None), (need - 1, "1.5"), (1_450_000_000, "1.4"), (1_350_000_000, "1.4")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        says = rf"3 runs need about 1\.5 GB in .*new/p, {said} GB are free: make room"
        with pytest.raises(UserError, match=says) if said else contextlib.nullcontext():
            store.check_disk(tmp_path / "new" / "p", 3, 2_600_000, 400, 20_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=8 * 10**6 + 70_000 + 60 * 10**6))
    store.check_disk(tmp_path, 1, 10**6, 1)


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ({"torch": "2.16", "threads": "2"}, "torch was 2.15 when the study of .* began, and is 2.16: go on with what"),
        ({"torch": "2.15", "threads": "1"}, "threads was 2 when .* and is 1"),
        ({"torch": "2.15"}, "threads was 2 when .* and is None"),
    ],
)
def test_what_computes_is_part_of_the_study(study: Study, now: dict[str, str], named: str) -> None:
    began = {"torch": "2.15", "threads": "2"}
    begun = store.begin(replace(study, computes=began))
    assert store.find(replace(study, computes=began)).stamp == begun.stamp
    with pytest.raises(UserError, match=named):
        store.find(replace(study, computes=now))


def begun(project: Path, stamp: str, finished: bool = False, **settings: Any) -> Study:
    """A study whose record lies in `project`; `finished`: also its comparison."""
    plan = replace(made(**settings), project=project, stamp=stamp)
    (project / f"study_{stamp}.json").write_text(json.dumps(plan.record(), default=str))
    if finished:
        (project / f"comparison_{stamp}.json").write_text('{"design": {"stopped": "fixed"}}')
    return plan


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project; the data of its studies are not read."""
    monkeypatch.setattr(Data, "record", lambda self: {"train_images": 100, "val_annotations_sha256": "0" * 64})
    return tmp_path


def asked(project: Path, **settings: Any) -> Study | None:
    """What --resume finds for these settings."""
    return store.find(replace(made(**settings), project=project, stamp=""))


def test_the_study_that_matches_is_found_and_no_other(shelf: Path) -> None:
    assert asked(shelf, epochs=5) is None
    for number, epochs in ((1, 5), (2, 6), (3, 5)):
        begun(shelf, f"20260101_00000{number}", epochs=epochs)
    assert asked(shelf, epochs=5).stamp == "20260101_000003"
    ended = '{"design": {"stopped": "fixed"}}'
    (shelf / "comparison_20260101_000003.json").write_text(ended)
    assert asked(shelf, epochs=5).stamp == "20260101_000001", "an unfinished one goes before a finished one"
    (shelf / "comparison_20260101_000001.json").write_text(ended)
    assert asked(shelf, epochs=5).stamp == "20260101_000003", "all done: the newest, to be reported again"
    assert asked(shelf, epochs=7) is None, "other settings are another study"


@pytest.mark.parametrize(
    "more", [{"seeds": [1, 0, 4]}, {"draws": 2}, {"arms": ["cwd", "mgd"]}, {"controls": True}, {"seeds": [0, 1, 2]}]
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_resume_adds_to_a_study_and_keeps_its_runs(shelf: Path, more: dict[str, Any], finished: bool) -> None:
    first = begun(shelf, "20260101_000001", finished, seeds=[0, 1])
    plan = store.begin(asked(shelf, **{"seeds": [0, 1], **more}))
    assert plan.base.stamp == first.stamp != plan.stamp
    assert set(first.plan()) < set(plan.plan())
    for key in plan.plan():
        kept = key in first.plan()
        assert plan.folder(*key) == (first.folder(*key) if kept else replace(plan, base=None).folder(*key))
    again = asked(shelf, **{"seeds": [0, 1], **more})
    assert again.stamp == plan.stamp and [again.folder(*key) for key in again.plan()] == [
        plan.folder(*key) for key in plan.plan()
    ]
    third = asked(shelf, **{"seeds": [0, 1], **more, "arms": ["cwd", "mgd", "ultralytics"]})
    assert third.base.base.stamp == first.stamp and third.folder(*key_of("cwd", seed=1)) == first.folder(
        *key_of("cwd", seed=1)
    )
    with store.locked(plan), pytest.raises(UserError, match="another process"), store.locked(first):
        pass


def test_a_baseline_alone_gets_arms_with_a_teacher(shelf: Path) -> None:
    lone = replace(made(arms=["baseline"]), project=shelf, stamp="20260101_000001", teacher=None)
    (shelf / "study_20260101_000001.json").write_text(json.dumps(lone.record(), default=str))
    assert asked(shelf, arms=["cwd"]).base.stamp == lone.stamp


@pytest.mark.parametrize("less", [{"seeds": [0]}, {"arms": ["baseline"]}, {"seeds": [0, 2]}, {"epochs": 3}])
def test_a_resume_leaves_nothing_out(shelf: Path, less: dict[str, Any]) -> None:
    begun(shelf, "20260101_000001", seeds=[0, 1], draws=1)
    assert asked(shelf, **{"seeds": [0, 1], **less}) is None


def test_two_processes_cannot_do_the_same_study(shelf: Path) -> None:
    plan = begun(shelf, "20260101_000001")
    with store.locked(plan), pytest.raises(UserError, match="another process"), store.locked(plan):
        pass
