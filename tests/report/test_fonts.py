"""Letters of plots come from any installed font, or are said to be boxes."""

from __future__ import annotations

import io
import warnings

from comparisons import EN, comparison
from matplotlib import get_data_path
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

from coco1k_kd.report import fonts
from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.picture import draw, figure
from coco1k_kd.report.words import Words


def named(letters: str) -> Comparison:
    """A comparison on data of this name."""
    content = comparison()
    content.dataset["description"] = letters
    return content


def test_letters_come_from_any_installed_font():
    usual, other = (
        FT2Font(f"{get_data_path()}/fonts/ttf/{name}").get_charmap() for name in ("DejaVuSans.ttf", "STIXGeneral.ttf")
    )
    rare = next(chr(code) for code in sorted(other.keys() - usual.keys()) if chr(code).isprintable())
    drawn = figure(named(f"class {rare}"), EN)
    assert "Boxes stand for" not in drawn.get_supxlabel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn.savefig(io.BytesIO())


def test_letters_that_no_font_has_are_said_to_be_boxes(monkeypatch, recwarn):
    usual = [font for font in fontManager.ttflist if font.name == "DejaVu Sans" or font.name.startswith("Last Resort")]
    monkeypatch.setattr(fontManager, "ttflist", usual)
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    content = named("한국어")
    assert "one seed" in figure(comparison(seeds=1), Words("ko")).axes[1].get_title("left"), "English, not boxes"
    assert "Boxes stand for letters that no font" in figure(content, EN).get_supxlabel()
    assert "Boxes" not in figure(comparison(), EN).get_supxlabel()
    draw(content, EN)
    assert not [str(warning.message) for warning in recwarn]
