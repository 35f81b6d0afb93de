"""How a study trains: what is given to it, and what it pins."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn
from ultralytics.engine.trainer import BaseTrainer

from coco1k_kd.errors import UserError
from coco1k_kd.study.hyperparameters import check_imgsz, read_fit, read_train_args, resolve_optimizer


@pytest.mark.parametrize(("images", "epochs"), [(1500, 100), (1500, 417), (1500, 416), (48, 2), (118287, 100)])
def test_the_pinned_optimizer_is_what_auto_would_choose(images: int, epochs: int) -> None:
    batch, classes = 16, 80
    args = SimpleNamespace(optimizer="auto", lr0=0.01, warmup_bias_lr=0.1)
    trainer = SimpleNamespace(args=args, data={"nc": classes})
    model = nn.Module()
    model.model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    iterations = -(-images // 64) * epochs  # as in BaseTrainer._build_train_pipeline
    built = BaseTrainer.build_optimizer(trainer, model, "auto", 0.01, 0.937, 0.0005, iterations)
    pinned = resolve_optimizer(images, batch, epochs, classes)
    group = built.param_groups[-1]
    assert pinned["optimizer"] == args.optimizer == type(built).__name__
    assert pinned["lr0"] == args.lr0 and pinned["warmup_bias_lr"] == args.warmup_bias_lr
    assert pinned["momentum"] == group.get("momentum", group.get("betas", [None])[0])


def test_settings_are_read_as_ultralytics_reads_them() -> None:
    assert read_train_args([]) == {}
    given = ["lr0=0.002", "cos_lr=True", "freeze=[0, 1]", "optimizer=SGD", "cache=ram"]
    expected = {"lr0": 0.002, "cos_lr": True, "freeze": [0, 1], "optimizer": "SGD", "cache": "ram"}
    assert read_train_args(given) == expected


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["optimizer=SGD"], "--train optimizer=SGD: give lr0=, too"),
        (["warmup=3"], "--train warmup=3: did you mean warmup_epochs or warmup_momentum or warmup_bias_lr"),
        (["epochs=3"], "a study settles that itself"),
        (["lr0=1", "lr0=1"], "--train lr0=1: given twice"),
        (["=3"], "give KEY=VALUE, a setting of Ultralytics"),
    ],
)
def test_settings_that_no_study_can_take_are_refused(pairs: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_train_args(pairs)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_teacher_is_fitted_for_a_number_of_epochs_or_as_long_as_it_helps() -> None:
    assert [read_fit(asked) for asked in (None, "auto", "3", 7)] == [None, "auto", 3, 7]
    for asked in ("0", "-1", "2.5", "some", ""):
        with pytest.raises(UserError, match=f"--fit-teacher {asked}: give a number of epochs from 1 on, or auto"):
            read_fit(asked)


@pytest.mark.parametrize(
    ("size", "fits"), [(None, True), (32, True), (640, True), (0, False), (-32, False), (100, False)]
)
def test_a_side_is_a_multiple_of_32(size: int | None, fits: bool) -> None:
    if fits:
        check_imgsz(size, "--imgsz")
        return
    with pytest.raises(UserError, match=f"--imgsz {size}: must be a multiple of 32"):
        check_imgsz(size, "--imgsz")
