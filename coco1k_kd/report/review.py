"""Pages of the pictures whose labels a person should look at first. They hold all that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from coco1k_kd.report.examples import jpeg, upright
from coco1k_kd.report.words import Words

_LONGEST = 640  # pixels of a picture's longer side
_LETTER = 0.62  # width of a letter by its height
_COLOURS = {
    "kept": "#56B4E9",
    "out": "#F0E442",
    "label": "#FFFFFF",
    "missing": "#F0E442",
    "other_class": "#FF9D5C",
    "unseen": "#F2A6D3",
}
_DASHES = {"out": "6 5", "missing": "10 4", "unseen": "2 4"}
_STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:1320px;padding:0 1rem;color:#222}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(400px,100%),1fr));gap:1.2rem}
h1{font-size:1.5rem;line-height:1.25}
figure{margin:0}figure>svg{width:100%;height:auto;display:block}figcaption{overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:auto 1fr;gap:.3rem .7rem;align-items:center}dd{margin:0}dt{line-height:0}
rect{fill:none;stroke-width:2.5;vector-effect:non-scaling-stroke}.edge{stroke:#000;stroke-width:4.5}
text{font-weight:600;paint-order:stroke;stroke:#000;stroke-width:3.5px;stroke-linejoin:round}"""


@dataclass(frozen=True)
class Mark:
    """A box in a picture, left, top, width, height in pixels after EXIF, with what is written at it.

    `kind`: kept or out, of a teacher's boxes; label, missing, other_class or unseen, of labels that may be wrong.
    """

    kind: str
    text: str
    box: Sequence[float]


@dataclass(frozen=True)
class Picture:
    """An image with its marks; `caption` stands below it beside its name."""

    name: str
    file: Path
    marks: Sequence[Mark]
    caption: str


def taught_page(words: Words, model: str, images: int, pictures: Sequence[Picture]) -> str:
    """HTML of the images that a teacher labelled least certainly, of so many. OSError if a file is gone."""
    title = words("taught_title", shown=words.count("image", len(pictures)), images=f"{images:,}", model=model)
    return _page(words, title, words("taught_text"), ("kept", "out"), pictures)


def suspicions_page(words: Words, model: str, number: int, images: int, pictures: Sequence[Picture]) -> str:
    """HTML of the images with the most doubtful labels: so many doubts in so many images. OSError if a file is gone."""
    title = words("suspicions_title", number=words.count("suspicion", number), images=words.count("image", images))
    text = words("suspicions_text", shown=words.count("image", len(pictures)), model=model)
    return _page(words, title, text, ("label", "missing", "other_class", "unseen"), pictures)


def taught_caption(words: Words, kept: int, out: int) -> str:
    """How many boxes became labels, and how many did not."""
    return words("taught_caption", labels=words.count("label", kept), out=f"{out:,}")


def suspicions_caption(words: Words, number: int) -> str:
    """How many doubts there are."""
    return words.count("suspicion", number)


def _page(words: Words, title: str, text: str, kinds: Sequence[str], pictures: Sequence[Picture]) -> str:
    figures = "\n".join(map(_figure, pictures))
    legend = "".join(f"<dt>{_sample(kind)}</dt><dd>{escape(words(f'mark_{kind}'))}</dd>" for kind in kinds)
    return f"""<!doctype html>
<html lang="{words.language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body><h1>{escape(title)}</h1><p>{escape(text)}</p>
<dl>{legend}</dl>
<main>{figures}</main></body></html>
"""


def _figure(picture: Picture) -> str:
    image = upright(picture.file)
    width, height = image.size
    image.thumbnail((_LONGEST, _LONGEST))
    content, name = jpeg(image), escape(picture.name)
    letter = max(width, height) / 34
    kinds = list(_COLOURS)
    marks = sorted(picture.marks, key=lambda mark: mark.kind == "kept" or kinds.index(mark.kind))
    shapes = "".join(_rectangle(mark.kind, mark.box) for mark in marks)
    shapes += "".join(_text(mark, letter, width) for mark in marks if mark.text)
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}">'
        f'<image href="data:image/jpeg;base64,{content}" width="{width}" height="{height}"/>{shapes}</svg>'
        f"<figcaption>{name}: {escape(picture.caption)}</figcaption></figure>"
    )


def _rectangle(kind: str, box: Sequence[float]) -> str:
    """A box; the line has a dark edge, which shows on bright and on dark ground."""
    sides = 'x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"'.format(*box)
    dash = f' stroke-dasharray="{_DASHES[kind]}"' if kind in _DASHES else ""
    return f'<rect class="edge" {sides}/><rect class="{kind}" stroke="{_COLOURS[kind]}"{dash} {sides}/>'


def _text(mark: Mark, letter: float, width: int) -> str:
    """What is written at a box, within the picture."""
    x, y, end = mark.box[0] + letter / 5, max(mark.box[1], 0) + letter, width - letter / 5
    cut = x + _LETTER * letter * len(mark.text) > end
    place = f'x="{end:.1f}" text-anchor="end"' if cut else f'x="{x:.1f}"'
    size = f'y="{y:.1f}" font-size="{letter:.1f}"'
    return f'<text {place} {size} fill="{_COLOURS[mark.kind]}">{escape(mark.text)}</text>'


def _sample(kind: str) -> str:
    """The line of a kind, for the legend."""
    return f'<svg width="46" height="22" aria-hidden="true">{_rectangle(kind, (3, 3, 40, 16))}</svg>'
