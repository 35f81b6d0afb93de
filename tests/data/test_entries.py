"""What Ultralytics reads is known here."""

from __future__ import annotations

from ultralytics.data.utils import IMG_FORMATS

from coco1k_kd.data.entries import SUFFIXES


def test_what_ultralytics_reads_is_known_here() -> None:
    assert SUFFIXES == IMG_FORMATS
