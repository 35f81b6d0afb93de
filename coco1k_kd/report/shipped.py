"""Tables of what a user would ship: size and speed of the models, and the students as exported files."""

from __future__ import annotations

from coco1k_kd.names import BASELINE
from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.words import Told, Words, points


def shipped(comparison: Comparison, words: Words) -> list[Told]:
    """Title, head, rows and note of each table that has rows."""
    return [table for table in (_models(comparison, words), _exports(comparison, words)) if table[2]]


def _models(comparison: Comparison, words: Words) -> Told:
    rows = [
        [words.role(role, comparison), *(f"{x:.1f}" for x in (m.parameters / 1e6, m.gflops, m.ms_per_image))]
        for role, m in comparison.models.items()
    ]
    head = [words(f"h_{key}") for key in ("model", "parameters", "gflops", "ms")]
    return words("sizes_speeds"), head, rows, words("note_models", device=comparison.hardware.get("device", ""))


def _exports(comparison: Comparison, words: Words) -> Told:
    """The gain is over the baseline in the same format."""
    baseline = {row.format: row.ap for row in comparison.exports if row.arm == BASELINE}
    rows = [
        [
            *(row.arm, row.format, str(row.seed), f"{row.megabytes:.1f}", f"{row.ms_per_image:.1f}"),
            *(f"{100 * row.ap:.1f}", points(row.d_ap)),
            points(row.ap - baseline[row.format]) if row.arm != BASELINE and row.format in baseline else "",
        ]
        for row in comparison.exports
    ]
    keys = ("arm", "format", "seed", "megabytes", "ms", "ap_file", "export_change", "export_gain")
    head, images = [words(f"h_{key}") for key in keys], words.elsewhere(comparison) or words.val(comparison)
    return words("exports"), head, rows, words("note_exports", images=images)
