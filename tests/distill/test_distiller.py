"""The distiller: aligners that are fitted, features that are compared, ratios of gradients."""

from __future__ import annotations

import pytest
import torch
from trainings import compared, levels

from coco1k_kd.distill.distiller import Answer, Distiller, gradient_ratios, schedule_factor
from coco1k_kd.distill.losses import standardise

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("loss", ["cwd", "mgd"])
def test_a_level_that_is_left_out_gets_no_gradient_and_the_others_what_they_get_alone(loss):
    student, teacher = levels()
    one, alone = Distiller([8, 16], [12, 20], loss, levels=[(1, 1)]), Distiller([16], [20], loss, seed=1)
    alone.load_state_dict(one.state_dict())
    one.fit(student, teacher)
    alone.fit(student[1:], teacher[1:])
    value, cosines = compared(one, student, teacher, measure=True)
    first, second = torch.autograd.grad(value, student, allow_unused=True)
    (expected,) = torch.autograd.grad(compared(alone, student[1:], teacher[1:])[0], student[1:])
    assert first is None and torch.equal(second, expected) and len(cosines) == 1


def test_features_are_compared_as_they_are_if_told_so():
    student, teacher = levels(torch.float64)
    distiller = Distiller([8, 16], [12, 20], "cwd", normalise="none").double()
    parts = zip(distiller.aligners, distiller.losses["cwd"], student, teacher, strict=True)
    expected = sum(term(align(s).float(), t.float()) for align, term, s, t in parts)
    torch.testing.assert_close(compared(distiller, student, teacher)[0], expected)


def test_fit_finds_a_linear_teacher():
    generator = torch.Generator().manual_seed(0)
    distiller = Distiller([8, 16], [12, 20], "cwd")
    maps = [torch.randn(t, s, generator=generator) for s, t in ((8, 12), (16, 20))]
    for _ in range(3):
        student = [torch.randn(4, s, 12, 12, generator=generator) for s in (8, 16)]
        teacher = [torch.einsum("ts,nshw->nthw", m, x) + 5 for m, x in zip(maps, student, strict=True)]
        distiller.fit(student, teacher)
    loss, cosines = compared(distiller, student, teacher, measure=True)
    assert len(cosines) == 2 and all(c > 0.999 for c in cosines)
    assert float(loss.detach()) < 0.01
    torch.manual_seed(0)
    random_loss, _ = compared(Distiller([8, 16], [12, 20], "cwd"), student, teacher)
    assert float(random_loss.detach()) > 100 * float(loss)


@pytest.mark.parametrize("loss", ["cwd", "mgd", "cwd+mgd"])
def test_the_distiller_is_aligner_standardisation_loss_and_a_sum_over_levels(loss):
    student, teacher = levels(torch.float64)
    distiller, plain = (Distiller([8, 16], [12, 20], loss).double() for _ in range(2))
    plain.load_state_dict(distiller.state_dict())
    terms, _ = distiller(Answer(student, {}), Answer(teacher, {}))
    assert [(term.loss, term.branch) for term in terms] == [(name, "one2many") for name in loss.split("+")]
    for term in terms:
        parts = zip(plain.aligners, plain.losses[term.loss], student, teacher, strict=True)
        expected = sum(loss(standardise(align(s)), standardise(t)) for align, loss, s, t in parts)
        torch.testing.assert_close(term.value, expected)
        gradients = (torch.autograd.grad(value, student, retain_graph=True) for value in (term.value, expected))
        torch.testing.assert_close(*gradients)


def test_float16_gradients_of_a_mean_do_not_underflow():
    """Of P3 at 640 px they are about 1e-6, and float16 ends at 6e-8: the gradient scaler's factor keeps them."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, c, 80, 80, generator=generator) for c in (8, 64))
    distiller, scale = Distiller([8], [64], "cwd"), 2.0**16  # with which Ultralytics' scaler begins
    single, half = student.requires_grad_(), student.detach().half().requires_grad_()
    (exact,) = torch.autograd.grad(compared(distiller, [single], [teacher])[0] * 8 * scale, single)
    with torch.autocast("cpu", torch.float16):
        value, _ = compared(distiller, [half], [teacher.half()])
    (gradient,) = torch.autograd.grad(value * 8 * scale, half)
    assert float((gradient - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("loss", ["cwd", "mgd"])
def test_an_interrupted_fit_goes_on(loss, tmp_path):
    generator = torch.Generator().manual_seed(0)
    batches = [[torch.randn(2, c, 5, 5, generator=generator) for c in (8, 12)] for _ in range(4)]
    whole, first, second = (Distiller([8], [12], loss) for _ in range(3))
    for i, (student, teacher) in enumerate(batches):
        whole.fit([student], [teacher])
        if i < 2:
            first.fit([student], [teacher])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.fitted_batches == 2
    for student, teacher in batches[2:]:
        second.fit([student], [teacher])
    for name, expected in whole.aligners.state_dict().items():
        torch.testing.assert_close(second.aligners.state_dict()[name], expected)


def test_gradient_ratio_is_that_of_the_gradients():
    task = [torch.randn(2, 3), torch.randn(4)]
    ratios = gradient_ratios([[3 * g for g in task], [0 * g for g in task]], task)
    torch.testing.assert_close(ratios, torch.tensor([3.0, 0.0]))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(1.0, float("inf")), (float("inf"), 1.0), (1.0, 0.0), (float("nan"), 1.0)]
)
def test_a_ratio_is_nothing_unless_both_gradients_are_finite(ours, theirs):
    """Infinite ones come with float16: 1 / inf would pass as a ratio of 0, and make of weight "auto" 5e11."""
    (ratio,) = gradient_ratios([[torch.tensor([ours])]], [torch.tensor([theirs])])
    assert ratio.isnan()


def test_schedule():
    cosine = [schedule_factor("cosine", e, 11) for e in range(11)]
    assert cosine[0] == 1.0 and cosine[5] == pytest.approx(0.55) and cosine[-1] == pytest.approx(0.1)
    assert cosine == sorted(cosine, reverse=True)
    assert schedule_factor("constant", 9, 11) == schedule_factor("cosine", 0, 1) == 1.0
