"""Pages of the pictures whose labels a person should look at first."""

from __future__ import annotations

from pathlib import Path

import pytest
from layouts import picture
from pages import Page

from coco1k_kd.report.review import Mark, Picture, suspicions_caption, suspicions_page, taught_caption, taught_page
from coco1k_kd.report.words import Words


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_page_shows_every_mark_of_its_pictures_and_takes_names_for_text(language: str, tmp_path: Path) -> None:
    words = Words(language)
    picture(tmp_path / "a.jpg", 0, (800, 600))
    marks = [Mark("kept", "cup <0.9>", (10, 20, 100, 50)), Mark("out", "kite 0.1", (700, 500, 90, 80))]
    shown = Picture("a<b>.jpg", tmp_path / "a.jpg", marks, taught_caption(words, 1, 1))
    page = Page(text := taught_page(words, "big.pt", 5, [shown]))
    assert any(line.startswith("a<b>.jpg: ") for line in page.text) and "cup <0.9>" in page.text
    assert "<0.9>" not in text and "a<b>" not in text
    assert text.count('class="kept"') == text.count('class="out"') == 2, "a mark and its sample in the legend"
    assert 'viewBox="0 0 800 600"' in text and 'x="10.0" y="20.0" width="100.0" height="50.0"' in text
    assert "data:image/jpeg;base64," in text and f'lang="{language}"' in text
    place = text.partition("kite 0.1")[0].rpartition("<text")[2]
    assert 'text-anchor="end"' in place, "what would not fit is written to the left of the edge"


def test_a_page_of_doubts_has_a_sample_of_each_kind(tmp_path: Path) -> None:
    words = Words()
    picture(tmp_path / "a.jpg", 0)
    kinds = ("label", "missing", "other_class", "unseen")
    shown = Picture("a.jpg", tmp_path / "a.jpg", [Mark("missing", "", (1, 2, 3, 4))], suspicions_caption(words, 1))
    text = suspicions_page(words, "big.pt", 1, 5, [shown])
    assert [text.count(f'class="{kind}"') for kind in kinds] == [1, 2, 1, 1]
    with pytest.raises(OSError):
        suspicions_page(words, "big.pt", 1, 5, [Picture("gone", tmp_path / "gone.jpg", [], "")])
