"""The report's files, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec

from coco1k_kd.errors import UserError
from coco1k_kd.files import write_atomic, write_json
from coco1k_kd.report.comparison import Comparison, read_comparison
from coco1k_kd.report.evidence import gather
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.page import page
from coco1k_kd.report.picture import draw
from coco1k_kd.report.words import Words


def write_report(comparison: Comparison, folder: Path, stamp: str, language: str | None = None) -> tuple[Path, ...]:
    """Write comparison_<stamp>.json and .md, kd_comparison_<stamp>.png, report_<stamp>.html and pictures_<stamp>/.

    `language` is that of all but the first, by default the study's; another one stands in their names, as in
    report_<stamp>.ko.html, so that both are kept. Everything is made before anything is written. The pictures
    are left out where predictions or images are gone. Returns the files, the page last.
    """
    words, data = Words(language or comparison.language), folder / f"comparison_{stamp}.json"
    stamp += f".{words.language}" if words.language != comparison.language else ""
    evidence = gather(comparison, words)
    made: dict[str, bytes | str] = {
        f"comparison_{stamp}.md": markdown(comparison, words),
        f"kd_comparison_{stamp}.png": draw(comparison, words),
    }
    if evidence.examples:
        made |= {f"pictures_{stamp}/{name}": png for name, png in evidence.examples.slides(words).items()}
    made[f"report_{stamp}.html"] = page(comparison, words, evidence, data)
    write_json(data, msgspec.to_builtins(comparison))
    for name, content in made.items():
        write_atomic(folder / name, content)
    return (data, *(folder / name for name in made if "/" not in name))


def write_again(path: Path, language: str | None = None) -> int:
    """Write and print the report of a comparison again, from its JSON."""
    content = read_comparison(path)
    try:
        written = write_report(content, path.parent, path.stem.removeprefix("comparison_"), language)
    except OSError as error:
        raise UserError(f"cannot write beside {path}: {error.strerror}") from None
    print(markdown(content, Words(language or content.language)))
    print("\n".join(f"wrote {place}" for place in written))
    return 0
