"""Studies as their users start them, watched from outside."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from programs import call
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco1k_kd.runs.launch import LOG
from coco1k_kd.study.collect import state_difference

PROGRAM = Path(__file__).resolve().parents[1] / "test_coco1k_kd.py"
EPOCHS = 3


def run(command: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    return call([*command, *more], env=environment())


def with_signal(model: Any) -> Any:
    """A fresh YOLO whose features differ from place to place, as a trained one's do: others are refused as teachers."""
    torch.manual_seed(0)
    norms = [module for module in model.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average over the calls
    model.model.train()
    with torch.no_grad():
        model.model(torch.rand(4, 3, 64, 64))
    for norm in norms:
        norm.momentum = 0.03
    model.model.eval()
    return model


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def likely_models(folder: Path, names: list[str]) -> None:
    """Write student.pt and teacher.pt of these classes with random weights.

    Their first two classes are likely everywhere, in boxes of two strides a side: without that they find nothing at
    64 pixels, and equal figures would show nothing.
    """
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    for name, architecture in (("student", "yolo11n.yaml"), ("teacher", "yolov8n.yaml")):
        model = YOLO(architecture)
        model.model = DetectionModel(model.model.yaml, nc=len(names), verbose=False)
        model.model.names = dict(enumerate(names))
        head = model.model.model[-1]
        for boxes, classes in zip(head.cv2, head.cv3, strict=True):
            boxes[-1].bias.data = -2 * torch.arange(head.reg_max).sub(1.0).abs().repeat(4)
            classes[-1].bias.data = -3.0 * torch.arange(1, len(names) + 1)
        (with_signal(model) if name == "teacher" else model).save(folder / f"{name}.pt")


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(word) for word in listed.split()]


def runs_of(project: Path) -> list[int]:
    """The processes of a study's runs that its launcher has started: not their ranks and data loaders."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            log, pid = (place / "fd" / "1").readlink(), int(place.name)
            if log.name == LOG and project in log.parents and os.getsid(pid) == pid:
                found.append(pid)
    return sorted(found)


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def assert_figures_of_pycocotools(
    figures: dict[str, Any], annotations: Path, predictions: Path, last: str = ""
) -> None:
    """AP and AP50 are those of pycocotools on saved predictions, of which there are enough to tell."""
    truth = COCO(str(annotations))
    found = json.loads(predictions.read_bytes())
    assert len(found) > 100, "no predictions, nothing shown"
    assert {item["category_id"] for item in found} <= set(truth.getCatIds())
    evaluation = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ap, ap50 = evaluation.stats[:2]
    assert abs(figures[f"ap{last}"] - ap) < 1e-9 and abs(figures[f"ap50{last}"] - ap50) < 1e-9


def assert_same_study(content: dict[str, Any], expected: dict[str, Any]) -> None:
    """Two comparisons of the same settings: the same predictions, weights, curves and verdicts, apart from timings."""
    assert content["audit"] == expected["audit"] and list(content["arms"]) == list(expected["arms"])
    for name, arm in content["arms"].items():
        for one, other in zip(arm["runs"], expected["arms"][name]["runs"], strict=True):
            assert one["seed"] == other["seed"] and one["draw"] == other["draw"]
            assert one["batch_hash"] == other["batch_hash"] and one["curves"] == other["curves"]
            here, there = Path(one["dir"]), Path(other["dir"])
            for which in ("best", "last"):
                file = f"predictions_{which}.json"
                assert (here / file).read_bytes() == (there / file).read_bytes()
                assert json.loads((here / file).read_bytes()), "nothing predicted, nothing shown"
            assert state_difference(*(place / "weights" / "last.pt" for place in (here, there))) == 0
    assert [(entry["arm"], entry["against"]) for entry in content["comparisons"]] == [
        (entry["arm"], entry["against"]) for entry in expected["comparisons"]
    ]
    for one, other in zip(content["comparisons"], expected["comparisons"], strict=True):
        for key in ("d_ap", "d_ap50", "verdict", "mde", "per_class"):
            assert one[key] == other[key]
