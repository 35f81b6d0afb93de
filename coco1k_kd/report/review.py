"""A page of the pictures whose labels a person should look at first. It holds all that it shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

_LONGEST = 640  # pixels of a picture's longer side
_KEPT, _LEFT_OUT = "#56B4E9", "#F0E442"
_STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:1320px;padding:0 1rem;color:#222}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(400px,100%),1fr));gap:1.2rem}
figure{margin:0}svg{width:100%;height:auto;display:block}figcaption{overflow-wrap:anywhere}
rect{fill:none;stroke-width:2.5;vector-effect:non-scaling-stroke}.edge{stroke:#000;stroke-width:4.5}
.kept{stroke:#56B4E9}.out{stroke:#F0E442;stroke-dasharray:6 5}
text{font-weight:600;paint-order:stroke;stroke:#000;stroke-width:3.5px;stroke-linejoin:round}"""

Row = tuple[str, float, float, float, float, float, bool]  # class, score, left, top, width, height, is a label


def page(title: str, text: str, pictures: Sequence[tuple[str, Path, Sequence[Row]]]) -> str:
    """HTML of pictures with boxes: labels with a full line, boxes that were left out with a dashed one.

    `pictures`: name, file, and boxes in pixels after EXIF. OSError if a file is gone.
    """
    figures = "\n".join(_figure(*picture) for picture in pictures)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body><h1>{escape(title)}</h1><p>{escape(text)}</p>
<p><b style="border-bottom:3px solid {_KEPT}">full line</b>: a label;
<b style="border-bottom:3px dashed {_LEFT_OUT}">dashed line</b>: found with a score below the threshold, no label.
The number is the teacher's score.</p>
<main>{figures}</main></body></html>
"""


def _figure(name: str, file: Path, rows: Sequence[Row]) -> str:
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = image.size
    image.thumbnail((_LONGEST, _LONGEST))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=78, optimize=True)
    picture = base64.b64encode(data.getvalue()).decode()
    letter = max(width, height) / 34
    shapes = "".join(_shape(row, letter) for row in sorted(rows, key=lambda row: (row[-1], row[1])))
    labels = sum(row[-1] for row in rows)
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">'
        f'<image href="data:image/jpeg;base64,{picture}" width="{width}" height="{height}"/>{shapes}</svg>'
        f"<figcaption>{escape(name)}: {labels} label{'s' * (labels != 1)}, {len(rows) - labels} left out</figcaption>"
        "</figure>"
    )


def _shape(row: Row, letter: float) -> str:
    """A box with its name; the line has a dark edge, which shows on bright and on dark ground."""
    name, score, x, y, width, height, kept = row
    sides = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    kind, colour = ("kept", _KEPT) if kept else ("out", _LEFT_OUT)
    return (
        f'<rect class="edge" {sides}/><rect class="{kind}" {sides}/>'
        f'<text x="{x + letter / 5:.1f}" y="{max(y, 0) + letter:.1f}" font-size="{letter:.1f}" fill="{colour}">'
        f"{escape(name)} {score:.2f}</text>"
    )
