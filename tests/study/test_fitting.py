"""`--fit-teacher` as its users run it: fitted once, told in the report, killed and gone on with, refused."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from plans import made, timed
from studies import PROGRAM, assert_figures_of_pycocotools, environment, run, wait_for
from ultralytics import YOLO

from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import read_comparison
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.words import Words
from coco1k_kd.runs.results import finished
from coco1k_kd.runs.spec import comparable_seconds, read_spec
from coco1k_kd.study import audit, equal_time
from coco1k_kd.study.arms import read_arm
from coco1k_kd.study.collect import state_difference
from coco1k_kd.study.plan import Fitted
from coco1k_kd.verdict.matching import coco_metrics


@pytest.fixture(scope="module")
def asked(command: list[str], coco_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The study's command with a fitted teacher and other images that judge."""
    project = tmp_path_factory.mktemp("fitted") / "experiments"
    return [*command[:-1], str(project), "--judge", str(coco_root), "--fit-teacher", "2", "--epochs", "1"]


@pytest.fixture(scope="module")
def fitted(asked: list[str], coco_root: Path) -> SimpleNamespace:
    """The study, with equal time."""
    done = run([*asked, "--arms", "baseline", "cwd", "baseline_same_time"])
    assert done.returncode == 0, done.stdout + done.stderr
    project = Path(asked[asked.index("--project") + 1])
    (path,) = project.glob("comparison_*.json")
    (folder,) = project.glob("teacher_*")
    return SimpleNamespace(
        out=done.stdout, project=project, path=path, folder=folder, read=json.loads(path.read_bytes())
    )


def test_it_is_one_run_and_students_learn_from_its_best_epoch(fitted: SimpleNamespace, models: Path) -> None:
    best, spec = fitted.folder / "weights" / "best.pt", read_spec(fitted.folder)
    assert spec.distillation is None and Path(spec.student) == (models / "teacher.pt").resolve()
    assert (spec.train_args["epochs"], spec.train_args["patience"], spec.train_args["imgsz"]) == (2, 0, 64)
    assert state_difference(best, fitted.folder / "weights" / "last.pt") >= 0, "plain checkpoints of Ultralytics"
    (cwd,) = fitted.read["arms"]["cwd"]["runs"]
    taught = read_spec(Path(cwd["dir"]))
    assert Path(taught.teacher) == best
    assert finished(Path(cwd["dir"])).teacher_sha256 == sha256(best)
    assert read_spec(Path(fitted.read["arms"]["baseline"]["runs"][0]["dir"])).teacher is None


def test_the_report_has_its_figures_on_val_and_on_the_judging_images(
    fitted: SimpleNamespace, subset: Path, models: Path
) -> None:
    jsonschema.validate(fitted.read, json.loads((PROGRAM.parent / "docs" / "comparison.schema.json").read_bytes()))
    teacher, result = fitted.read["references"]["teacher"], finished(fitted.folder)
    given = str((models / "teacher.pt").resolve())
    assert teacher["fitted"] == {"epochs": 2, "seconds": result.train_seconds, "from": given}
    assert teacher["weights"] == str(fitted.folder / "weights" / "best.pt")
    truth = subset / "annotations" / "instances_val2017.json"
    assert_figures_of_pycocotools(teacher, truth, Path(teacher["predictions"]))
    (judge,) = fitted.project.glob("judges/*/annotations.json")
    judged = coco_metrics(judge, Path(teacher["judged"]))
    assert teacher["ap_judge"] == judged["ap"]
    assert_figures_of_pycocotools(judged, judge, Path(teacher["judged"]))


def test_console_markdown_and_page_say_it(fitted: SimpleNamespace) -> None:
    minutes = f"{fitted.read['references']['teacher']['fitted']['seconds'] / 60:.1f}"
    page = next(fitted.project.glob("report_*.html")).read_text()
    for text in (fitted.out, fitted.path.with_suffix(".md").read_text(), page):
        assert "teacher (fitted, 2 epochs)" in text and "from teacher: 2 epochs, of which the validation" in text
    assert re.search(rf"^\| teacher \(fitted, 2 epochs\) +\| {minutes} ", fitted.out, re.M), "its time"
    assert "fitting to the train images: " in fitted.out and "teacher as given" not in fitted.out
    assert "교사(데이터에 맞춤, 2에폭)" in markdown(read_comparison(fitted.path), Words("ko"))


def test_equal_time_counts_it_once(fitted: SimpleNamespace) -> None:
    runs = {arm: entry["runs"][0] for arm, entry in fitted.read["arms"].items()}
    folders = [Path(runs["baseline"]["dir"]), Path(runs["cwd"]["dir"]), fitted.folder]
    baseline, cwd, teacher = comparable_seconds([finished(folder) for folder in folders])
    assert runs["baseline_same_time"]["epochs"] == round((cwd + teacher) / baseline) > 1
    plan = made(arms=["cwd", "baseline_same_time"], seeds=[0, 1], epochs=10)
    took = {"baseline": 100.0, "cwd": 140.0}
    results = {(read_arm(arm), (0, seed)): timed(took[arm]) for arm in took for seed in (0, 1)}
    plan = replace(plan, fitted={(plan.teacher.path, 0): Fitted(Path(), plan.teacher, timed(60.0))})
    assert equal_time.same_time_epochs(plan, results) == 17, "(2 * 140 + 60) / (2 * 100)"


def test_a_second_study_has_the_same_teacher_and_other_settings_another(
    fitted: SimpleNamespace, asked: list[str]
) -> None:
    before = (fitted.folder / "result.json").stat().st_mtime_ns
    done = run(asked, "--arms", "baseline", "cwd:tau=2", "--seeds", "1", "--epochs", "2", "--judge", "val")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", fitted before" in done.stdout and "fitting to" not in done.stdout
    assert (fitted.folder / "result.json").stat().st_mtime_ns == before
    stamp = max(fitted.project.glob("comparison_*.json"))
    again = json.loads(stamp.read_bytes())["references"]["teacher"]
    first = fitted.read["references"]["teacher"]
    assert again["fitted"] == first["fitted"] and again["ap"] == again["ap_judge"] == first["ap"]


def test_beside_the_fitting_an_idle_slot_trains_baselines_and_they_are_the_same(
    fitted: SimpleNamespace, asked: list[str], tmp_path: Path
) -> None:
    done = run([*asked, "--project", str(tmp_path), "--judge", "val", "--parallel", "2"])
    assert done.returncode == 0, done.stdout + done.stderr
    (teacher,), (baseline,) = tmp_path.glob("teacher_*"), tmp_path.glob("baseline_*")
    assert (baseline / "spec.json").stat().st_mtime < (teacher / "result.json").stat().st_mtime
    assert "baseline (seed 0): trained" in done.stdout and "finished before: baseline (seed 0): AP" in done.stdout
    assert finished(baseline).at_once == finished(teacher).at_once == 2, "equal time is that of the cores"
    alone = Path(fitted.read["arms"]["baseline"]["runs"][0]["dir"])
    assert state_difference(*(folder / "weights" / "last.pt" for folder in (baseline, alone))) == 0
    assert state_difference(*(folder / "weights" / "best.pt" for folder in (teacher, fitted.folder))) == 0


@pytest.fixture
def unlearnt(subset: Path, models: Path, tmp_path: Path) -> Path:
    """Data whose val labels are what the teacher as given finds there: what the train images teach takes it away."""
    data, teacher = tmp_path / "data", YOLO(models / "teacher.pt")
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            shutil.copytree(subset / kind / f"{split}2017", data / kind / split)
    for image in (data / "images" / "val").glob("*.jpg"):
        (found,) = teacher.predict(image, imgsz=64, conf=0.001, max_det=8, verbose=False)
        rows = zip(found.boxes.cls.int().tolist(), found.boxes.xywhn.tolist(), strict=True)
        lines = [" ".join(map(str, (number, *box))) for number, box in rows]
        (data / "labels" / "val" / f"{image.stem}.txt").write_text("\n".join(lines))
    content = {"path": str(data), "train": "images/train", "val": "images/val", "names": teacher.names}
    (data / "data.yaml").write_text(yaml.safe_dump(content))
    return data / "data.yaml"


def test_killed_while_it_is_fitted_it_goes_on_and_stops_as_patience_says(
    fitted: SimpleNamespace, asked: list[str], unlearnt: Path, tmp_path: Path
) -> None:
    """With auto; the interrupt, too, ends the training."""
    asked = [*asked, "--data", str(unlearnt), "--fit-teacher", "auto", "--judge", "val", "--project", str(tmp_path)]
    study = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(), text=True)
    snapshot = wait_for(lambda: next(tmp_path.glob("teacher_*/weights/resume.pt"), None))
    study.send_signal(signal.SIGINT)
    assert study.communicate(timeout=300)[1].splitlines()[-1] == "interrupted" and study.returncode == 130
    folder = snapshot.parents[1]
    assert folder.name != fitted.folder.name and not (folder / "result.json").exists()
    assert read_spec(folder).train_args["epochs"] == 100 and read_spec(folder).train_args["patience"] == 10
    done = run(asked, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on with the study of" in done.stdout and not snapshot.exists()
    result = finished(folder)
    assert result.resumed_after_epochs and result.work["train_images"] == 48
    (content,) = (json.loads(path.read_bytes()) for path in tmp_path.glob("comparison_*.json"))
    rows = (folder / "results.csv").read_text().splitlines()[1:]
    fitness = [float(row.split(",")[_column(folder, "metrics/mAP50-95(B)")]) for row in rows]
    assert content["references"]["teacher"]["fitted"]["epochs"] == len(rows) < 100, "val no longer rose"
    assert len(rows) == 1 + fitness.index(max(fitness)) + 10


def _column(folder: Path, name: str) -> int:
    return [key.strip() for key in (folder / "results.csv").read_text().splitlines()[0].split(",")].index(name)


def test_another_checkpoint_in_its_place_is_refused(
    fitted: SimpleNamespace, asked: list[str], models: Path, tmp_path: Path
) -> None:
    """When the study goes on, and whatever it has then still to train."""
    project = tmp_path / "experiments"
    shutil.copytree(fitted.project, project)
    (best,) = project.glob("teacher_*/weights/best.pt")
    before = {folder.name for folder in project.glob("kd_*")}
    shutil.copy(models / "teacher.pt", best)
    arms = ["--arms", "baseline", "cwd", "cwd:tau=2", "baseline_same_time", "--project", str(project)]
    done = run(asked, *arms, "--resume")
    assert done.returncode == 2 and f"{best} is not what its run wrote: put it back" in done.stderr, done.stderr
    assert {folder.name for folder in project.glob("kd_*")} == before, "nothing was trained"


def test_a_student_of_another_teacher_is_not_compared(fitted: SimpleNamespace) -> None:
    (cwd,) = fitted.read["arms"]["cwd"]["runs"]
    plan = made(arms=["cwd"])
    other = replace(plan.teacher, sha256="0" * 64)
    plan = replace(plan, fitted={(plan.teacher.path, 0): Fitted(Path(), other, timed(1.0))})
    plan.__dict__["hashes"] = {"draw 0": {}, "loss file": {}}
    wanted = {"teacher_sha256": plan.read_by((read_arm("cwd"), (0, 0)))["teacher_sha256"]}
    with pytest.raises(UserError, match=r"no verdict: cwd has read other files .* teacher_sha256 is"):
        audit.check_read("cwd", finished(Path(cwd["dir"])), wanted)


def test_every_draw_learns_from_its_own_teacher() -> None:
    plan = made(arms=["cwd"], draws=2, seeds=[0])
    plan = replace(plan, further=(replace(plan.data, yaml=Path("/draws/1/coco1k.yaml")),))
    given = plan.teacher.path
    teachers = {(given, draw): replace(plan.teacher, path=f"/t{draw}.pt", sha256=f"{draw}") for draw in (0, 1)}
    plan = replace(plan, fitted={key: Fitted(Path(), teacher, timed(1.0)) for key, teacher in teachers.items()})
    specs = [plan.spec(read_arm("cwd"), (draw, 0), 3) for draw in (0, 1)]
    assert [spec.teacher for spec in specs] == ["/t0.pt", "/t1.pt"]


@pytest.mark.parametrize("value", ["0", "-1", "foo"])
def test_what_is_no_number_of_epochs_is_refused_in_a_line(command: list[str], tmp_path: Path, value: str) -> None:
    done = run([*command[:-1], str(tmp_path / "none")], "--fit-teacher", value)
    assert (done.returncode, done.stdout) == (2, "") and not (tmp_path / "none").exists()
    assert done.stderr == f"error: --fit-teacher {value}: give a number of epochs from 1 on, or auto\n"


def test_without_an_arm_that_learns_from_it_no_teacher_is_fitted() -> None:
    settings: dict[str, Any] = {"arms": ["baseline"], "fit_teacher": "3"}
    with pytest.raises(UserError, match="--fit-teacher 3: no arm learns from a teacher"):
        made(**settings)
    assert made(**settings, controls=True).settings.fit_teacher == 3
    for value in ("2.5", "", "AUTO"):
        with pytest.raises(UserError, match="give a number of epochs from 1 on, or auto"):
            made(fit_teacher=value)
