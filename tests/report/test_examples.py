"""Pictures of single images: which boxes count as found, false and missed, and how they are drawn."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from coco1k_kd.report.examples import Box, Example, told_apart
from coco1k_kd.report.words import Words

EN = Words()


def test_boxes_are_judged_by_cocos_rules() -> None:
    dog, crowd = Box("dog", (0, 0, 10, 10)), Box("dog", (50, 0, 40, 40), crowd=True)
    right, second = Box("dog", (0, 0, 10, 9), 0.9), Box("dog", (0, 0, 9, 10), 0.8)
    in_crowd, cat = Box("dog", (55, 5, 5, 5), 0.7), Box("cat", (0, 0, 10, 10), 0.6)
    assert told_apart([cat, second, in_crowd, right], [dog, crowd]) == ([right], [second, cat], [])
    assert told_apart([], [dog, crowd]) == ([], [], [dog])


def test_panels_mark_boxes_without_relying_on_colour(tmp_path: Path) -> None:
    Image.new("RGB", (100, 60), "white").save(tmp_path / "a.png")
    box = Box("개 & dog", (20, 20, 40, 30))
    false = Box("dog", (70, 5, 20, 20), 0.5)
    example = Example("a.png", 0.01, tmp_path / "a.png", [box], {"baseline": [false], "cwd": [box]})
    truth_panel, missed, found = example.panels(EN)
    assert truth_panel.image.size == (480, 288) and truth_panel.text == "1 box"
    assert (missed.text, found.text) == ("0 found, 1 false, 1 missed", "1 found, 0 false, 0 missed")
    grey = [np.asarray(panel.image.convert("L"), float) for panel in (truth_panel, missed, found)]
    line = [row[int(20 * 4.8) + 20 : int(60 * 4.8) - 20] for row in (g[int(50 * 4.8)] for g in grey)]
    assert len(set(line[0].tolist())) == 1 and len(set(line[1].tolist())) > 1, "a missed box is dotted in grey, too"
    assert Image.open(io.BytesIO(example.slide(EN))).size[0] > 3 * 620
    assert "1 missed" in missed.alt and "a.png" in missed.alt


def test_few_boxes_of_low_scores_hide_the_image(tmp_path: Path) -> None:
    Image.new("RGB", (400, 400), "white").save(tmp_path / "a.png")
    false = [Box("dog", (40.0 * i, 40.0 * i, 36, 36), 0.1 + i / 100) for i in range(10)]
    example = Example("a.png", 0.01, tmp_path / "a.png", [], {"baseline": false, "cwd": []})
    panel = example.panels(EN)[1]
    assert panel.text == "0 found, 10 false, 0 missed", "all are counted"
    pixels, scale = np.asarray(panel.image), 480 / 400
    left = [
        not (pixels[int(y) :, int(x) :][:40, :40] == 255).all()
        for x, y in (scale * np.array(b.bbox[:2]) for b in false)
    ]
    assert left == [False] * 4 + [True] * 6, "the six of the highest scores are drawn"
