"""What a teacher finds in images, as it is kept."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from coco1k_kd.runs.taught import _boxes


def test_boxes_are_left_top_width_height_and_those_without_a_side_are_none() -> None:
    corners = torch.tensor([[10, 20, 30.004, 60], [5, 5, 5, 9], [5, 5, 9, 5]])
    found = SimpleNamespace(xyxy=corners, cls=torch.tensor([2.0, 0, 0]), conf=torch.tensor([0.12346, 0.9, 0.9]))
    assert _boxes(found).tolist() == [[2, 0.1235, 10, 20, 20, 40]]
