"""The report's files, each whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coco1k_kd.files import write_atomic, write_json
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.picture import draw
from coco1k_kd.report.words import Words


def write_report(comparison: dict[str, Any], folder: Path, stamp: str, language: str = "en") -> tuple[Path, ...]:
    """Write comparison_<stamp>.json, kd_comparison_<stamp>.png, comparison_<stamp>.md and report_<stamp>.html.

    `language` is that of the last three: "en" or "ko". Everything is made before anything is written.
    """
    words = Words(language)
    made = {
        f"kd_comparison_{stamp}.png": draw(comparison, words),
        f"comparison_{stamp}.md": markdown(comparison, words),
    }
    first = folder / f"comparison_{stamp}.json"
    write_json(first, comparison)
    for name, content in made.items():
        write_atomic(folder / name, content)
    return (first, *(folder / name for name in made))
