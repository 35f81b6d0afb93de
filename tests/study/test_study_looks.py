"""The looks of a study, with runs that take no time: what is run, when it stops, and what is reported in between.

The runs are made up; plan, audit, comparison, verdict and report are the real ones.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from coco1k_kd.data.identity import check_unchanged, digest
from coco1k_kd.errors import UserError
from coco1k_kd.report import write as reports
from coco1k_kd.runs.board import Board
from coco1k_kd.runs.launch import RunFailed
from coco1k_kd.runs.results import finished, write_result
from coco1k_kd.runs.spec import EvaluateSpec, Evaluation, Result, Spec, TrainSpec
from coco1k_kd.runs.train import what_it_reads
from coco1k_kd.study import store, study, training
from coco1k_kd.study.settings import Settings

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "comparison.schema.json"
WEIGHTS = {"best": "b", "last": "l"}  # hashes of every run's checkpoints
OWN = {"map50": 0.5, "map50_95": 0.3}  # Ultralytics' figures of every run


class Actor:
    """Slots whose runs are made up in no time, while a clock of its own goes on.

    Args:
        skill: arm -> how many of the boxes a run finds, or a function of the seed.
        seconds: that a run takes.
        fails: labels of the runs that fail.
        stops: label of the run at which the study is interrupted.
    """

    number, grows = 1, False

    def __init__(
        self,
        skill: dict[str, float | Callable[[int], float]],
        seconds: float = 60.0,
        fails: tuple[str, ...] = (),
        stops: str = "",
    ) -> None:
        self.skill, self.seconds, self.fails, self.stops = skill, seconds, fails, stops
        self.begun: list[str] = []
        self.watch: Callable[[], object] = list  # called as a run begins
        self.now = 0.0

    def __enter__(self) -> Actor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def clock(self) -> float:
        return self.now

    def check(self, *_: object) -> None:
        pass

    def submit(self, spec: Spec, label: str) -> Future[Result | Evaluation]:
        future: Future[Result | Evaluation] = Future()
        if label == self.stops:
            raise KeyboardInterrupt
        if label in self.fails:
            future.set_exception(RunFailed(f"{label} failed: its gradient is 124 times the task's"))
            return future
        folder = Path(spec.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(spec, EvaluateSpec):
            runs = {name: Path(weights) for name, weights in spec.weights.items()}
            read = {"files_sha256": digest(check_unchanged(Path(spec.listed))["images"]), "weights_sha256": WEIGHTS}
            result: Result | Evaluation = Evaluation(ultralytics=dict.fromkeys(runs, OWN), seconds=1.0, **read)
            for name, weights in runs.items():
                run = json.loads((weights.parent / "run.json").read_bytes()) if name != "given" else ["student", 0]
                self._detect(spec, folder / f"predictions_{name}.json", *run)
        else:
            self.watch()
            self.begun.append(label)
            self.now += self.seconds
            result = self._train(spec, folder)
        write_result(folder, result)
        future.set_result(result)
        return future

    def _train(self, spec: TrainSpec, folder: Path) -> Result:
        epochs, seed = spec.train_args["epochs"], spec.seed
        for name in ("best", "last"):
            self._detect(spec, folder / f"predictions_{name}.json", spec.arm, seed)
        (folder / "weights").mkdir(exist_ok=True)
        (folder / "weights" / "run.json").write_text(json.dumps([spec.arm, seed]))
        (folder / "results.csv").write_text("epoch,metrics/mAP50-95(B)\n1,0.1\n")
        figures = {"train_seconds": self.seconds / 2, "val_seconds": 1.0, "seconds": self.seconds, "at_once": 1}
        counts = {"epochs": epochs, "images": 48 * epochs, "effective_batch": 8, "world_size": 1}
        same = {"init_hash": "i", "batch_hash": f"b{seed}", "stream_hash": f"s{seed}", "resumed_after_epochs": []}
        work = {"train_images": 48, "val_images": 24, "device": "cpu", "train_args": {"seed": seed}}
        end = {"peak_memory_bytes": 9, "ultralytics": OWN, "ultralytics_last": OWN, "work": work}
        return Result(**figures, **counts, **same, **end, **what_it_reads(spec), weights_sha256=WEIGHTS)

    def _detect(self, spec: Spec, output: Path, arm: str, seed: int) -> None:
        """Detections that find each box with the arm's chance; the same boxes in all arms but for that chance."""
        truth = json.loads(Path(spec.annotations).read_bytes())
        skill = self.skill.get(arm, 0.5)
        chance = skill(seed) if callable(skill) else skill
        rng = np.random.default_rng([seed, len(truth["images"])])
        found = []
        for box in truth["annotations"]:
            seen, score = rng.random(2)
            if seen < chance:
                found.append({key: box[key] for key in ("image_id", "category_id", "bbox")} | {"score": float(score)})
        output.write_text(json.dumps(found))


@pytest.fixture
def study_of(
    subset: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Do a study with an actor in `tmp_path`/project; its exit code and its comparison."""
    monkeypatch.setattr(reports, "draw", lambda *_: b"")  # a second for each look

    def do(actor: Actor, resume: bool = True, **settings: Any) -> tuple[int, dict[str, Any]]:
        chosen = Settings(
            data=subset / "coco1k.yaml",
            student=str(models / "student.pt"),
            teacher=str(models / "teacher.pt"),
            **{
                "project": tmp_path / "project",
                "epochs": 3,
                "batch": 8,
                "imgsz": 64,
                "device": "cpu",
                "judge": "val",
                **settings,
            },
        )
        code = study.run(chosen, resume, "a command", actor, clock=actor.clock)
        newest = sorted(chosen.project.glob("comparison_*.json"))[-1]
        content = json.loads(newest.read_bytes())
        jsonschema.validate(content, json.loads(SCHEMA.read_bytes()))
        return code, content

    return do


def noisy(low: float, high: float) -> Callable[[int], float]:
    """A skill that differs a lot from seed to seed."""
    return lambda seed: low if seed % 2 else high


OPEN = {"baseline": 0.5, "cwd": noisy(0.45, 0.75)}  # better or worse, by the seed: not settled, and not hopeless
FUTILE = {"baseline": 0.5, "cwd": noisy(0.3, 0.75)}
BETTER = {"baseline": 0.4, "cwd": 0.9}


def pairs(*seeds: int, arms: tuple[str, ...] = ("baseline", "cwd")) -> list[str]:
    return [f"{arm} (seed {seed})" for seed in seeds for arm in arms]


def test_it_stops_at_the_first_look_that_settles_the_question(study_of: Any, capsys: Any) -> None:
    actor = Actor(BETTER)
    code, content = study_of(actor)
    assert code == 0 and actor.begun == pairs(0, 1, 2), "seed by seed, side by side, and no further"
    design, (entry,) = content["design"], content["comparisons"]
    assert (design["seeds"], design["looks"], design["look"], design["stopped"]) == ("auto", [3, 5, 8], 1, "settled")
    assert design["levels"] == pytest.approx([0.0110, 0.0183, 0.0292], abs=5e-4)
    assert entry["verdict"] == "improves" and entry["seeds"] == [0, 1, 2]
    assert entry["level"] == design["levels"][0] and entry["judge"] == "val"
    low, high = entry["d_ap"]["ci"]
    assert low < entry["d_ap"]["ci95"][0] < entry["d_ap"]["ci95"][1] < high, "wider than a plain interval"
    said = capsys.readouterr().out
    assert said.index("cwd inconclusive after 1 seed") < said.index("# "), "the first pair is reported before the end"


def test_without_an_answer_it_takes_all_its_looks(study_of: Any) -> None:
    actor = Actor(OPEN)
    code, content = study_of(actor)
    assert code == 0 and actor.begun == pairs(*range(8))
    assert content["design"]["stopped"] == "looks" and content["design"]["look"] == 3
    (entry,) = content["comparisons"]
    assert entry["verdict"] == "inconclusive" and len(entry["seeds"]) == 8
    assert entry["level"] == content["design"]["levels"][2]


def test_a_settled_arm_is_not_run_any_more(study_of: Any) -> None:
    actor = Actor({**OPEN, "mgd": 0.95})
    _, content = study_of(actor, arms=["cwd", "mgd"], looks=[3, 8])
    assert actor.begun == [*pairs(0, 1, 2, arms=("baseline", "cwd", "mgd")), *pairs(*range(3, 8))]
    found = {entry["arm"]: entry for entry in content["comparisons"]}
    assert found["mgd"]["verdict"] == "improves" and found["mgd"]["seeds"] == [0, 1, 2]
    assert found["cwd"]["verdict"] == "inconclusive" and found["cwd"]["seeds"] == [*range(8)]
    assert len(content["arms"]["mgd"]["runs"]) == 3 and len(content["arms"]["baseline"]["runs"]) == 8


def test_an_arm_that_hardly_any_seed_would_settle_is_not_run_any_more(study_of: Any, capsys: Any) -> None:
    actor = Actor(FUTILE)
    _, content = study_of(actor)
    assert actor.begun in (pairs(*range(3)), pairs(*range(5))), "it ends at a look that is not the last"
    assert content["design"]["stopped"] == "futility" and content["comparisons"][0]["verdict"] == "inconclusive"
    assert "less than a 10% chance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hours", "begun", "look"),
    [(0.001, pairs(0), 0), (0.05, pairs(0), 0), (0.09, pairs(0, 1), 0), (0.14, pairs(0, 1, 2, 3), 1)],
)
def test_nothing_is_begun_that_would_not_end_in_time(study_of: Any, hours: float, begun: list[str], look: int) -> None:
    actor = Actor(OPEN)  # a pair takes two minutes
    code, content = study_of(actor, hours=hours)
    assert code == 0 and actor.begun == begun
    design = content["design"]
    assert design["stopped"] == "hours" and design["look"] == look
    assert design["hours_spent"] == pytest.approx(len(begun) / 60) and design["hours_next"] > 0
    assert content["comparisons"][0]["verdict"] == "inconclusive"
    again = Actor(OPEN)
    assert study_of(again, hours=hours)[1]["design"] == design and again.begun == [], "the hours are the study's"
    more = Actor(OPEN)
    design = study_of(more, hours=float("inf"))[1]["design"]
    assert design["stopped"] == "looks"
    assert design["changed"] == (["hours"] if len(begun) in (4, 8) else []), "it had been judged between two looks"
    assert begun + more.begun == pairs(*range(8)), "with more hours it goes on"


@pytest.mark.parametrize("at", ["cwd (seed 0)", "baseline (seed 2)", "baseline (seed 3)", "cwd (seed 4)"])
def test_interrupted_it_comes_to_the_same_looks(study_of: Any, at: str, tmp_path: Path) -> None:
    whole = Actor(OPEN)
    expected = study_of(whole)[1]
    shutil.rmtree(tmp_path / "project")
    broken = Actor(OPEN, stops=at)
    with pytest.raises(KeyboardInterrupt):
        study_of(broken)
    rest = Actor(OPEN)
    _, content = study_of(rest)
    assert broken.begun + rest.begun == whole.begun, "no run is done twice"
    for key in ("looks", "levels", "look", "stopped"):
        assert content["design"][key] == expected["design"][key]
    for one, other in zip(content["comparisons"], expected["comparisons"], strict=True):
        assert one == other


def test_an_interrupt_takes_away_neither_a_report_nor_the_mark_that_it_went_on(study_of: Any, tmp_path: Path) -> None:
    def on_disk() -> dict[str, Any]:
        (path,) = (tmp_path / "project").glob("comparison_*.json")
        return json.loads(path.read_bytes())

    study_of(Actor(OPEN), hours=0.14)  # a verdict after four seeds, between two looks
    ended = on_disk()
    with pytest.raises(KeyboardInterrupt):
        study_of(Actor(OPEN, stops="cwd (seed 4)"), hours=float("inf"))
    assert on_disk() == ended, "a report of three seeds would not know it"
    assert study_of(Actor(OPEN), hours=float("inf"))[1]["design"]["changed"] == ["hours"]
    ended = on_disk()
    with pytest.raises(KeyboardInterrupt):
        study_of(Actor(OPEN, stops="baseline (seed 4) as torchscript"), hours=float("inf"), export=["torchscript"])
    assert on_disk() == ended


def test_where_every_arm_fails_in_the_first_pair_no_look_was_taken(study_of: Any) -> None:
    actor = Actor(BETTER, fails=("cwd (seed 0)",))
    code, content = study_of(actor)
    assert code == 1 and actor.begun == ["baseline (seed 0)"] and content["design"]["look"] == 0


def test_models_as_given_are_evaluated_before_the_runs_behind_which_they_would_wait(study_of: Any) -> None:
    asked: list[str] = []

    class Listening(Actor):
        def submit(self, spec: Spec, label: str) -> Any:
            asked.append(label)
            return super().submit(spec, label)

    study_of(Listening(BETTER), seeds=[0])
    assert asked == ["student as given", "teacher as given", *pairs(0)]


def test_between_two_looks_there_is_an_interim_report(study_of: Any, tmp_path: Path) -> None:
    for at, look, seeds in (("baseline (seed 1)", 0, [0]), ("baseline (seed 3)", 1, [0, 1, 2])):
        with pytest.raises(KeyboardInterrupt):
            study_of(Actor(OPEN, stops=at))
        (path,) = (tmp_path / "project").glob("comparison_*.json")
        content = json.loads(path.read_bytes())
        assert content["design"]["look"] == look and content["design"]["stopped"] is None
        assert content["comparisons"][0]["seeds"] == seeds and content["design"]["hours_next"] > 0


def test_the_board_says_where_the_study_stands(study_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    actor = Actor(OPEN)

    class Watched(Board):
        def __enter__(self) -> Board:
            actor.watch = lambda: notes.append(self.note())
            return self

    monkeypatch.setattr(training, "Board", Watched)
    study_of(actor, looks=[2, 8])
    assert notes[0].startswith("look 1 of 2; so far: no verdict yet; ")
    assert notes[-1].startswith("look 2 of 2; so far: cwd inconclusive after 2 seeds, ")
    assert notes[-1].endswith(" h left")


def test_a_fixed_list_is_one_look_with_a_plain_interval(study_of: Any) -> None:
    actor = Actor(OPEN)
    _, content = study_of(actor, seeds=[4, 7])
    assert actor.begun == pairs(4, 7)
    expected = {"seeds": "fixed", "looks": [2], "levels": [0.05], "look": 1, "stopped": "fixed", "unplanned": []}
    assert {key: content["design"][key] for key in expected} == expected
    (entry,) = content["comparisons"]
    assert entry["level"] == 0.05 and entry["d_ap"]["ci"] == entry["d_ap"]["ci95"]


def test_seeds_that_are_added_later_are_held_to_sequential_levels(study_of: Any) -> None:
    study_of(Actor(OPEN), seeds=[0, 1, 2])
    actor = Actor(OPEN)
    _, content = study_of(actor, seeds=[0, 1, 2, 3, 4])
    assert actor.begun == pairs(3, 4)
    assert content["design"]["unplanned"] == [3, 4] and content["design"]["looks"] == [3, 5]
    (entry,) = content["comparisons"]
    assert entry["unplanned"] and entry["level"] == content["design"]["levels"][1] < 0.05


def test_several_arms_share_the_error(study_of: Any) -> None:
    _, content = study_of(Actor({**OPEN, "mgd": 0.45}), arms=["cwd", "mgd", "ultralytics"], seeds=[0, 1, 2])
    family = [entry for entry in content["comparisons"] if entry["against"] == "baseline"]
    others = [entry for entry in content["comparisons"] if entry["against"] != "baseline"]
    assert len(family) == 3 and max(entry["family"] for entry in family) == 3
    assert len(others) == 2 and all(entry["family"] == 2 for entry in others)


def test_one_arms_failure_does_not_cost_the_others_theirs(study_of: Any, capsys: Any) -> None:
    actor = Actor({"baseline": 0.4, "cwd": 0.9}, fails=("mgd (seed 0)",))
    code, content = study_of(actor, arms=["cwd", "mgd"], seeds=[0, 1])
    assert code == 1 and actor.begun == pairs(0, 1), "mgd is not begun again"
    assert [entry["arm"] for entry in content["comparisons"]] == ["cwd"]
    (failure,) = content["failures"]
    assert (failure["arm"], failure["seed"]) == ("mgd", 0) and "124 times" in failure["message"]
    said = capsys.readouterr().err
    assert "error: mgd (seed 0) failed" in said and "runs of mgd failed" in said
    mended = Actor({"baseline": 0.4, "cwd": 0.9, "mgd": 0.9})
    code, content = study_of(mended, arms=["cwd", "mgd"], seeds=[0, 1])
    assert code == 0 and mended.begun == pairs(0, 1, arms=("mgd",)) and not content["failures"]


@pytest.mark.parametrize(("seed", "compared"), [(0, 0), (1, 1)])
def test_without_a_baseline_there_is_nothing_to_compare(study_of: Any, seed: int, compared: int) -> None:
    actor = Actor(BETTER, fails=(f"baseline (seed {seed})",))
    if not compared:
        with pytest.raises(IndexError):  # no comparison
            study_of(actor, seeds=[0, 1])
        return
    code, content = study_of(actor, seeds=[0, 1])
    assert code == 1 and content["comparisons"][0]["seeds"] == [0]


def test_the_judge_is_all_of_the_source_that_did_not_choose_the_epoch(
    study_of: Any, coco_root: Path, subset: Path, tmp_path: Path
) -> None:
    source = json.loads((coco_root / "annotations" / "instances_val2017.json").read_bytes())
    own = json.loads((subset / "annotations" / "instances_val2017.json").read_bytes())
    beyond = {image["id"] for image in source["images"]} - {image["id"] for image in own["images"]}
    _, content = study_of(Actor(BETTER), seeds=[0, 1], judge="auto", coco_root=coco_root)
    (entry,) = content["comparisons"]
    assert (entry["judge"], entry["images"]) == ("full_val", len(beyond))
    (path,) = (tmp_path / "project" / "judges").glob("*/annotations.json")
    assert {image["id"] for image in json.loads(path.read_bytes())["images"]} == beyond
    run = Path(content["arms"]["cwd"]["runs"][0]["dir"])
    (found,) = run.glob("judged_*/predictions_best.json")
    assert {box["image_id"] for box in json.loads(found.read_bytes())} <= beyond
    assert content["dataset"]["val_images"] == 24, "runs[].ap stays that of the subset's val images"
    trained = Actor(BETTER)
    _, again = study_of(trained, seeds=[0, 1], coco_root=coco_root, judge="val")
    assert trained.begun == [] and again["comparisons"][0]["judge"] == "val", "another judge trains nothing"


def test_arms_are_compared_with_the_student_as_given_where_that_is_fair(
    study_of: Any, coco_root: Path, tmp_path: Path, capsys: Any
) -> None:
    actor = Actor({"baseline": 0.1, "cwd": 0.95, "student": 0.5})
    _, content = study_of(actor, seeds=[0, 1, 2], judge="auto", coco_root=coco_root)
    judged, shown = content["references"]["student"]["judged"], content["comparisons"][0]["images"]
    assert {box["image_id"] for box in json.loads(Path(judged).read_bytes())} <= {
        image["id"] for image in json.loads(Path(content["judged_by"]["annotations"]).read_bytes())["images"]
    }
    told = [(one["arm"], one["against"], one["verdict"], one["images"]) for one in content["against_given"]]
    assert told == [("baseline", "student", "hurts", shown), ("cwd", "student", "improves", shown)]
    assert len(content["comparisons"]) == 1, "the question of the study is another"
    line = next(line for line in capsys.readouterr().out.splitlines() if "Against the student as given" in line)
    assert "baseline hurts, -" in line and "cwd improves, +" in line
    # val images chose the epoch of the arms alone, and a fresh head has not begun as this student
    for others in ({"judge": "val"}, {"judge": "auto", "start": "frozen", "project": tmp_path / "frozen"}):
        _, content = study_of(actor, seeds=[0, 1, 2], coco_root=coco_root, **others)
        assert content["against_given"] == [] and not content["references"]["student"]["judged"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"looks": [5, 3]}, "--looks 5 3: each look needs more seeds"),
        ({"looks": [1, 3]}, "--looks 1 3: a look needs 2 seeds"),
        ({"hours": 0.0}, "--hours 0: must be above 0, or inf for no limit"),
        ({"hours": -1.0}, "--hours -1: must be above 0"),
        ({"hours": float("nan")}, "--hours nan: must be above 0"),
        ({"judge": "nowhere"}, "nowhere"),
        ({"draws": 2, "seeds": "auto"}, "--draws 2: draws are repeated then in place of seeds"),
        ({"draws": "auto", "seeds": [0, 1]}, "--draws auto: every draw has a seed of its own then"),
        ({"draws": "some"}, "--draws some: give auto, or a number"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    study_of: Any, settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    actor = Actor(BETTER)
    with pytest.raises(UserError) as refusal:
        study_of(actor, **settings)
    assert says in str(refusal.value) and "\n" not in str(refusal.value)
    assert actor.begun == [] and not (tmp_path / "project").exists()


def test_a_study_is_not_resumed_by_other_training_code(study_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study_of(Actor(BETTER), seeds=[0])
    again = Actor(BETTER)
    study_of(again, seeds=[0])
    assert again.begun == []
    monkeypatch.setattr("coco1k_kd.study.plan.code_hash", lambda: "another")
    other = Actor(BETTER)
    study_of(other, seeds=[0])
    assert other.begun == pairs(0)


def test_two_studies_of_one_project_keep_their_runs(study_of: Any, tmp_path: Path) -> None:
    study_of(Actor(BETTER), seeds=[0])
    study_of(Actor(BETTER), seeds=[0], epochs=4)
    assert len(list((tmp_path / "project").glob("study_*.json"))) == 2, "other settings are another study"
    third = Actor(BETTER)
    study_of(third, seeds=[0])
    assert third.begun == []
    assert all(finished(path.parent) for path in (tmp_path / "project").glob("*_2*/results.csv"))
    assert store._ended(sorted((tmp_path / "project").glob("study_*.json"))[0])


def test_every_seed_has_a_draw_of_its_own(study_of: Any, coco_root: Path, capsys: Any) -> None:
    actor = Actor(OPEN)
    _, content = study_of(actor, draws="auto", looks=[3], coco_root=coco_root)
    units = ("seed 0", "draw 1, seed 1", "draw 2, seed 2")
    assert actor.begun == [f"{arm} ({unit})" for unit in units for arm in ("baseline", "cwd")]
    design, (entry,) = content["design"], content["comparisons"]
    assert (design["unit"], design["looks"], design["stopped"]) == ("draw", [3], "looks")
    assert entry["draws"] == entry["seeds"] == [0, 1, 2] and entry["level"] == design["levels"][0]
    drawn = [
        json.loads(Path(one["yaml"]).with_name("manifest.json").read_bytes()) for one in content["dataset"]["draws"]
    ]
    ids = [set(one["train"]["image_ids"]) for one in drawn]
    shared = np.mean([len(ids[i] & ids[j]) / 48 for i, j in ((0, 1), (0, 2), (1, 2))])
    assert entry["d_ap"]["components"]["overlap"] == pytest.approx(shared) and shared > 0
    said = capsys.readouterr().out
    assert f"Two draws share {shared:.0%} of their train images" in said and "3 draws with a seed each" in said


def test_what_changes_after_a_verdict_stands_in_the_first_line(study_of: Any, coco_root: Path) -> None:
    study_of(Actor(OPEN), seeds=[0, 1, 2])
    for settings, changed in (
        ({}, []),
        ({"judge": "auto", "coco_root": coco_root}, ["judge"]),
        ({"judge": "auto", "coco_root": coco_root, "groups": GROUPS}, ["judge", "groups"]),
        ({"seeds": [0, 1, 2, 3], "arms": ["cwd", "mgd"]}, ["arms", "seeds", "judge", "groups"]),
    ):
        _, content = study_of(Actor({**OPEN, "mgd": 0.5}), **{"seeds": [0, 1, 2], **settings})
        assert content["design"]["changed"] == changed
        assert all(entry["unplanned"] == bool(changed) for entry in content["comparisons"])
        assert content["headline"]["text"].startswith("Unplanned (") == bool(changed)
    assert "arms, seeds, the judging images and the groups of images changed after" in content["headline"]["text"]


def test_more_looks_after_the_end_are_unplanned(study_of: Any) -> None:
    study_of(Actor(OPEN), looks=[3])
    _, content = study_of(Actor(OPEN), looks=[3, 4])
    design = content["design"]
    assert (design["changed"], design["unplanned"], design["looks"]) == (["seeds", "looks"], [3], [3, 4])


GROUPS = r"(\d)\d\.jpg"  # the last digit but one


def test_images_of_a_group_are_one_sample(study_of: Any, tmp_path: Path, capsys: Any) -> None:
    several = study_of(Actor(OPEN), seeds=[0, 1, 2])[1]["comparisons"][0]
    trained = Actor(OPEN)
    _, content = study_of(trained, seeds=[0, 1, 2], groups=GROUPS)
    assert trained.begun == [], "the groups change how runs are judged, and no run"
    annotations = json.loads(Path(content["judged_by"]["annotations"]).read_bytes())
    sizes = Counter(image["file_name"][-6] for image in annotations["images"])
    groups, most = len(sizes), max(sizes.values())
    assert content["groups"] == {"pattern": GROUPS, "groups": groups, "largest": most, "alone": 0}
    (entry,) = content["comparisons"]
    assert entry["groups"] == groups >= entry["samples"] and entry["images"] == several["images"] == sizes.total()
    assert entry["d_ap"]["mean"] == several["d_ap"]["mean"]
    assert entry["d_ap"]["components"]["shared"] != several["d_ap"]["components"]["shared"]
    assert entry["reason"] == "few_images", "ten groups are too few, however many images they hold"
    said = capsys.readouterr().out
    assert f"Images are grouped by their names (--groups {GROUPS}): {groups} groups" in said
    for wrong, says in (("(", "not a regular expression"), ("nothing", "no image"), ("jpg", "one group")):
        with pytest.raises(UserError, match=says):
            study_of(Actor(OPEN), seeds=[0, 1, 2], groups=wrong, project=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_export_that_fails_costs_its_row_and_not_the_report(study_of: Any, capsys: Any) -> None:
    labels = tuple(f"{arm} (seed 0) as torchscript" for arm in ("baseline", "cwd"))
    code, content = study_of(Actor(BETTER, fails=labels), seeds=[0], export=["torchscript"])
    said = capsys.readouterr().err
    assert code == 1 and content["exports"] == [] and content["design"]["stopped"] == "fixed"
    assert f"error: not exported: {labels[0]}, {labels[1]}; finished runs are kept" in said
    assert content["models"]["student"]["parameters"] > 0


def test_a_study_says_what_it_can_find_before_it_starts_and_from_then_on(study_of: Any, capsys: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        study_of(Actor(OPEN, stops="baseline (seed 0)"))
    said = capsys.readouterr().out
    assert "With up to 8 seeds on 24 images this study finds a true difference of " in said
    assert "by the spread between seeds in studies of ours" in said
    _, content = study_of(Actor(OPEN), looks=[3])
    power = content["power"]
    assert power["units"] == 3 and not power["prior"] and power["hours"] == pytest.approx(0.1)
    ways = {way["what"]: way for way in power["ways"]}
    assert ways.keys() == {"images", "seeds", "epochs"} and power["best"] in ways
    assert ways["images"]["number"] == 48 and ways["seeds"]["hours"] == pytest.approx(0.1 * 2 / 3)
    assert all(way["finds"] < power["finds"] for way in ways.values())
    said = capsys.readouterr().out
    assert "by the spreads seen so far" in said and " would help most" in said
