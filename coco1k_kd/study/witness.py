"""Ultralytics' own AP of the same checkpoints: a second witness, which would notice if ours were wrong."""

from __future__ import annotations

from collections.abc import Mapping

from coco1k_kd.report.checks import Witness
from coco1k_kd.report.comparison import Reference, Run
from coco1k_kd.study.arms import Key, run_label

# Twice the most that the two differed by in 160 draws of 24 to 200 images: they pair boxes and integrate otherwise,
# and Ultralytics knows no crowd regions (docs/lab/witness.md).
TOLERANCE = 0.03


def witness(runs: Mapping[Key, Run], references: Mapping[str, Reference]) -> Witness | None:
    """The largest difference between the two on the val images, in AP (fractions); None where nothing was measured."""
    pairs = {f"{run_label(*key)}, best epoch": (run.ap, run.ultralytics) for key, run in runs.items()}
    pairs |= {f"{run_label(*key)}, last epoch": (run.ap_last, run.ultralytics_last) for key, run in runs.items()}
    pairs |= {
        f"{role} {'fitted' if model.fitted else 'as given'}": (model.ap, model.ultralytics)
        for role, model in references.items()
    }
    differences = {of: own.map50_95 - ap for of, (ap, own) in pairs.items() if own and ap is not None}
    if not differences:
        return None
    of = max(differences, key=lambda name: abs(differences[name]))
    return Witness(abs(differences[of]) <= TOLERANCE, differences[of], of, TOLERANCE)
