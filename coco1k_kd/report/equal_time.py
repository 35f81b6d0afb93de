"""The table of what arms gain over a baseline that trained as long as they did."""

from __future__ import annotations

from coco1k_kd.names import SAME_TIME
from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.words import Told, Words, minutes, points


def equal_time(comparison: Comparison, words: Words) -> list[Told]:
    """Title, head, rows and note; nothing where no baseline was given an arm's time.

    A comparison that was written before times were noted has no such table.
    """
    rows = [
        [
            *(entry.arm, *minutes(entry.times).values(), points(entry.d_ap.mean)),
            words.interval(*entry.d_ap.interval),
            words("none_more_time" if entry.reason == "more_time" else entry.verdict),
        ]
        for entry in comparison.comparisons
        if entry.times
    ]
    rows += [[arm, *minutes(times).values(), "", "", words("none_slower")] for arm, times in comparison.slower.items()]
    head = [words(f"h_{key}") for key in ("arm", "minutes_run", "minutes_same", "dap", "level_ci", "verdict")]
    return [(words("equal_time"), head, rows, words("note_equal_time", baseline=SAME_TIME))] if rows else []
