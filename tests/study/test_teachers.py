"""Which teacher is best: several teachers, each of which teaches every arm that distils, and arms with their own."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from plans import made
from studies import PROGRAM, run

from coco1k_kd.data.dataset import Data
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import read_comparison
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.words import Words
from coco1k_kd.runs.spec import read_spec
from coco1k_kd.study import store
from coco1k_kd.study.arms import Arm
from coco1k_kd.study.plan import Study
from coco1k_kd.study.settings import Settings
from coco1k_kd.study.teachers import read_teachers


def checked(**settings: Any) -> Settings:
    return Settings(data=Path("x.yaml"), **settings).checked()


def names(settings: Settings) -> list[str]:
    return [arm.name for arm in settings.arms if isinstance(arm, Arm)]


def test_every_arm_that_distils_has_each_teacher_once() -> None:
    arms = ["baseline", "cwd", "cwd:every=2", "ultralytics", "mgd:teacher=own.pt", "baseline_same_time"]
    chosen = checked(teacher=["a.pt", "b.pt", "c.pt"], arms=arms)
    assert chosen.teacher == "a.pt"
    assert names(chosen) == [
        *("baseline", "cwd", "cwd:every=2", "cwd:every=2:teacher=b.pt", "cwd:every=2:teacher=c.pt"),
        *("cwd:teacher=b.pt", "cwd:teacher=c.pt", "mgd:teacher=own.pt"),
        *("ultralytics", "ultralytics:teacher=b.pt", "ultralytics:teacher=c.pt", "baseline_same_time"),
    ]
    assert names(checked(teacher=["a.pt", "b.pt"], loss="mgd")) == ["baseline", "mgd", "mgd:teacher=b.pt"]
    for one in ("a.pt", ["a.pt"]):
        assert vars(checked(teacher=one)) == vars(checked(teacher="a.pt")), "one teacher is as it was"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": ["a.pt", "a.pt"]}, "--teacher names something twice: a.pt a.pt"),
        ({"teacher": ["a.pt", "b.pt"], "arms": ["baseline"]}, "--teacher a.pt b.pt: no arm learns from each of them"),
        (
            {"teacher": ["a.pt", "b.pt"], "arms": ["pool"], "unlabelled": Path("x")},
            "--teacher a.pt b.pt: no arm learns from each of them; add one that distils batch by batch",
        ),
        ({"teacher": "a.pt", "arms": ["cwd:teacher=a.pt"]}, "arm cwd:teacher=a.pt: a.pt is --teacher; leave it out"),
        ({"teacher": ["a.pt", "x/b.pt", "y/b.pt"]}, "their teachers have one file name; rename one of them"),
    ],
)
def test_teachers_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        checked(**settings)


def test_images_are_labelled_by_the_first_of_several_teachers() -> None:
    asked = ["pool", "pool_self", "pool+cwd", "cwd"]
    arms = checked(teacher=["a.pt", "b.pt"], arms=asked, unlabelled=Path("x")).arms
    assert sorted(arm.name for arm in arms if arm.teacher) == ["cwd:teacher=b.pt"]


@pytest.fixture
def another(models: Path, tmp_path: Path) -> Path:
    """A second teacher, whose weights are a little different."""
    file = tmp_path / "Another.pt"
    checkpoint = torch.load(models / "teacher.pt", map_location="cpu", weights_only=False)
    with torch.no_grad():
        for parameter in checkpoint["model"].parameters():
            parameter.mul_(1.01)
    torch.save(checkpoint, file)
    return file


def test_the_same_weights_under_two_names_are_one_teacher(models: Path, another: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    shutil.copy(models / "teacher.pt", copy)
    student = read_weights(str(models / "student.pt"), "student")
    main, others = read_teachers(checked(teacher=[str(models / "teacher.pt"), str(another)]), student)
    assert (main.sha256, others[str(another)].sha256) == (sha256(models / "teacher.pt"), sha256(another))
    with pytest.raises(UserError, match="are the same weights: give one of them"):
        read_teachers(checked(teacher=[str(models / "teacher.pt"), str(copy)]), student)
    alone = checked(teacher="nowhere.pt", arms=["cwd:teacher=" + str(another)])
    assert read_teachers(alone, student)[0] is None, "nobody learns from it, and it need not be there"
    needed = replace(alone, controls=True)
    with pytest.raises(UserError, match=re.escape("nowhere.pt")):
        read_teachers(needed, student)


def test_two_teachers_are_compared_and_a_third_is_added(command: list[str], another: Path, tmp_path: Path) -> None:
    first = command[command.index("--teacher") + 1]
    alone = [*command[:-1], str(tmp_path / "project"), "--epochs", "1", "--arms", "baseline"]
    done = run([*alone, "cwd"])
    assert done.returncode == 0, done.stdout + done.stderr
    both = [*alone, "cwd", "--resume", "--teacher", first, str(another)]
    done = run(both)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "adding to the study of" in done.stdout and done.stdout.count("finished before") == 2
    path = max((tmp_path / "project").glob("comparison_*.json"))
    content = json.loads(path.read_bytes())
    jsonschema.validate(content, json.loads((PROGRAM.parent / "docs" / "comparison.schema.json").read_bytes()))
    arm = f"cwd:teacher={another}"
    assert list(content["arms"]) == ["baseline", "cwd", arm]
    assert {(one["arm"], one["against"]) for one in content["comparisons"]} == {
        *(("cwd", "baseline"), (arm, "baseline"), (arm, "cwd")),
    }
    hashes = {role: row["sha256"] for role, row in content["references"].items() if role != "student"}
    assert hashes == {"teacher": sha256(Path(first)), f"teacher={another}": sha256(another)}
    assert all(row["ap"] is not None for row in content["references"].values())
    for name, wanted in (("cwd", first), (arm, str(another))):
        folder = Path(content["arms"][name]["runs"][0]["dir"])
        assert json.loads((folder / "result.json").read_bytes())["teacher_sha256"] == sha256(Path(wanted))
        assert read_spec(folder).teacher == str(Path(wanted).resolve())
    assert folder.name.startswith("kd_cwd_teacher=Another.pt_")
    for language, row in (("en", "teacher Another.pt (as given)"), ("ko", "Another.pt")):
        assert row in markdown(read_comparison(path), Words(language))
    assert "teacher teacher.pt (as given)" in markdown(read_comparison(path), Words("en"))

    done = run(both)
    assert done.returncode == 0 and done.stdout.count("finished before") == 3, "all is found again"
    shutil.copy(first, another)
    assert "are the same weights" in run(both).stderr


def test_each_of_several_teachers_is_fitted_and_teaches_its_own_arm(
    command: list[str], another: Path, tmp_path: Path
) -> None:
    first, arm = command[command.index("--teacher") + 1], f"cwd:teacher={another}"
    both = [*command[:-1], str(tmp_path / "project"), "--epochs", "1", "--teacher", first, str(another)]
    done = run([*both, "--fit-teacher", "1"])
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "project").glob("comparison_*.json")
    content = json.loads(path.read_bytes())
    fitted = {}
    for role, name, given in (("teacher", "cwd", first), (f"teacher={another}", arm, str(another))):
        row, (trained,) = content["references"][role], content["arms"][name]["runs"]
        assert row["fitted"]["from"] == str(Path(given).resolve()) and row["fitted"]["epochs"] == 1
        assert read_spec(Path(trained["dir"])).teacher == row["weights"], "it learns from the fitted one"
        assert Path(row["weights"]).parents[1].name.startswith(f"teacher_{Path(given).stem}_")
        fitted[role] = row["sha256"]
    assert len({*fitted.values(), sha256(Path(first)), sha256(another)}) == 4, "both are others than before"


def test_the_hash_of_every_teacher_is_part_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Data, "record", lambda self: {"train_images": 100, "val_annotations_sha256": "0" * 64})

    def study(*arms: str, digit: str = "1") -> Study:
        plan = made(arms=["cwd", *arms])
        own = {arm.teacher: replace(plan.student, sha256=digit * 64) for arm in plan.arms if arm.teacher}
        return replace(plan, project=tmp_path, stamp="", teachers=own)

    begun = store.begin(study("cwd:teacher=b.pt"))
    record = json.loads((tmp_path / f"study_{begun.stamp}.json").read_bytes())
    assert record["teachers_sha256"] == {"b.pt": "1" * 64} and "teachers_sha256" not in study().record()
    assert store.find(study("cwd:teacher=b.pt")).stamp == begun.stamp
    assert store.find(study("cwd:teacher=b.pt", digit="2")) is None, "another file of this name is another teacher"
    assert store.find(study("cwd:teacher=b.pt", "cwd:teacher=c.pt")).base.stamp == begun.stamp
    assert store.find(study()) is None, "nothing is left out"
