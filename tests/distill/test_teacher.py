"""The teacher: its neck's features are those of the whole model, in the fastest safe precision."""

from __future__ import annotations

import pytest
import torch
import ultralytics
from trainings import compared

from coco1k_kd.distill.distiller import Distiller
from coco1k_kd.distill.seams import detect_head, neck_channels
from coco1k_kd.distill.teacher import Teacher, teacher_dtype

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["yolo11n", "yolo11l", "yolov8m", "yolo26n", "yolov10n", "yolov5n"])
def test_teacher_gives_the_neck_of_the_whole_model(name):
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{name}.yaml", verbose=False).model.eval()
    head, caught = detect_head(model, "teacher"), []
    head.register_forward_pre_hook(lambda _, inputs: caught.extend(inputs[0]))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        model(images)
    head._forward_pre_hooks.clear()
    features, responses = Teacher(model, torch.device("cpu"), torch.float32, compile_mode=False)(images)
    assert not responses
    assert [f.shape[1] for f in features] == neck_channels(head)
    for mine, theirs in zip(features, caught, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    student_channels = [64, 128, 256]  # of yolo11n
    student = [
        torch.rand(1, c, *f.shape[2:], requires_grad=True) for c, f in zip(student_channels, features, strict=True)
    ]
    for loss in ("cwd", "mgd"):
        compared(Distiller(student_channels, neck_channels(head), loss), student, features)[0].backward()
        assert all(level.grad.isfinite().all() and level.grad.abs().sum() > 0 for level in student)
    half = Teacher(model, torch.device("cpu"), torch.bfloat16, compile_mode=False)(images).features
    for mine, theirs in zip(half, caught, strict=True):
        assert float((mine.float() - theirs).norm() / theirs.norm()) < 0.05


@pytest.mark.parametrize(
    ("device", "amp", "capabilities", "dtype"),
    [
        ("cpu", False, {"amx_bf16": True}, torch.bfloat16),
        ("cpu", False, {"avx512_bf16": True}, torch.bfloat16),
        ("cpu", False, {"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, torch.float32),
        ("cuda", True, {}, torch.float16),
        ("cuda", "bf16", {}, torch.bfloat16),
        ("cuda", False, {}, torch.float32),
        ("mps", True, {}, torch.float32),
    ],
)
def test_the_teacher_is_in_the_fastest_safe_precision(device, amp, capabilities, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert teacher_dtype(torch.device(device), amp, "auto") == dtype
    assert teacher_dtype(torch.device(device), amp, "fp32") == torch.float32
