"""CWD and MGD against the papers' formulas, written out in float64 without torch.nn.functional."""

import numpy as np
import pytest
import torch

from coco1k_kd.distill import losses
from coco1k_kd.distill.losses import MGDLoss, cwd_loss, standardise

LEVELS = [(2, 64, 40, 40), (2, 128, 20, 20), (2, 256, 10, 10), (1, 8, 7, 13), (3, 5, 1, 9)]


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * 2, torch.randn(shape, generator=generator) * 3


def cwd_reference(student: torch.Tensor, teacher: torch.Tensor, tau: float) -> float:
    """Equations 2 to 4 of arXiv 2011.13256, averaged over the batch, one channel at a time."""
    s, t = (x.double().numpy().reshape(*x.shape[:2], -1) / tau for x in (student, teacher))
    total = 0.0
    for n in range(s.shape[0]):
        for c in range(s.shape[1]):
            p = np.exp(t[n, c] - t[n, c].max())
            q = np.exp(s[n, c] - s[n, c].max())
            p, q = p / p.sum(), q / q.sum()
            total += float((p * (np.log(p) - np.log(q))).sum())
    return tau**2 / (s.shape[0] * s.shape[1]) * total


@pytest.mark.parametrize("shape", LEVELS)
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_cwd_is_the_papers_formula(shape, tau):
    student, teacher = pair(shape)
    expected = cwd_reference(student, teacher, tau)
    assert float(cwd_loss(student, teacher, tau)) == pytest.approx(expected, rel=1e-5)
    channels_last = [x.to(memory_format=torch.channels_last) for x in (student, teacher)]
    assert float(cwd_loss(*channels_last, tau)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", LEVELS)
def test_cwd_is_the_same_channel_by_channel_as_on_a_card(shape, monkeypatch):
    """The layout that a card needs, on maps that lie as the teacher's do."""
    student, teacher = (x.to(memory_format=torch.channels_last) for x in pair(shape))
    found = []
    for by_pixel in (True, False):
        monkeypatch.setattr(losses, "_by_pixel", lambda _, answer=by_pixel: answer)
        leaf = student.clone().requires_grad_()
        value = cwd_loss(leaf, teacher)
        found.append((float(value.detach()), torch.autograd.grad(value, leaf)[0]))
    (one, gradient), (other, other_gradient) = found
    assert one == pytest.approx(other, rel=1e-6, abs=1e-7)
    torch.testing.assert_close(gradient, other_gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max()))


@pytest.mark.parametrize(("device", "by_pixel"), [("cuda", False), ("cpu", True), ("mps", True)])
def test_a_card_takes_cwd_channel_by_channel(device, by_pixel):
    lies = type("Map", (), {"device": torch.device(device), "is_contiguous": lambda _, memory_format: True})()
    assert losses._by_pixel(lies) == by_pixel


def mgd_reference(student: torch.Tensor, teacher: torch.Tensor, loss: MGDLoss) -> float:
    """Equations 4 to 6 of arXiv 2205.01529 over C*H*W; convolutions summed by hand over shifted, padded copies."""
    n, c, h, w = student.shape
    mask = (torch.rand((n, 1, h, w), generator=torch.Generator().manual_seed(loss.seed)) >= loss.mask_ratio).double()

    def conv3x3(x, layer):
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        padded = torch.zeros(n, c, h + 2, w + 2, dtype=torch.float64)
        padded[:, :, 1:-1, 1:-1] = x
        out = bias[None, :, None, None].expand(n, -1, h, w).clone()
        for i in range(3):
            for j in range(3):
                out += torch.einsum("nchw,oc->nohw", padded[:, :, i : i + h, j : j + w], weight[..., i, j])
        return out

    hidden = conv3x3(student.double() * mask, loss.generation[0]).clamp(min=0)
    difference = teacher.double() - conv3x3(hidden, loss.generation[2])
    return float((difference**2).sum() / n) / (c * h * w)  # 1/N * ||T - G(M * S)||^2


def trained_mgd(channels: int) -> MGDLoss:
    """A generator that is not the identity any more."""
    loss = MGDLoss(channels, mask_ratio=0.65, seed=7)
    generator = torch.Generator().manual_seed(1)
    for parameter in loss.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return loss


@pytest.mark.parametrize("shape", LEVELS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_mgd_is_the_papers_formula(shape, layout):
    student, teacher = (x.to(memory_format=layout) for x in pair(shape))
    loss = trained_mgd(shape[1]).to(memory_format=layout)
    expected = mgd_reference(student, teacher, loss)
    assert float(loss(student, teacher).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", LEVELS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_mgd_under_autocast_convolves_in_bfloat16_and_sums_in_float32(shape, layout):
    student, teacher = (x.bfloat16().to(memory_format=layout) for x in pair(shape))
    loss, generated = trained_mgd(shape[1]).to(memory_format=layout), []
    loss.generation.register_forward_hook(lambda *call: generated.append(call[2].detach()))
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32 and generated[0].dtype == torch.bfloat16
    exact = float((generated[0].double() - teacher.double()).square().mean())
    assert float(value.detach()) == pytest.approx(exact, rel=1e-5)
    assert exact == pytest.approx(mgd_reference(student, teacher, loss), rel=1e-2)


@pytest.mark.parametrize("shape", LEVELS)
def test_cwd_of_bfloat16_maps_is_summed_in_float32(shape):
    student, teacher = (x.bfloat16() for x in pair(shape))
    expected = cwd_reference(student.float(), teacher.float(), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        value = cwd_loss(student, teacher)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_gradients():
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda s: cwd_loss(s, teacher, 2.0), student)
    mgd = MGDLoss(3).double()

    def same_mask(s):
        mgd.calls = 0
        return mgd(s, teacher)

    assert torch.autograd.gradcheck(same_mask, student)
    assert torch.autograd.gradcheck(standardise, student)


def test_equal_maps_cost_nothing_and_the_teacher_takes_no_gradient():
    student, teacher = pair(LEVELS[1])
    assert float(cwd_loss(teacher, teacher)) == pytest.approx(0, abs=1e-6)
    student.requires_grad_(True), teacher.requires_grad_(True)
    (cwd_loss(student, teacher) + MGDLoss(teacher.shape[1])(student, teacher)).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [cwd_loss, MGDLoss(8, mask_ratio=0.0)])
def test_scale_does_not_depend_on_the_batch(loss):
    student, teacher = pair((1, 8, 6, 6))
    one = float(loss(student, teacher))
    assert float(loss(student.repeat(4, 1, 1, 1), teacher.repeat(4, 1, 1, 1))) == pytest.approx(one, rel=1e-5)


def test_mgd_scale_does_not_depend_on_the_resolution():
    loss = MGDLoss(4, mask_ratio=0.0)
    (
        loss.generation[0].weight.data.zero_(),
        loss.generation[2].weight.data.zero_(),
    )  # a constant answer: no border effect
    student, teacher = pair((2, 4, 8, 8))
    large = [x.repeat(1, 1, 3, 3) for x in (student, teacher)]
    assert float(loss(*large)) == pytest.approx(float(loss(student, teacher)), rel=1e-5)


def test_masks_hide_the_stated_share_of_positions_in_all_channels_and_have_their_own_stream():
    seen = []
    loss = MGDLoss(4, mask_ratio=0.65)
    loss.generation.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ones = torch.ones(8, 4, 40, 40)
    state = torch.random.get_rng_state()
    loss(ones, ones), loss(ones, ones)
    assert torch.equal(state, torch.random.get_rng_state())
    assert seen[0].unique().tolist() == [0, 1]
    assert torch.equal(seen[0][:, :1].expand_as(ones), seen[0])
    assert not torch.equal(seen[0], seen[1])
    assert float(seen[0].mean()) == pytest.approx(0.35, abs=0.02)


def test_masks_go_on_where_the_state_dict_left_them():
    student, teacher = pair((2, 4, 8, 8))
    loss, resumed, other_rank = MGDLoss(4, seed=1), MGDLoss(4, seed=1), MGDLoss(4, seed=1001)
    first = float(loss(student, teacher).detach())
    resumed.load_state_dict(loss.state_dict())
    other_rank.load_state_dict(loss.state_dict())
    second = float(loss(student, teacher).detach())
    assert float(resumed(student, teacher).detach()) == second != first
    assert float(other_rank(student, teacher).detach()) != second  # the ranks of a resumed run hide other positions


def test_unfit_input_is_refused():
    student, teacher = pair((2, 4, 8, 8))
    with pytest.raises(ValueError, match="equal"):
        cwd_loss(student, teacher[:, :3])
    with pytest.raises(ValueError, match="equal"):
        MGDLoss(4)(student[0], teacher[0])
    with pytest.raises(ValueError, match="tau"):
        cwd_loss(student, teacher, tau=0)
    with pytest.raises(ValueError, match="mask_ratio"):
        MGDLoss(4, mask_ratio=1.0)


def test_standardise_gives_each_channel_mean_0_and_variance_1():
    features = pair((4, 6, 5, 5))[0] * 10 + 3
    result = standardise(features.half())
    assert result.dtype == torch.float32
    assert result.mean((0, 2, 3)).abs().max() < 1e-4
    assert (result.var((0, 2, 3), unbiased=False) - 1).abs().max() < 1e-3
