"""What stands behind the box in rows of labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from layouts import absolute, label

from coco1k_kd.data import given
from coco1k_kd.data.columns import Outlines, outlines
from coco1k_kd.errors import UserError

SPOTS = [(0.3 + 0.03 * i, 0.35 + 0.02 * i) for i in range(12)]  # where the box of a row would lie within the image


def test_boxes_that_are_drawn_around_outlines_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the rows are a box and keypoints behind it, which is then another box."""
    path = absolute(tmp_path)
    label(tmp_path / "data/labels/val/03.txt", [(0, 0.5, 0.5, 0.25, 0.5, 0.5, 0.6, 0.4, 0.4)])
    given.check(path)
    said = capsys.readouterr().out
    assert "note: val: 1 of 5 boxes are drawn around outlines" in said
    assert "note: a study is of detectors: it trains and judges the upright boxes, and none of the outlines" in said


def test_keypoints_behind_the_box_are_refused_and_outlines_of_equal_length_are_not(tmp_path: Path) -> None:
    """Four corners a row are oriented boxes, from which Ultralytics trains well."""
    path, place = absolute(tmp_path), tmp_path / "data/labels/val/03.txt"
    corners = [(x - 0.03, y - 0.02, x + 0.03, y - 0.02, x + 0.03, y + 0.02, x - 0.03, y + 0.02) for x, y in SPOTS]
    label(place, [(0, *points) for points in corners])
    given.check(path)
    label(place, [(0, x, y, 0.2, 0.3, x + 0.01, y - 0.01, x, y + 0.02) for x, y in SPOTS])
    with pytest.raises(UserError, match="val: all 12 rows of more than 6 columns look like class, box and keypoints"):
        given.check(path)


def test_rows_of_seven_columns_and_more_are_counted_and_what_is_no_keypoint_is_an_outline(tmp_path: Path) -> None:
    pose = [(0, x, y, 0.2, 0.3, x + 0.01, y - 0.01, 2, 0, 0, 0) for x, y in SPOTS]
    files = {name: tmp_path / f"{name}.txt" for name in ("boxes", "few", "pose", "unseen", "outside", "words", "gone")}
    label(files["boxes"], [(0, 0.5, 0.5, 0.1, 0.1)] * 3)
    label(files["few"], pose[:9])
    label(files["pose"], pose)
    label(files["unseen"], [(*row[:5], 0, 0, 0, 0, 0, 0) for row in pose])
    label(files["outside"], [(*row[:5], 0.99, 0.99, 2, 0, 0, 0) for row in pose])
    label(files["words"], [(*row[:10], "x") for row in pose])
    assert outlines([files["boxes"], files["gone"]]) == Outlines(0, None)
    assert outlines([files["few"]]) == Outlines(9, None), "too few rows to tell"
    assert outlines([files["boxes"], files["pose"]]) == Outlines(12, files["pose"])
    for name in ("unseen", "outside", "words"):
        assert outlines([files[name]]) == Outlines(12, None), name
        assert outlines([files["pose"], files[name]]).keypoints is None, "all rows must look like it"
