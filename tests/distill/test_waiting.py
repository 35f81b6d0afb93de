"""What a distilled step must not do on a GPU: have the host wait for it more often than the baseline's step does."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from trainings import criterion_of, tiny_detector

from coco1k_kd.distill.distiller import Answer, Distiller
from coco1k_kd.distill.losses import MGDLoss
from coco1k_kd.distill.trainer import DistillationTrainer
from coco1k_kd.runs.record import steps_taken


class Waits(TorchDispatchMode):
    """Counts the operations whose result the host reads: a GPU must have finished all that was asked of it before."""

    READ = ("_local_scalar_dense", "equal", "nonzero", "masked_select", "is_nonzero", "item", "_unique2", "unique_dim")

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.__name__.partition(".")[0]
        if name in self.READ:
            self.counted[name] += 1
        return function(*arguments, **(options or {}))


def test_the_count_counts():
    with Waits() as waits:
        x = torch.ones(3)
        assert float(x.sum()) == 3 and torch.equal(x, x) and x.nonzero().numel() == 3
    assert waits.counted == {"_local_scalar_dense": 1, "equal": 1, "nonzero": 1}


@pytest.mark.parametrize("loss", ["cwd", "mgd", "response", "cwd+response", "mgd+response"])
def test_a_step_waits_no_more_often_than_the_baselines(loss):
    torch.manual_seed(0)
    student, teacher = tiny_detector(8), tiny_detector(16)
    criterion, batch = criterion_of(student, teacher, loss, ["one2many"])
    criterion.start_epoch(100, 0.5)
    trainer = SimpleNamespace(distiller=criterion.distiller)
    counted = []
    for taken in (criterion.task, criterion):
        preds = student(batch["img"])
        with Waits() as waits:
            losses, _ = taken(preds, batch)
            losses.sum().backward()
            if taken is criterion and list(criterion.distiller.parameters()):
                DistillationTrainer._clip_distiller(trainer)
        counted.append(waits.counted)
    assert counted[0] == counted[1]
    assert not criterion.measured


def test_masks_are_drawn_where_they_are_used(monkeypatch):
    """A mask that is drawn on the host has to be copied, three times a step, and each copy waits."""
    asked, rand = [], torch.rand
    monkeypatch.setattr(
        torch, "rand", lambda *args, **options: asked.append(options["device"]) or rand(*args, **options)
    )
    maps = torch.ones(1, 4, 3, 3)
    MGDLoss(4)(maps, maps)
    assert asked == [maps.device]


def test_the_distiller_is_clipped_at_10_whatever_the_scalers_factor(monkeypatch):
    """Ultralytics takes the factor out before it steps; the hook comes after that."""
    weights = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(weights.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer.register_step_pre_hook(lambda *_: DistillationTrainer._clip_distiller(SimpleNamespace(distiller=weights)))
    before = [p.detach().clone() for p in weights.parameters()]
    scaler.scale(1000 * weights(torch.ones(2, 4)).sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    moved = torch.cat([(p - b).flatten() for p, b in zip(weights.parameters(), before, strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(10.0, rel=1e-4)


@pytest.mark.parametrize("loss", ["cwd", "mgd"])
def test_an_overflow_in_float16_is_mended_by_the_scaler(loss):
    """All factors of the distillation's gradients are the scaler's own: where they overflow, a smaller one does."""
    torch.manual_seed(0)
    distiller = Distiller([8], [12], loss)
    student, teacher = torch.randn(2, 8, 6, 6).half().requires_grad_(), torch.randn(2, 12, 6, 6).half()
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    skipped = 0
    for _ in range(40):
        with torch.autocast("cpu", torch.float16):
            ((term,), _) = distiller(Answer([student], {}), Answer([teacher], {}))
        scaler.scale(term.value).backward()
        factor = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        skipped += scaler.get_scale() < factor
    assert 0 < skipped < 30
    assert steps_taken(optimizer, tried=40) == 40 - skipped  # what the audit compares is what was really taken


def test_an_optimizer_that_does_not_count_is_taken_at_its_word():
    assert steps_taken(torch.optim.SGD([torch.ones(1)], lr=1.0), tried=7) == 7
