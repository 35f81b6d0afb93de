"""Which installed fonts have the letters of a text, as Korean names need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import matplotlib
from matplotlib.font_manager import FontEntry, FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font


def file_with(text: str) -> str:
    """The font file that has most of these letters, for what cannot mix fonts."""
    wanted = {ord(letter) for letter in text}
    files = [findfont(FontProperties(family=[name])) for name in families(text)[0]]
    return max(files, key=lambda file: len(wanted & _letters(file)))


def families(text: str) -> tuple[list[str], str]:
    """The usual font and installed ones with the letters of `text` that it lacks; and the letters that none has."""
    names = [*matplotlib.rcParams["font.family"]]
    missing = {ord(letter) for letter in text if letter.isprintable()} - _letters(findfont(FontProperties()))
    for font in _installed() if missing else ():
        if not font.name.startswith("Last Resort") and (  # that has boxes alone
            found := missing & _letters(font.fname)
        ):
            names.append(font.name)
            missing -= found
    return names, "".join(map(chr, sorted(missing)))


def _installed() -> Iterator[FontEntry]:
    """The fonts that matplotlib knows, then those that were installed after it had looked."""
    known = [*fontManager.ttflist]
    yield from known
    paths = {font.fname for font in known}
    for path in sorted(set(findSystemFonts()) - paths):
        with contextlib.suppress(OSError, RuntimeError):  # a broken file
            fontManager.addfont(path)
            yield fontManager.ttflist[-1]


def _letters(font: str) -> set[int]:
    """What a font file can show; nothing if it is gone or broken."""
    with contextlib.suppress(OSError, RuntimeError):
        return set(FT2Font(font).get_charmap())
    return set()
