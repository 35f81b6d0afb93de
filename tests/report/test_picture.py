"""The picture and the text of a comparison, of every shape; what cannot be drawn leaves no file."""

from __future__ import annotations

import pytest
from comparisons import EN, SHAPES, comparison, valid
from matplotlib.image import imread

from coco1k_kd.errors import UserError
from coco1k_kd.report.comparison import read_comparison
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.write import write_again, write_report


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_and_told(shape, tmp_path):
    content = valid(comparison(**shape))
    paths = write_report(content, tmp_path, "20260101_000000")
    assert [p.name for p in paths] == [
        "comparison_20260101_000000.json",
        "comparison_20260101_000000.md",
        "kd_comparison_20260101_000000.png",
        "report_20260101_000000.html",
    ]
    assert read_comparison(paths[0]) == content
    pixels = imread(paths[2])
    assert pixels.shape[1] == 1200 and pixels[..., :3].std() > 0.05, "1,200 wide and not blank"
    assert paths[1].read_text() == markdown(content, EN)
    assert sorted(tmp_path.iterdir()) == sorted(paths), "nothing else is left behind"


def test_what_cannot_be_drawn_leaves_no_file(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"comparisons": [], "arms": {}, "references": {}}')
    with pytest.raises(UserError, match=r"some.json is not a comparison of this program"):
        write_again(path)
    assert list(tmp_path.iterdir()) == [path]
