"""Labels that are not sure: what they weigh in Ultralytics' losses."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import ultralytics
from ultralytics.cfg import get_cfg

from coco1k_kd.distill.doubt import attach
from coco1k_kd.errors import DistillationError

pytestmark = pytest.mark.usefixtures("one_thread")


def predictions(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """A model's criterion, its predictions and a batch of two images with three boxes each."""
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{name}.yaml", verbose=False).model.train()
    model.args = get_cfg()
    boxes = torch.tensor([[0.3, 0.3, 0.4, 0.4], [0.6, 0.6, 0.3, 0.5], [0.5, 0.2, 0.2, 0.2]]).repeat(2, 1)
    batch = {
        "img": torch.rand(2, 3, 96, 96),
        "batch_idx": torch.tensor([0.0, 0, 0, 1, 1, 1]),
        "cls": torch.tensor([[1.0], [2], [3], [4], [5], [6]]),
        "bboxes": boxes,
    }
    return model.init_criterion(), model(batch["img"]), batch


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_sure_labels_have_ultralytics_own_loss(name: str) -> None:
    criterion, found, batch = predictions(name)
    wrapped = deepcopy(criterion)
    attach(wrapped)
    for some in (slice(None), slice(0, 0)):  # and in a batch without a label
        part = {key: value if key == "img" else value[some] for key, value in batch.items()}
        torch.testing.assert_close(wrapped(found, part)[0], criterion(found, part)[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_a_box_in_doubt_is_neither_object_nor_background(name: str) -> None:
    """As without it, but for anchors in it that no label has: they are not told to be background."""
    criterion, found, batch = predictions(name)
    without = {key: value if key == "img" else value[:5] for key, value in batch.items()}
    attach(criterion)
    few = criterion(found, without)[0]
    doubted = {**batch, "cls": torch.cat((batch["cls"][:5], batch["cls"][5:] + 0.75))}
    box, cls, dfl = criterion(found, doubted)[0]
    torch.testing.assert_close((box, dfl), (few[0], few[2]))
    assert 0.5 * few[1] < cls < few[1]
    everywhere = {**doubted, "bboxes": torch.cat((batch["bboxes"][:5], torch.tensor([[0.5, 0.5, 1, 1]])))}
    assert criterion(found, everywhere)[0][1] < cls
    scored = {**batch, "cls": torch.cat((batch["cls"][:5], batch["cls"][5:] + 0.2))}
    assert criterion(found, scored)[0][0] != criterion(found, batch)[0][0]


def test_a_loss_that_classifies_first_is_told() -> None:
    criterion, _, _ = predictions("yolo11n")
    attach(criterion)
    with pytest.raises(DistillationError, match="no longer assigns"):
        criterion.bce(torch.zeros(2, 5, 80), torch.zeros(2, 5, 80))
