"""The report's files: of each language its own, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparisons import STAMP, comparison

from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.write import write_report


def test_another_language_is_written_beside_the_studys_own(study: Comparison, tmp_path: Path) -> None:
    own, other = write_report(study, tmp_path, STAMP), write_report(study, tmp_path, STAMP, "ko")
    assert own[0] == other[0] and not set(own[1:]) & set(other[1:]), "one JSON, and files of both languages"
    assert {path.name for path in other[1:]} >= {f"report_{STAMP}.ko.html", f"comparison_{STAMP}.ko.md"}
    study.language = "ko"
    assert write_report(study, tmp_path, STAMP) == own and '<html lang="ko"' in own[-1].read_text()


@pytest.mark.parametrize("part", ["markdown", "draw", "page"])
def test_what_cannot_be_made_leaves_no_file(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(part)

    monkeypatch.setattr(f"coco1k_kd.report.write.{part}", broken)
    with pytest.raises(RuntimeError, match=part):
        write_report(comparison(), tmp_path, STAMP)
    assert not list(tmp_path.iterdir())
