"""The flags of `coco1k-kd label`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from coco1k_kd.errors import UserError
from coco1k_kd.study import label
from coco1k_kd.study.labelling import Order

NEEDED = ["--teacher", "t.pt", "--images", "photos", "--output", "out"]


def test_every_field_of_an_order_is_a_flag_with_its_default() -> None:
    order = Order(**vars(label.parser().parse_args(NEEDED)))
    assert (order.teacher, order.images, order.output) == ("t.pt", Path("photos"), Path("out"))
    for field in dataclasses.fields(Order):
        if field.default is not dataclasses.MISSING:
            given = getattr(order, field.name)
            assert (tuple(given) if isinstance(given, list) else given) == field.default, field.name


def test_main_labels_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Order] = []
    monkeypatch.setattr(label, "label", orders.append)
    more = [
        "--format",
        "cvat",
        "yolo",
        "--class-map",
        "a=b",
        "--confidence",
        "0.5",
        "--imgsz",
        "64",
        "--language",
        "ko",
    ]
    monkeypatch.setattr("sys.argv", ["label", *NEEDED, *more])
    assert label.main() == 0
    (order,) = orders
    assert (list(order.format), list(order.class_map)) == (["cvat", "yolo"], ["a=b"])
    assert (order.confidence, order.imgsz, order.language) == (0.5, 64, "ko")


@pytest.mark.parametrize("flag", [["--format", "voc"], ["--language", "xx"], ["--imgsz", "big"], ["--formats", "cvat"]])
def test_what_cannot_be_read_is_refused_in_a_line(flag: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        label.parser().parse_args([*NEEDED, *flag])
    assert flag[0] in str(caught.value) and "\n" not in str(caught.value)
