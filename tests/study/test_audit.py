"""Each way in which arms can be unequal is refused by name."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from coco1k_kd.errors import UserError
from coco1k_kd.report.checks import Audit
from coco1k_kd.runs.spec import Result
from coco1k_kd.study import audit as audits
from coco1k_kd.study.arms import read_arm
from coco1k_kd.verdict.entry import Replicate

RESULT: dict[str, Any] = {
    "init_hash": "a" * 64,
    "batch_hash": "b" * 64,
    "stream_hash": "c" * 64,
    "epochs": 5,
    "images": 500,
    "effective_batch": 16,
    "files_sha256": "f" * 64,
    "world_size": 1,
    "train_seconds": 1.0,
    "seconds": 2.0,
    "ultralytics": {},
    "ultralytics_last": {},
    "work": {
        "optimizer": {
            "name": "AdamW",
            "groups": [{"param_group": "weight", "initial_lr": 0.001, "betas": [0.9, 0.999]}],
        },
        "optimizer_steps": 30,
        "amp": False,
        "device": "cpu",
        "processor": "a CPU",
        "threads": 2,
        "train_images": 100,
        "val_images": 20,
        "checkpoint_rule": {"best": "highest fitness", "patience": 0},
        "versions": {"torch": "2.9"},
        "train_args": {"seed": 0, "model": "a.pt", "epochs": 5, "iou": 0.7, "lr0": 0.001},
    },
}

Named = tuple[str, Replicate]


def audit(results: dict[Named, dict[str, Any]], train_images: int, val_images: int) -> Audit:
    made = {(read_arm(arm), of): msgspec.convert(result, Result) for (arm, of), result in results.items()}
    taught = {key: "t" * 64 if key[0].learns else None for key in made}
    reads = {key: {"teacher_sha256": taught[key], "loss_file_sha256": None} for key in made}
    return audits.audit(made, train_images, val_images, reads)


def results(*arms: str, seeds: tuple[int, ...] = (0,)) -> dict[Named, dict[str, Any]]:
    made = {(arm, (0, seed)): copy.deepcopy(RESULT) for arm in arms for seed in seeds}
    for (arm, (_, seed)), result in made.items():
        result["teacher_sha256"] = "t" * 64 if arm == "cwd" else None
        result["work"]["train_args"] |= {"seed": seed, "model": f"{arm}.pt"}
        result |= {"init_hash": f"{seed}" * 64, "batch_hash": f"{seed}" * 64, "stream_hash": f"{seed}" * 64}
    return made


def change(result: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        result = result[int(parent) if isinstance(result, list) else parent]
    result[last] = value


def test_equal_arms_pass_and_say_what_was_compared() -> None:
    found = audit(results("baseline", "cwd", seeds=(0, 1)), 100, 20)
    assert found.passed and found.runs == 4
    assert {"init_hash", "batch_hash", "epochs", "optimizer", "effective_batch", "checkpoint_rule", "versions"} <= set(
        found.compared
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("init_hash", "d" * 64),
        ("batch_hash", "d" * 64),
        ("stream_hash", "d" * 64),
        ("epochs", 4),
        ("effective_batch", 8),
        ("world_size", 2),
        ("files_sha256", "e" * 64),
        ("work.device", "another"),
        ("work.processor", "another"),
        ("work.threads", 1),
        ("work.optimizer.name", "SGD"),
        ("work.optimizer.groups.0.initial_lr", 0.01),
        ("work.optimizer_steps", 24),
        ("work.amp", True),
        ("work.checkpoint_rule.patience", 10),
        ("work.versions.torch", "2.8"),
        ("work.train_args.iou", 0.6),
        ("work.train_args.lr0", 0.002),
    ],
)
def test_unequal_work_is_refused_by_name(field: str, value: Any) -> None:
    unequal = results("baseline", "cwd", seeds=(0, 1))
    change(unequal["cwd", (0, 1)], field, value)
    with pytest.raises(UserError) as caught:
        audit(unequal, 100, 20)
    message = str(caught.value)
    assert field.removeprefix("work.") in message and str(value)[:8] in message
    assert "cwd (seed 1)" in message and "baseline (seed 1)" in message


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        (("cwd", (0, 0)), "teacher_sha256", "u" * 64),
        (("cwd", (0, 0)), "teacher_sha256", None),
        (("baseline", (0, 0)), "teacher_sha256", "t" * 64),
        (("cwd", (0, 0)), "loss_file_sha256", "l" * 64),
    ],
)
def test_a_run_that_read_another_file_than_the_study_is_named(key: Named, field: str, value: str | None) -> None:
    unequal = results("baseline", "cwd")
    unequal[key][field] = value
    with pytest.raises(UserError, match=f"{key[0]} .seed 0. has read other files .*: {field} is {str(value)[:9]}"):
        audit(unequal, 100, 20)


@pytest.mark.parametrize(("due", "fewest"), [(30, 25), (1000, 990)])
def test_half_precision_may_leave_out_a_few_steps(due: int, fewest: int) -> None:
    """Five, or one in a hundred."""
    skipped = results("baseline", "cwd")
    skipped["baseline", (0, 0)]["work"]["optimizer_steps"] = due
    skipped["cwd", (0, 0)]["work"]["optimizer_steps"] = fewest
    assert audit(skipped, 100, 20).passed
    skipped["cwd", (0, 0)]["work"]["optimizer_steps"] = fewest - 1
    with pytest.raises(UserError, match=f"optimizer_steps is {fewest - 1} against {due}"):
        audit(skipped, 100, 20)


def test_the_cause_is_named_before_what_follows_from_it() -> None:
    unequal = results("baseline", "cwd")
    unequal["cwd", (0, 0)] |= {"world_size": 2, "batch_hash": "d" * 64, "stream_hash": "e" * 64}
    with pytest.raises(UserError, match="world_size is 2 against 1, and 2 more: batch_hash, stream_hash"):
        audit(unequal, 100, 20)


def test_a_field_that_only_one_run_has_is_refused() -> None:
    unequal = results("baseline", "cwd")
    del unequal["baseline", (0, 0)]["work"]["train_args"]["iou"]
    with pytest.raises(UserError, match=r"train_args\.iou is 0\.7 against None"):
        audit(unequal, 100, 20)


def test_baselines_of_two_seeds_may_differ_in_what_the_seed_changes_alone() -> None:
    unequal = results("baseline", "cwd", seeds=(0, 1))
    for arm in ("baseline", "cwd"):
        unequal[arm, (0, 1)]["work"]["versions"]["torch"] = "2.8"  # equal within the seed, not across
    with pytest.raises(UserError, match=r"versions\.torch is 2\.8 against 2\.9"):
        audit(unequal, 100, 20)


def test_only_the_baseline_of_equal_time_may_be_longer() -> None:
    longer = results("baseline", "cwd", "baseline_same_time")
    longer["baseline_same_time", (0, 0)] |= {"epochs": 8, "images": 800, "stream_hash": "e" * 64}
    longer["baseline_same_time", (0, 0)]["work"]["train_args"]["epochs"] = 8
    assert "epochs" in audit(longer, 100, 20).excepted["baseline_same_time"]
    longer["baseline_same_time", (0, 0)]["init_hash"] = "f" * 64
    with pytest.raises(UserError, match="init_hash"):
        audit(longer, 100, 20)


def test_a_longer_baseline_has_other_first_batches_only_where_the_other_is_too_short_for_mosaics() -> None:
    longer = results("baseline", "baseline_same_time")
    longer["baseline_same_time", (0, 0)] |= {"epochs": 8, "batch_hash": "d" * 64}
    longer["baseline_same_time", (0, 0)]["work"]["train_args"]["epochs"] = 8
    for close_mosaic, passes in ((5, True), (7, True), (4, False), (8, False), (0, False)):
        for result in longer.values():
            result["work"]["train_args"]["close_mosaic"] = close_mosaic
        if passes:
            assert "batch_hash" in audit(longer, 100, 20).excepted["baseline_same_time"]
        else:
            with pytest.raises(UserError, match="batch_hash"):
                audit(longer, 100, 20)


def test_images_that_training_left_out_are_noticed() -> None:
    with pytest.raises(UserError, match="saw 100 train images, the data set has 101"):
        audit(results("baseline", "cwd"), 101, 20)
    with pytest.raises(UserError, match="saw 20 val images, the data set has 21"):
        audit(results("baseline", "cwd"), 100, 21)


def test_a_run_without_a_baseline_of_its_seed_is_refused() -> None:
    lonely = results("baseline", "cwd", seeds=(0, 1))
    del lonely["baseline", (0, 1)]
    with pytest.raises(UserError, match=r"cwd \(seed 1\) has no baseline"):
        audit(lonely, 100, 20)


def test_draws_may_differ_in_their_data_and_in_nothing_else() -> None:
    drawn = results("baseline", "cwd")
    for arm in ("baseline", "cwd"):
        drawn[arm, (0, 0)]["work"]["train_args"]["data"] = "first.yaml"
        drawn[arm, (1, 0)] = copy.deepcopy(drawn[arm, (0, 0)])
        change(drawn[arm, (1, 0)], "work.train_args.data", "second.yaml")
        change(drawn[arm, (1, 0)], "batch_hash", "e" * 64)
        change(drawn[arm, (1, 0)], "files_sha256", "g" * 64)
    assert audit(drawn, 100, 20).runs == 4
    change(drawn["cwd", (1, 0)], "work.train_args.data", "first.yaml")
    with pytest.raises(UserError, match=r"train_args\.data is first\.yaml against second\.yaml"):
        audit(drawn, 100, 20)
    change(drawn["cwd", (1, 0)], "work.train_args.data", "second.yaml")
    for arm in ("baseline", "cwd"):
        change(drawn[arm, (1, 0)], "epochs", 6)
    with pytest.raises(UserError, match="epochs is 6 against 5"):
        audit(drawn, 100, 20)
