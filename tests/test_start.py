"""A student that keeps its backbone alone: that, all of that, and the same for every arm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import ultralytics

from coco1k_kd.start import backbone_start


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose every weight and buffer differs from a fresh model's."""
    path = tmp_path_factory.mktemp("start") / "trained.pt"
    model = ultralytics.YOLO("yolo11n.yaml")
    for tensor in model.model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.5)
    model.save(str(path))
    return path


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return {k: v.float() for k, v in ultralytics.YOLO(str(path)).model.state_dict().items() if v.is_floating_point()}


def test_the_backbone_is_kept_and_the_rest_is_fresh(trained: Path, tmp_path: Path) -> None:
    before, random_state = _weights(trained), torch.get_rng_state()
    started = _weights(backbone_start(trained, 0, tmp_path / "a" / "start.pt"))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert started.keys() == before.keys()
    torch.manual_seed(0)
    fresh = {
        k: v.half().float()
        for k, v in ultralytics.nn.tasks.DetectionModel("yolo11n.yaml", verbose=False).state_dict().items()
    }
    for name, weight in started.items():
        backbone = int(name.split(".")[1]) < 11  # layers of YOLO11's backbone
        assert torch.equal(weight, (before if backbone else fresh)[name]), name
        if not backbone:
            assert not torch.equal(weight, before[name]), name


def test_the_seed_alone_decides(trained: Path, tmp_path: Path) -> None:
    first, same, other = (_weights(backbone_start(trained, s, tmp_path / f"{i}.pt")) for i, s in enumerate((0, 0, 1)))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["model.16.cv1.conv.weight"], other["model.16.cv1.conv.weight"])
