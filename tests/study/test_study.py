"""The study as its users run it: whole, killed and resumed, refused; on generated scenes and from a fresh student."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from programs import Program
from studies import (
    EPOCHS,
    PROGRAM,
    alive,
    assert_figures_of_pycocotools,
    assert_same_study,
    environment,
    run,
    runs_of,
    wait_for,
)

from coco1k_kd.runs.results import finished, write_result
from coco1k_kd.runs.spec import read_spec
from coco1k_kd.study.collect import state_difference
from coco1k_kd.verdict.matching import coco_metrics


def test_it_writes_the_folders_and_figures_of_the_contract(whole: SimpleNamespace) -> None:
    content, stamp = whole.content, whole.path.stem.removeprefix("comparison_")
    jsonschema.validate(content, json.loads((PROGRAM.parent / "docs" / "comparison.schema.json").read_bytes()))
    assert (whole.project / f"kd_comparison_{stamp}.png").read_bytes()[:4] == b"\x89PNG"
    page = (whole.project / f"report_{stamp}.html").read_text()
    assert "Left out" not in page and page.count('role="img"') >= 9, "curves and kinds of error, too"
    slides = list((whole.project / f"pictures_{stamp}").glob("*.png"))
    assert page.count("data:image/jpeg") == 3 * len(slides) > 0
    assert set(content["arms"]) == {"baseline", "cwd"}
    for arm, prefix in (("baseline", ""), ("cwd", "kd_")):
        (entry,) = content["arms"][arm]["runs"]
        folder = Path(entry["dir"])
        assert folder == whole.project / f"{prefix}{arm}_{stamp}"
        assert (folder / "weights" / "best.pt").exists() and (folder / "weights" / "last.pt").exists()
        assert entry["epochs"] == EPOCHS and entry["effective_batch"] == 8 and entry["seed"] == 0
        assert entry["curves"]["epoch"] == [1, 2, 3]
        assert entry["images_per_second"] * entry["train_seconds"] == pytest.approx(48 * EPOCHS)
        assert (
            entry["val_seconds"] > 0
            and 0.02 < entry["cpu_seconds"] / entry["train_seconds"] < 64
            and entry["peak_memory_bytes"] > 2**26
        )
        assert set(entry["ultralytics"]) == {"map50", "map50_95"}
    assert min(content["arms"]["cwd"]["runs"][0]["curves"]["kd_loss"]) > 0
    assert content["audit"]["passed"] and content["schema_version"] == 1
    assert [(entry["arm"], entry["against"]) for entry in content["comparisons"]] == [("cwd", "baseline")]
    assert content["comparisons"][0]["verdict"] in whole.out
    assert content["headline"]["text"] in whole.out and content["headline"]["arm"] == "cwd"
    assert content["headline"]["answer"] in ("keep_student", "not_known"), "one seed settles nothing"
    assert str(whole.path) in whole.out


def test_both_arms_start_from_the_same_weights_and_see_the_same_batches(whole: SimpleNamespace) -> None:
    baseline, cwd = (whole.content["arms"][arm]["runs"][0] for arm in ("baseline", "cwd"))
    assert baseline["init_hash"] == cwd["init_hash"] and baseline["batch_hash"] == cwd["batch_hash"]
    last = [Path(entry["dir"]) / "weights" / "last.pt" for entry in (baseline, cwd)]
    assert state_difference(*last) > 0, "distillation changed nothing"


def test_the_figures_are_those_of_pycocotools_on_the_saved_predictions(whole: SimpleNamespace, subset: Path) -> None:
    truth = subset / "annotations" / "instances_val2017.json"
    for arm in ("baseline", "cwd"):
        entry = whole.content["arms"][arm]["runs"][0]
        for which, suffix in (("best", ""), ("last", "_last")):
            assert_figures_of_pycocotools(entry, truth, Path(entry["dir"]) / f"predictions_{which}.json", suffix)


def test_the_references_are_the_models_as_given(whole: SimpleNamespace, models: Path) -> None:
    references = whole.content["references"]
    assert set(references) == {"student", "teacher"}
    for role, row in references.items():
        assert Path(row["weights"]) == (models / f"{role}.pt").resolve()
        assert 0 <= row["ap"] <= row["ap50"] < 0.1


def test_controls_equal_time_and_a_judge_of_all_val_images(command: list[str], coco_root: Path, tmp_path: Path) -> None:
    arms = ["--arms", "baseline", "cwd", "cwd:levels=8", "baseline_same_time", "--controls"]
    more = [*arms, "--judge", str(coco_root), "--epochs", "1", "--parallel", "2"]
    done = run([*command[:-1], str(tmp_path)], *more)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("comparison_*.json")
    content = json.loads(path.read_bytes())
    jsonschema.validate(content, json.loads((PROGRAM.parent / "docs" / "comparison.schema.json").read_bytes()))
    runs = {arm: entry["runs"][0] for arm, entry in content["arms"].items()}
    assert set(runs) == {"baseline", "cwd", "cwd:levels=8", "baseline_same_time", "random_teacher"}
    last = {arm: Path(entry["dir"]) / "weights" / "last.pt" for arm, entry in runs.items()}
    entries = {(entry["arm"], entry["against"]): entry for entry in content["comparisons"]}
    second = entries.pop(("cwd:levels=8", "baseline_same_time"), {"times": content["slower"].get("cwd:levels=8")})
    assert (second["times"]["arm"] > 1.05 * second["times"]["against"]) == ("cwd:levels=8" in content["slower"])
    for arm, times in (("cwd:levels=8", second["times"]), ("cwd", entries["cwd", "baseline_same_time"]["times"])):
        assert times == {
            name: pytest.approx(runs[of]["cost_seconds"])
            for name, of in (("arm", arm), ("against", "baseline_same_time"))
        }
    assert set(entries) == {
        *((arm, "baseline") for arm in ("cwd", "cwd:levels=8", "random_teacher")),
        ("cwd:levels=8", "cwd"),
        *(("cwd", arm) for arm in ("baseline_same_time", "random_teacher")),
    }

    weight0, placebo = (content["controls"][name] for name in ("weight0", "random_teacher"))
    assert weight0["passed"] and weight0["state_difference"] == 0
    assert state_difference(Path(weight0["dir"]) / "weights" / "last.pt", last["baseline"]) == 0
    spec = read_spec(Path(weight0["dir"]))
    assert spec.distillation == "cwd" and spec.distillation_settings == {"weight": 0} and spec.teacher
    compared = entries["random_teacher", "baseline"]
    assert placebo["verdict"] == compared["verdict"] and placebo["d_ap"] == compared["d_ap"]["mean"]
    for arm in ("baseline", "cwd"):
        assert state_difference(last["random_teacher"], last[arm]) > 0, "another teacher teaches something else"
    assert state_difference(last["cwd:levels=8"], last["cwd"]) > 0, "so do fewer levels"

    seconds = runs["cwd"]["cost_seconds"] / runs["baseline"]["cost_seconds"]
    longer = runs["baseline_same_time"]
    assert longer["epochs"] == len(longer["curves"]["epoch"]) == max(1, round(seconds))
    assert {"epochs", "optimizer_steps"} <= set(content["audit"]["excepted"]["baseline_same_time"])
    assert {entry["epochs"] for arm, entry in runs.items() if arm != "baseline_same_time"} == {1}
    assert len({entry["init_hash"] for entry in runs.values()}) == 1

    (truth,) = tmp_path.glob("judges/*/annotations.json")
    judged = [line for line in done.stdout.splitlines() if line.startswith("evaluating on 36 images")]
    assert judged == ["evaluating on 36 images: student as given"], "each run judges itself"
    given = coco_metrics(truth, Path(content["references"]["student"]["judged"]))["ap"]
    assert {entry["arm"] for entry in content["against_given"]} == set(runs) - {"random_teacher"}
    for entry in content["against_given"]:
        (found,) = Path(runs[entry["arm"]]["dir"]).glob("judged_*/predictions_best.json")
        assert entry["d_ap"]["mean"] == pytest.approx(coco_metrics(truth, found)["ap"] - given)
    for (arm, against), entry in entries.items():
        assert (entry["judge"], entry["images"]) == ("full_val", 36), "60 less the 24 that choose the best epoch"
        figures = []
        for name in (arm, against):
            (found,) = Path(runs[name]["dir"]).glob("judged_*/predictions_best.json")
            figures.append(coco_metrics(truth, found))
            assert_figures_of_pycocotools(figures[-1], truth, found)
        assert entry["d_ap"]["mean"] == pytest.approx(figures[0]["ap"] - figures[1]["ap"])

    report = path.with_suffix(".md").read_text()
    assert report in done.stdout
    assert "controls, weight0: passed" in report and "controls, random_teacher: " in report


def test_killed_at_any_moment_it_goes_on_and_ends_the_same(
    whole: SimpleNamespace, command: list[str], tmp_path: Path
) -> None:
    command = [*command[:-1], str(tmp_path)]
    shutil.copytree(whole.project / "references", tmp_path / "references")
    study = Program(command, env=environment())
    folder = wait_for(lambda: next(tmp_path.glob("kd_cwd_*"), None))
    wait_for((folder / "weights" / "resume.pt").exists)  # in the middle of the second run
    (child,) = runs_of(tmp_path)
    study.kill()
    study.wait()
    wait_for(lambda: not alive(child))
    assert not (folder / "result.json").exists(), "killed too late to show anything"
    stamp = folder.name.removeprefix("kd_cwd_")
    baseline = tmp_path / f"baseline_{stamp}" / "result.json"
    finished_at = baseline.stat().st_mtime_ns

    done = run(command, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert baseline.stat().st_mtime_ns == finished_at, "a finished run was repeated"
    assert "evaluating" not in done.stdout, "a reference was evaluated twice"
    content = json.loads((tmp_path / f"comparison_{stamp}.json").read_bytes())
    assert content["arms"]["cwd"]["runs"][0]["resumed_after_epochs"]
    assert_same_study(content, whole.content)


def test_interrupted_it_ends_its_run_and_exits_130(whole: SimpleNamespace, command: list[str], tmp_path: Path) -> None:
    study = Program([*command[:-1], str(tmp_path)], env=environment())
    (child,) = wait_for(lambda: runs_of(tmp_path))
    study.send_signal(signal.SIGINT)
    _, said = study.communicate(timeout=300)
    assert study.returncode == 130 and said.splitlines()[-1] == "interrupted" and "Traceback" not in said
    assert not alive(child)


def test_other_settings_do_not_resume_a_study(whole: SimpleNamespace, command: list[str], tmp_path: Path) -> None:
    state = next(whole.project.glob("study_*.json"))
    shutil.copy(state, tmp_path / state.name)  # an unfinished study: no comparison beside it
    done = run([*command[:-1], str(tmp_path)], "--resume", "--batch", "4", "--epochs", "1", "--arms", "baseline")
    assert done.returncode == 0, done.stderr
    assert "there is no study of these settings" in done.stdout and len(list(tmp_path.glob("study_*.json"))) == 2


def test_levels_that_no_model_has_are_refused_before_anything_is_written(command: list[str], tmp_path: Path) -> None:
    done = run([*command[:-1], str(tmp_path / "none")], "--arms", "cwd:levels=8,64")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: arm cwd:levels=8,64: the models have no stride 64, only 8, 16, 32\n"
    assert not (tmp_path / "none").exists()


def test_unequal_work_has_no_verdict(whole: SimpleNamespace, command: list[str], tmp_path: Path) -> None:
    for path in whole.project.iterdir():
        if whole.path.stem.removeprefix("comparison_") in path.name and not path.name.startswith(("comp", "kd_comp")):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    folder = next(tmp_path.glob("kd_cwd_*"))
    result = finished(folder)
    result.work["train_args"]["lr0"] = 0.5
    write_result(folder, result)
    shutil.copytree(whole.project / "references", tmp_path / "references")
    done = run([*command[:-1], str(tmp_path)], "--resume")
    assert done.returncode == 2 and "train_args.lr0 is 0.5 against" in done.stderr
    assert not list(tmp_path.glob("comparison_*")) and not list(tmp_path.glob("*.png"))
    predictions = folder / "predictions_best.json"
    predictions.write_text(json.dumps(json.loads(predictions.read_bytes())[::4]))
    done = run([*command[:-1], str(tmp_path)], "--resume")
    assert done.returncode == 2 and f"error: {predictions} has been changed since its run wrote it" in done.stderr


def test_a_report_is_drawn_again_from_its_json_alone(whole: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / whole.path.name
    shutil.copy(whole.path, path)
    done = run([sys.executable, str(PROGRAM)], "--report-only", str(path))
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_bytes()) == whole.content
    picture = f"kd_{whole.path.stem}.png"
    assert (tmp_path / picture).read_bytes() == (whole.project / picture).read_bytes()
    path.write_text("{}")
    assert run([sys.executable, str(PROGRAM)], "--report-only", str(path)).returncode == 2
