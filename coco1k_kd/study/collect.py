"""From finished runs to the one JSON object that the report is drawn from (docs/comparison.schema.json)."""

from __future__ import annotations

import csv
import math
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import msgspec
from msgspec import structs

from coco1k_kd import __version__
from coco1k_kd.data.groups import groups_of
from coco1k_kd.files import sha256
from coco1k_kd.names import STUDENT
from coco1k_kd.report.checks import Audit, Controls, Failure, Git, Placebo, Weight0
from coco1k_kd.report.comparison import Arm, Comparison, ImageGroups, Judged, Reference, Run
from coco1k_kd.runs.code import installed
from coco1k_kd.runs.devices import processor
from coco1k_kd.runs.spec import EPOCHS, Result, comparable_seconds
from coco1k_kd.study.arms import BASELINE, RANDOM, WEIGHT0, Key, Replicate
from coco1k_kd.study.lessons import labelling
from coco1k_kd.study.plan import Study
from coco1k_kd.study.references import Evaluator
from coco1k_kd.study.witness import witness
from coco1k_kd.verdict.entry import Entry, Times
from coco1k_kd.verdict.matching import coco_metrics, truth_of

Results = Mapping[Key, Result]
Runs = Mapping[Key, Run]
STATE_TOLERANCE = 1e-3  # relative, of half-precision checkpoints
AP_TOLERANCE = 0.003  # where the GPU's own sums differ from run to run
_SUMMARISED = ("ap", "ap50", "ap_last", "ap50_last", "train_seconds", "images_per_second", "peak_memory_bytes")
_PACKAGES = ("torch", "ultralytics", "pycocotools", "numpy")
_AP_COLUMN = "metrics/mAP50-95(B)"
_KD_MEASURES = ("kd/gradient_ratio", "kd/cosine")
_KD_COLUMNS = ("train/kd_loss", "train/dis_loss")  # ours, and that of Ultralytics' distill_model


def build(
    study: Study,
    results: Results,
    references: Mapping[str, Reference],
    entries: Sequence[Entry],
    audit: Audit,
    command: str,
    evaluator: Evaluator,
    failures: Mapping[Key, str],
    against_given: Sequence[Entry] = (),
    slower: Mapping[str, Times] | None = None,
) -> Comparison:
    """Compute the figures of every run from its saved predictions, and put all together.

    AP values are fractions; `overhead` is the extra training time per image, as a fraction of the baseline's, by
    `comparable_seconds`.
    """
    costs = dict(zip(results, comparable_seconds([*results.values()]), strict=True))
    runs = {key: _run(study, key, result, evaluator, costs[key]) for key, result in results.items()}
    arms = {arm.name: _arm([runs[key] for key in runs if key[0] == arm]) for arm, _ in results if arm != WEIGHT0}
    per_image = _seconds_per_image(results, costs)
    known = known_classes(study, references)
    for name, arm in arms.items():
        arm.overhead = per_image[name] / per_image[BASELINE.name] - 1
        arm.ap_known = ap_known(study, [key for key in runs if key[0].name == name], known)
    draws, judge = [data.record() for data in study.drawn], evaluator.split
    return Comparison(
        command=command,
        versions={"python": platform.python_version(), "coco1k_kd": __version__, **installed(_PACKAGES)},
        git=_git(),
        hardware=_hardware(results),
        dataset=study.data.record() | ({"draws": draws} if len(draws) > 1 else {}),
        settings=study.record(),
        at_once=max(run.at_once for run in runs.values()),
        arms=arms,
        references=dict(references),
        comparisons=list(entries),
        against_given=list(against_given),
        slower=dict(slower or {}),
        labelling=labelling(study),
        audit=structs.replace(audit, witness=witness(runs, references)),
        groups=_groups(evaluator),
        judged_by=Judged(str(judge.annotations), str(judge.images), sha256(judge.annotations)),
        controls=_controls(study, results, runs, entries),
        failures=[Failure(arm.name, *replicate, message) for (arm, replicate), message in failures.items()],
    )


def _groups(evaluator: Evaluator) -> ImageGroups | None:
    pattern = evaluator.study.settings.groups
    if not pattern:
        return None
    found = groups_of(pattern, truth_of(evaluator.truth).files)
    return ImageGroups(pattern, found.count, found.largest, found.alone)


def _seconds_per_image(results: Results, costs: Mapping[Key, float]) -> dict[str, float]:
    """What an image costs in the training of each arm."""
    seconds: dict[str, float] = defaultdict(float)
    images: dict[str, int] = defaultdict(int)
    for key, result in results.items():
        seconds[key[0].name] += costs[key]
        images[key[0].name] += result.images
    return {arm: seconds[arm] / images[arm] for arm in seconds}


def _run(study: Study, key: Key, result: Result, evaluator: Evaluator, cost: float) -> Run:
    (draw, seed), folder, truth = key[1], study.folder(*key), study.data.val.annotations
    best, last = (coco_metrics(truth, study.predictions(key, epoch)) for epoch in EPOCHS)
    judged = coco_metrics(evaluator.split.annotations, evaluator.predictions(key, "best")) if evaluator.judge else best
    entry = structs.asdict(result) | {  # of which a `Run` has what it names
        "draw": draw,
        "seed": seed,
        "dir": str(folder),
        **best,
        **{f"{name}_last": value for name, value in last.items()},
        "ap_judge": judged["ap"],
        "cost_seconds": cost,
        "images_per_second": result.images / result.train_seconds,
        "curves": _curves(folder / "results.csv"),
        "predictions": str(evaluator.predictions(key, "best")),
    }
    return msgspec.convert(entry, Run)


def _arm(runs: list[Run]) -> Arm:
    values = {name: [getattr(run, name) for run in runs] for name in _SUMMARISED}
    return Arm(
        runs,
        mean={name: fmean(column) for name, column in values.items()},
        std={name: stdev(column) if len(column) > 1 else None for name, column in values.items()},
    )


def known_classes(study: Study, references: Mapping[str, Reference]) -> tuple[int, ...]:
    """The numbers of the classes that the student as given knows, where it knows some of the data's alone."""
    student = references.get(STUDENT)
    return tuple(map(study.data.classes.index, student.classes)) if student else ()


def ap_known(study: Study, keys: Sequence[Key], known: tuple[int, ...]) -> float | None:
    """Mean AP of these classes on the val images, to stand beside the student as given."""
    truth = study.data.val.annotations
    aps = [coco_metrics(truth, study.predictions(key, EPOCHS[0]), known)["ap"] for key in keys] if known else []
    return fmean(aps) if aps and None not in aps else None


def _controls(study: Study, results: Results, runs: Runs, entries: Sequence[Entry]) -> Controls:
    first, found = study.replicates[0], Controls()
    if (WEIGHT0, first) in runs:
        found.weight0 = _weight0(study, runs, first, results[WEIGHT0, first].work["device"])
    for entry in entries:
        if (entry.arm, entry.against) == (RANDOM.name, BASELINE.name):
            found.random_teacher = Placebo(study.controlled.loss, entry.d_ap.mean, entry.verdict)
    return found


def _weight0(study: Study, runs: Runs, replicate: Replicate, device: str) -> Weight0:
    """Distilling with weight 0 must be the baseline: the distiller touches nothing else."""
    folders = (study.folder(arm, replicate) for arm in (WEIGHT0, BASELINE))
    difference = state_difference(*(folder / "weights" / "last.pt" for folder in folders))
    d_ap = runs[WEIGHT0, replicate].ap_last - runs[BASELINE, replicate].ap_last
    exact = difference <= STATE_TOLERANCE
    return Weight0(
        passed=exact or (device != "cpu" and abs(d_ap) <= AP_TOLERANCE),
        loss=study.controlled.loss,
        draw=replicate[0],
        seed=replicate[1],
        dir=runs[WEIGHT0, replicate].dir,
        state_difference=difference,
        state_tolerance=STATE_TOLERANCE,
        d_ap_last=d_ap,
        sentence=f"weights differ from the baseline's by {difference:.2g} (relative), AP by {100 * d_ap:.2f} points",
    )


def state_difference(one: Path, other: Path) -> float:
    """Largest |a - b| / (1 + |b|) over all values of two checkpoints' models."""
    import torch
    from ultralytics.nn.tasks import load_checkpoint

    first, second = (load_checkpoint(path)[0].float().state_dict() for path in (one, other))
    if first.keys() != second.keys():
        return math.inf
    with torch.no_grad():
        return max(float(((first[k] - second[k]).abs() / (1 + second[k].abs())).max()) for k in first)


def _curves(path: Path) -> dict[str, list[float | None]]:
    with path.open(newline="") as file:
        rows = [{key.strip(): value for key, value in row.items() if key} for row in csv.DictReader(file)]
    names = {_AP_COLUMN: "ap"} | dict.fromkeys(_KD_COLUMNS, "kd_loss")
    names |= {column: column.removeprefix("kd/") for column in rows[0] if column.startswith(_KD_MEASURES)}
    figures = {name: [float(row[column]) for row in rows] for column, name in names.items() if column in rows[0]}
    return {"epoch": [int(float(row["epoch"])) for row in rows], **figures}


def _git() -> Git | None:
    """Commit of this program, and whether its files were changed since; null where it is not under git."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None  # installed by pip, maybe into a folder of somebody else's repository

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return Git(git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.CalledProcessError):
        return None


def _hardware(results: Results) -> dict[str, str | int | None]:
    first = next(iter(results.values()))
    return {
        "device": first.work["device"],
        "devices_per_run": first.world_size,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
    }
