"""What only the saved predictions show: the images that differ most, kinds of error, precision-recall, calibration.

Where predictions, annotations or images are gone, what needs them is left out, and a sentence says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.examples import MOST, MOST_FALSE, Box, Example, Examples
from coco1k_kd.report.words import Words, overlap_of
from coco1k_kd.verdict.coco import Detections, Ranking, Truth
from coco1k_kd.verdict.compare import influence
from coco1k_kd.verdict.curves import Calibration, PrecisionRecall, calibration, precision_recall
from coco1k_kd.verdict.entry import Entry, ImageInfluence, Replicate
from coco1k_kd.verdict.errors_by_kind import KindOfError, errors_by_kind
from coco1k_kd.verdict.matching import matched

IOUS = (0.5, 0.75)  # of the precision-recall curves
_ARMS = 6  # arms that have curves; more would hide each other
_SHOWN = 6  # images at either end


@dataclass(frozen=True)
class Evidence:
    """Figures that need predictions. What could not be had is left out, with a sentence each."""

    left_out: Sequence[str] = ()
    against: str = ""  # the arm that errors are compared with
    errors: Mapping[str, Mapping[str, KindOfError]] = field(default_factory=dict)  # arm -> kind
    precision_recall: Mapping[str, Mapping[str, PrecisionRecall]] = field(default_factory=dict)  # IoU -> arm -> curve
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    examples: Examples | None = None


def gather(comparison: Comparison, words: Words) -> Evidence:
    """The evidence of a comparison, from the predictions that its runs have left."""
    judged = comparison.judged_by
    files = {
        name: {(run.draw, run.seed): Path(run.predictions) for run in arm.runs if run.predictions}
        for name, arm in comparison.arms.items()
    }
    if not judged or not all(files.values()):
        return Evidence([words("no_predictions")])
    annotations, paths = Path(judged.annotations), [path for by_run in files.values() for path in by_run.values()]
    if gone := next((path for path in paths if not path.is_file()), None):
        return Evidence([words("missing_predictions", path=gone)])
    if not annotations.is_file():
        return Evidence([words("missing_annotations", path=annotations)])
    if sha256(annotations) != judged.sha256:
        return Evidence([words("changed_annotations", path=annotations)])
    try:
        return _gathered(comparison, words, files, annotations, Path(judged.images))
    except UserError as error:
        return Evidence([words("unreadable", reason=error)])


def _gathered(
    comparison: Comparison,
    words: Words,
    files: Mapping[str, Mapping[Replicate, Path]],
    annotations: Path,
    images: Path,
) -> Evidence:
    arms = list(files)[:_ARMS]
    pattern = comparison.groups.pattern if comparison.groups else None
    curves: dict[str, dict[str, PrecisionRecall]] = {f"{iou:g}": {} for iou in IOUS}
    calibrated = {}
    for arm in arms:  # arm by arm, since the matches of a few files are remembered
        paths = list(files[arm].values())
        for iou in IOUS:
            curves[f"{iou:g}"][arm] = precision_recall(annotations, paths, iou, pattern=pattern)
        calibrated[arm] = calibration(annotations, paths)
    examples, left_out, against = None, [], ""
    if comparison.comparisons:
        entry = comparison.comparisons[0]
        examples, against = _examples(entry, words, files, annotations, images), entry.against
        shown = [*examples.won, *examples.lost]
        if not shown:  # both arms find the same on every image
            examples = None
        elif gone := next((e.path for e in shown if not e.path.is_file()), None):
            examples, left_out = None, [words("missing_images", path=gone)]
    compared = [e for e in comparison.comparisons if e.against == against and e.arm in arms]
    errors = {}
    for e in compared:
        level = e.level * e.family / len(compared)  # of the look, shared by all that is shown here
        both = _common(files, e.arm, against)
        errors[e.arm] = errors_by_kind(annotations, *both, pattern, overlap_of(e), level)
    return Evidence(left_out, against, errors, curves, calibrated, examples)


def _common(files: Mapping[str, Mapping[Replicate, Path]], *arms: str) -> list[dict[Replicate, Path]]:
    """The files of each arm whose draw and seed the others have, too."""
    shared = set.intersection(*(set(files[arm]) for arm in arms))
    return [{key: path for key, path in files[arm].items() if key in shared} for arm in arms]


def _examples(
    entry: Entry,
    words: Words,
    files: Mapping[str, Mapping[Replicate, Path]],
    annotations: Path,
    images: Path,
) -> Examples:
    """The images with the largest influence on the difference, averaged over runs."""
    arm, against = entry.arm, entry.against
    ours, theirs = _common(files, arm, against)
    shares = influence(annotations, ours, theirs)
    won = [one for one in shares[:_SHOWN] if one.d_ap > 0]
    lost = [one for one in shares[: -_SHOWN - 1 : -1] if one.d_ap < 0]
    seen = {(run.draw, run.seed): run.d_ap for run in entry.per_run}
    typical = min(ours, key=lambda key: abs(seen.get(key, np.inf) - entry.d_ap.mean))
    found, thresholds = {}, {}
    truth: Truth
    for name in (against, arm):
        truth, detections, rankings = matched(annotations, files[name][typical])
        thresholds[name] = best_threshold(rankings)
        found[name] = detections[detections.score >= thresholds[name]]
    told = words(
        "pictures_text",
        number=len(won) + len(lost),
        pair=words.pair(entry),
        thresholds=", ".join(f"{name} {value:.2f}" for name, value in thresholds.items()),
        seed=typical[1],
        most=MOST,
        most_false=MOST_FALSE,
    )

    def example(one: ImageInfluence) -> Example:
        i = int(np.searchsorted(truth.image_ids, one.image_id))
        boxes = {arm: _boxes(of_arm, truth, of_arm.image == i) for arm, of_arm in found.items()}
        return Example(one.file, one.d_ap, images / one.file, _truth_boxes(truth, i), boxes)

    return Examples(arm, told, [example(one) for one in won], [example(one) for one in lost])


def best_threshold(rankings: Sequence[Ranking]) -> float:
    """The score from which up F1 of all classes together at IoU 0.5 is highest; 0 without a right box."""
    score, hit, counted = (
        np.concatenate(parts)
        for parts in zip(*((of.score, of.hit[0, 0], of.counted[0, 0]) for of in rankings), strict=True)
    )
    order = np.argsort(-score, kind="stable")
    hits, found = np.cumsum(hit[order]), np.cumsum(counted[order])
    f1 = 2 * hits / np.maximum(found + sum(int(of.boxes[0].sum()) for of in rankings), 1)
    return float(score[order][np.argmax(f1)]) if len(f1) and f1.max() > 0 else 0.0


def _boxes(detections: Detections, truth: Truth, chosen: np.ndarray) -> list[Box]:
    kept = detections[chosen]
    parts = zip(kept.category.tolist(), kept.box.tolist(), kept.score.tolist(), strict=True)
    return [Box(truth.names[category], tuple(box), score) for category, box, score in parts]


def _truth_boxes(truth: Truth, image: int) -> list[Box]:
    chosen = np.flatnonzero(truth.image == image).tolist()
    return [
        Box(truth.names[truth.category[i]], tuple(truth.box[i].tolist()), 1.0, bool(truth.crowd[i])) for i in chosen
    ]
