"""What of a study was changed after a verdict was known: each is a further chance of a false one.

Their rates stand in docs/statistics.md.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path

import msgspec

from coco1k_kd.files import NOT_JSON
from coco1k_kd.report.comparison import Change


class _Design(msgspec.Struct):
    look: int = 0
    stopped: str | None = None
    changed: list[Change] = []


class _Entry(msgspec.Struct):
    draws: list[int] = []
    seeds: list[int] = []


class _Named(msgspec.Struct):
    sha256: str = ""
    pattern: str | None = None


class Earlier(msgspec.Struct):
    """What a report says that an earlier command, or an earlier part of the study, has left."""

    design: _Design | None = None
    comparisons: list[_Entry] = []
    judged_by: _Named | None = None
    groups: _Named | None = None

    @property
    def units(self) -> int:
        """Draws where there were several, else seeds, of the comparison that has most."""
        return max((max(len(entry.draws), len(entry.seeds)) for entry in self.comparisons), default=0)

    @property
    def ended(self) -> bool:
        """Whether it is the last report of its study, and not just one from between two looks."""
        return bool(self.design and self.design.stopped)

    @property
    def judged(self) -> bool:
        """Whether it had a verdict: with several units, at a look or where the study ended before one."""
        return bool(self.design) and self.units > 1 and (self.design.look > 0 or self.ended)


def read_earlier(path: Path) -> Earlier | None:
    """What a comparison on disk says; None where there is none."""
    with contextlib.suppress(OSError, *NOT_JSON):
        return msgspec.json.decode(path.read_bytes(), type=Earlier)
    return None


def changed(earlier: Iterable[Earlier], judge: str, pattern: str | None) -> set[Change]:
    """What differs from earlier reports that had a verdict: the images that judge, by hash, and how they are grouped.

    What they had changed themselves stays changed.
    """
    found: set[Change] = set()
    for report in earlier:
        if report.design:
            found |= set(report.design.changed)
        if report.judged and report.judged_by:
            found |= {"judge"} if report.judged_by.sha256 != judge else set()
            found |= {"groups"} if (report.groups.pattern if report.groups else None) != pattern else set()
    return found


def more_hours(earlier: Earlier | None, arms: Iterable[Hashable], looks: Iterable[int]) -> set[Change]:
    """Whether a study goes on after hours that had run out between two of its `looks`, with a verdict.

    `arms`: one of each run that counts now.
    """
    if not earlier or not earlier.judged or earlier.design.stopped != "hours" or earlier.units in looks:
        return set()
    return {"hours"} if max(Counter(arms).values(), default=0) > earlier.units else set()
