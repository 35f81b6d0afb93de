"""The page as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.evidence import Evidence
from coco1k_kd.report.page import page
from coco1k_kd.report.words import Words

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The elements of a page, each of them closed where it must be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script", "title") and data.strip():
            self.text.append(data.strip())


def made(content: Comparison, language: str = "en", evidence: Evidence | None = None) -> str:
    return page(content, Words(language), evidence or Evidence(), Path("runs/comparison_20260101_000000.json"))
