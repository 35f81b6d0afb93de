"""A student that keeps a part of its weights: that, all of that, and the same for every arm."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import ultralytics
from msgspec import structs
from studies import run
from ultralytics.nn.tasks import load_checkpoint

from coco1k_kd.runs.initial import frozen_layers, keep_statistics, partial_start
from coco1k_kd.runs.launch import launch
from coco1k_kd.runs.spec import read_spec


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


@pytest.mark.parametrize(("keep", "layers"), [("backbone", 11), ("neck", 23), ("frozen", 23)])  # of YOLO11
def test_the_part_is_kept_and_the_rest_is_fresh(keep: str, layers: int, trained: Path, tmp_path: Path) -> None:
    before, random_state = _weights(trained), torch.get_rng_state()
    started = _weights(partial_start(trained, keep, 0, tmp_path / "a" / "start.pt"))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert started.keys() == before.keys()
    torch.manual_seed(0)
    fresh = {
        k: v.half().float()
        for k, v in ultralytics.nn.tasks.DetectionModel("yolo11n.yaml", verbose=False).state_dict().items()
    }
    for name, weight in started.items():
        kept = int(name.split(".")[1]) < layers
        assert torch.equal(weight, (before if kept else fresh)[name]), name
        if not kept:
            assert not torch.equal(weight, before[name]), name


def test_the_seed_alone_decides(trained: Path, tmp_path: Path) -> None:
    first, same, other = (
        _weights(partial_start(trained, "backbone", s, tmp_path / f"{i}.pt")) for i, s in enumerate((0, 0, 1))
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["model.16.cv1.conv.weight"], other["model.16.cv1.conv.weight"])


def test_the_backbone_is_what_is_frozen(trained: Path) -> None:
    assert frozen_layers(trained) == 11  # SPPF and C2PSA are the backbone's last, then comes the neck's first Upsample
    assert isinstance(ultralytics.YOLO(str(trained)).model.model[11], torch.nn.Upsample)


def test_a_frozen_run_leaves_the_backbone_and_trains_the_rest(whole: SimpleNamespace, tmp_path: Path) -> None:
    spec = read_spec(Path(whole.content["arms"]["cwd"]["runs"][0]["dir"]))
    args = {**spec.train_args, "epochs": 1, "nbs": 8}
    spec = structs.replace(spec, folder=str(tmp_path), start="frozen", train_args=args)
    assert launch(spec, "cwd, seed 0").work["train_args"]["freeze"] == 11  # as the audit compares it between arms
    before, after = _weights(tmp_path / "start.pt"), _weights(tmp_path / "weights" / "last.pt")
    changed = {int(name.split(".")[1]) for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {13, 16, 17, 19, 20, 22, 23}  # of YOLO11's neck and head, those that have weights


def test_frozen_statistics_stay_and_weights_move(command: list[str], tmp_path: Path) -> None:
    done = run([*command[:-1], str(tmp_path), "--arms", "baseline", "--epochs", "1", "--freeze-bn"])
    assert done.returncode == 0, done.stdout + done.stderr
    (last,) = tmp_path.glob("baseline_*/weights/last.pt")
    given, found = (
        load_checkpoint(path)[0].float().state_dict() for path in (command[command.index("--student") + 1], last)
    )
    statistics = [name for name in given if name.endswith(("running_mean", "running_var"))]
    assert statistics and all(torch.equal(found[name], given[name]) for name in statistics)
    assert any(not torch.equal(found[name], given[name]) for name in given if name.endswith("bn.weight"))


def test_only_the_students_statistics_are_frozen() -> None:
    student, teacher = (torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1)) for _ in range(2))
    both = torch.nn.ModuleDict({"student": student, "teacher": teacher}).train()
    both.student_model = student  # as Ultralytics' own distillation wraps it
    keep_statistics(SimpleNamespace(model=both))
    assert not student[1].training and student[0].training and student[1].weight.requires_grad
    assert teacher[1].training
