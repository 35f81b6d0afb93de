"""The columns of the main table, whose rows are student and teacher as given and every arm.

A column is added here, and nowhere else: its row, with an English heading for languages that have none of it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from coco1k_kd.report.comparison import Comparison, Reference, Run
from coco1k_kd.report.words import Words


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: its heading is the text `h_<key>` of the language.
        figure: an AP fraction of a model as given, or of one run; None where there is none. Arms have their mean.
        english: the heading where the language has no such text.
        shown: whether a report has the column.
    """

    key: str
    figure: Callable[[Reference | Run], float | None]
    english: str = ""
    shown: Callable[[Comparison, Words], bool] = lambda comparison, words: True

    def head(self, words: Words) -> str:
        """The heading."""
        return words.text(f"h_{self.key}", self.english)


def _of_run(name: str) -> Callable[[Reference | Run], float | None]:
    """A figure that a model as given does not have."""
    return lambda model: getattr(model, name, None)


def _own(model: Reference | Run) -> float | None:
    return model.ultralytics.map50_95 if model.ultralytics else None


COLUMNS = (
    Column("ap_judge", attrgetter("ap_judge"), shown=lambda comparison, words: bool(words.elsewhere(comparison))),
    Column("ap_best", attrgetter("ap")),
    Column("ap50_best", attrgetter("ap50")),
    Column("ap_last", _of_run("ap_last")),
    Column("ultralytics", _own),
)
