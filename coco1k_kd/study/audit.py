"""Did all arms do the same work? Without a clean audit there is no verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from coco1k_kd.errors import UserError
from coco1k_kd.report.checks import Audit
from coco1k_kd.runs.spec import Evaluation, Result
from coco1k_kd.study.arms import BASELINE, SAME_TIME, Key, run_label

# Where a run lies and whom it learns from is what may differ.
_OWN = frozenset(f"train_args.{key}" for key in ("model", "name", "project", "save_dir", "resume", "distill_model"))
# More epochs are the point of a baseline that is given the time that distillation took.
_LONGER = frozenset({"epochs", "images", "stream_hash", "optimizer_steps", "optimizer_steps_due", "train_args.epochs"})
_SEED = frozenset({"init_hash", "batch_hash", "stream_hash", "train_args.seed"})
_STEPS = "optimizer_steps"  # with half precision a run leaves out some steps, at other moments than another run
_FEW_STEPS, _STEP_SHARE = 5, 0.01
_DRAW = frozenset({"train_args.data", "files_sha256"})
# Other images and boxes are the point of learning from what the teacher has found.
_FED = frozenset({"batch_hash", "stream_hash"})


def audit(
    results: Mapping[Key, Result], train_images: int, val_images: int, reads: Mapping[Key, Mapping[str, Any]]
) -> Audit:
    """Compare the work of every run with that of the baseline of the same replicate, and the baselines with each other.

    Args:
        results: of each run.
        train_images: how many images the data set has to train on.
        val_images: and to validate on.
        reads: hashes of the study's files, that each run must say it has read.

    Returns:
        What was compared.

    Raises:
        UserError: names the runs, the field and both values.
    """
    works = {key: _flat(_work(result)) for key, result in results.items()}
    first = next(key for key in works if key[0] == BASELINE)
    expected = {"train_images": train_images, "val_images": val_images}
    for key, work in works.items():
        for field, value in expected.items():
            if work[field] != value:
                raise UserError(
                    f"no verdict: {run_label(*key)} saw {work[field]} {field.replace('_', ' ')}, the data set has "
                    f"{value} (are some unreadable? its train.log names them)"
                )
        check_read(run_label(*key), results[key], reads[key])
        _same(key, work, (BASELINE, key[1]), works, _excepted(key, works))
        if key[0] == BASELINE:
            _same(key, work, first, works, _SEED | (_DRAW if key[1][0] != first[1][0] else frozenset()))
    excepted = {key[0].name: sorted(fields) for key in works if (fields := _excepted(key, works))}
    return Audit(True, len(works), sorted({name.split(".")[0] for name in works[first]}), excepted)


def check_read(label: str, result: Result | Evaluation, expected: Mapping[str, Any]) -> None:
    """UserError if a result does not say that it has read what it should have."""
    for name, value in expected.items():
        if (found := getattr(result, name)) != value:
            raise UserError(
                f"no verdict: {label} has read other files than the study has: {name} is {_short(found)} against "
                f"{_short(value)}; move its folder away and give the same command with --resume"
            )


def _excepted(key: Key, works: Mapping[Key, Mapping[str, Any]]) -> frozenset[str]:
    """In what a run may differ from the baseline of its replicate: nothing, unless it has other images or more epochs.

    With more epochs in its first batches only where one of the two is too short for mosaics: Ultralytics leaves them
    out of the last `close_mosaic` epochs.
    """
    if key[0].taught:
        return _FED
    if key[0] != SAME_TIME:
        return frozenset()
    work, baseline = works[key], works.get((BASELINE, key[1]))
    close = work.get("train_args.close_mosaic") or 0
    begins_alike = baseline is None or (work["epochs"] <= close) == (baseline["epochs"] <= close)
    return _LONGER if begins_alike else _LONGER | {"batch_hash"}


def _same(
    key: Key,
    work: Mapping[str, Any],
    other_key: Key,
    works: Mapping[Key, Mapping[str, Any]],
    excepted: Iterable[str],
) -> None:
    other = works.get(other_key)
    if other is None:
        raise UserError(f"no verdict: {run_label(*key)} has no baseline of its seed to be compared with")
    ignored = _OWN | frozenset(excepted)
    differing = [
        name for name in sorted(work.keys() | other.keys()) if name not in ignored and _differ(name, work, other)
    ]
    if differing:
        differing.sort(key=lambda name: name.endswith("_hash"))  # what explains the others comes first
        name = differing[0]
        more = f", and {len(differing) - 1} more: {', '.join(differing[1:4])}" if len(differing) > 1 else ""
        raise UserError(
            f"no verdict: {run_label(*key)} and {run_label(*other_key)} did not do the same work: {name} is "
            f"{_short(work.get(name))} against {_short(other.get(name))}{more}"
        )


def _differ(name: str, work: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    missing = object()
    one, two = work.get(name, missing), other.get(name, missing)
    if name == _STEPS and missing not in (one, two):
        return abs(one - two) > max(_FEW_STEPS, _STEP_SHARE * two)
    return one != two


def _work(result: Result) -> dict[str, Any]:
    counted = ("epochs", "images", "effective_batch", "world_size")
    hashed = ("init_hash", "batch_hash", "stream_hash", "files_sha256")
    return {key: getattr(result, key) for key in (*counted, *hashed)} | result.work


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one level of dotted names, so that a difference has a name."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, list) and any(isinstance(entry, Mapping) for entry in item):
            item = dict(enumerate(item))
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}…"
