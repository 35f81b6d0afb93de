"""A study's place on disk: `study_<stamp>.json`, begun, found again, added to, and locked."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from coco1k_kd.data.identity import check_unchanged
from coco1k_kd.errors import UserError
from coco1k_kd.files import lock, write_json
from coco1k_kd.study.arms import read_arm
from coco1k_kd.study.changed import read_earlier
from coco1k_kd.study.plan import Study

_GROWS = ("arms", "seeds", "draws", "controls")  # what a study may get more of
_OF_A_POOL = ("unlabelled", "unlabelled_sha256", "pool_truth", "pool_truth_sha256")
_OF_LABELS = {"teacher_imgsz", "class_map"}  # how a teacher labels
_DESIGN = ("auto", "looks")  # when it is judged
_HASH = "_sha256"  # ends the name of what identifies files
_TEACHERS = "teachers_sha256"  # of arms that have their own: as many as arms
_COMPUTES = "computes"  # packages by version, and the machine
_EXTENDS = "extends"  # the stamp of the study that this one adds to


def begin(study: Study) -> Study:
    """Put the study on disk under a stamp of its own."""
    while True:
        study = replace(study, stamp=time.strftime("%Y%m%d_%H%M%S"))
        try:
            study.project.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), _file(study).open("x"):  # of several processes one is the first
                write_json(study.listed, study.hashes)
                write_json(_file(study), study.record() | ({_EXTENDS: study.base.stamp} if study.base else {}))
                return study
        except OSError as error:
            raise UserError(f"cannot write to --project {study.project}: {error.strerror}") from None
        time.sleep(1)  # another study began in this second


def find(study: Study) -> Study | None:
    """The study on disk to go on with; None if there is none.

    That is the newest unfinished one of the same settings, else the newest finished one, which then is only reported
    or goes on where it has more hours; else `study` itself as an addition to the newest one that has fewer arms, seeds
    or draws, whose runs it takes over. Other settings are another study, and so is leaving out what was run: it could
    leave out what one does not like.

    UserError if a study has begun with other files, or if something else has computed it.
    """
    wanted = _plain(study.record())
    there = _records(study.project)
    newest = list(reversed(there.items()))
    alike = [path for path, found in newest if all(found[key] == wanted[key] for key in _DESIGN)]
    if same := [path for path in alike if _adds(there[path], wanted) and _adds(wanted, there[path])]:
        return _at(study, _stamp(next((path for path in same if not _ended(path)), same[0])), there)
    if smaller := [path for path, found in newest if _adds(wanted, found)]:
        return replace(study, base=_at(study, _stamp(smaller[0]), there))
    for path, record in newest:
        listed = path.with_name(f"files_{_stamp(path)}.json")
        identity = {key: value for key, value in wanted.items() if key.endswith(_HASH)}
        if listed.exists() and _adds(wanted, record | identity):
            check_unchanged(listed)
        if _adds(wanted, record | {_COMPUTES: wanted[_COMPUTES]}):
            before, now = record.get(_COMPUTES, {}), wanted[_COMPUTES]
            name = next(name for name in [*now, *before] if now.get(name) != before.get(name))
            raise UserError(
                f"{name} was {before.get(name)} when the study of {_stamp(path)} began, and is {now.get(name)}: go on "
                "with what there was, or begin a new study without --resume"
            )
    return None


@contextlib.contextmanager
def locked(study: Study) -> Iterator[None]:
    """Two processes must not do the same study; the lock goes with its process, however that ends."""
    with contextlib.ExitStack() as held:
        for part in (study, *study.history):
            if not lock(held.enter_context(_file(part).open())):
                raise UserError(f"another process is doing the study of {part.stamp} in {part.project}")
        yield


def check_disk(folder: Path, runs: int, parameters: int, val_images: int, fitted: int = 0) -> None:
    """UserError if the runs will not fit beside each other: checkpoints, predictions, and one snapshot at a time.

    `parameters` are the student's, `fitted` those of a teacher that is trained, too.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    need = runs * (8 * parameters + 70_000 * val_images) + 8 * fitted + 60 * max(parameters, fitted)
    free = shutil.disk_usage(there).free
    if free < need:
        raise UserError(
            f"{runs} runs need about {need / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free: make room, "
            "or give another --project"
        )


def _records(project: Path) -> dict[Path, dict[str, Any]]:
    """The records of the studies in a project, the oldest first. What cannot be read is named, and left out."""
    found = {}
    for path in sorted(project.glob("study_*.json")):
        try:
            record = json.loads(path.read_bytes())
            if not {*_GROWS, *_DESIGN, "teacher"} <= record.keys():
                raise ValueError("it is not a study's record")
            if record.get(_EXTENDS) and path.with_name(f"study_{record[_EXTENDS]}.json") not in found:
                raise ValueError(f"the study of {record[_EXTENDS]}, to which it adds, is not there")
            found[path] = record
        except (ValueError, AttributeError, OSError) as error:
            why = "it is empty" if not path.stat().st_size else " ".join(str(error).split())
            print(f"note: {path} is left out: {why}", file=sys.stderr, flush=True)
    return found


def _adds(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `one` is `other` with as many arms, seeds and draws or more."""
    teacher = other["teacher"] is None  # no arm of it needed one
    new = {key for key in _OF_A_POOL if other.get("unlabelled") is None}  # nor images without labels
    new |= {key for key in _OF_A_POOL if other.get("pool_truth") is None and key.startswith("pool_truth")}
    if not any(read_arm(name).taught for name in other["arms"]):
        new |= _OF_LABELS  # nor one that labels
    fixed = [key for key in {*one, *other} if key not in (*_GROWS, *_DESIGN, _EXTENDS, _TEACHERS)]
    return (
        all(one.get(key) == other.get(key) or (teacher and "teacher" in key) or key in new for key in fixed)
        and all(set(other[key]) <= set(one[key]) for key in ("arms", "seeds"))
        and all(other[key] <= one[key] for key in ("draws", "controls"))
        and other.get(_TEACHERS, {}).items() <= one.get(_TEACHERS, {}).items()
    )


def _at(study: Study, stamp: str, there: Mapping[Path, Mapping[str, Any]]) -> Study:
    """The study of another stamp, which differs in what grows."""
    record = there[study.project / f"study_{stamp}.json"]
    base = _at(study, record[_EXTENDS], there) if record.get(_EXTENDS) else None
    written = {key: record[key] for key in (*_GROWS, *_DESIGN)} | {"arms": [read_arm(name) for name in record["arms"]]}
    settings = replace(study.settings, **written)
    return replace(
        study, settings=settings, stamp=stamp, base=base, earlier=read_earlier(_comparison(study.project, stamp))
    )


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON has it."""
    return json.loads(json.dumps(record, default=str))


def _comparison(project: Path, stamp: str) -> Path:
    return project / f"comparison_{stamp}.json"


def _ended(path: Path) -> bool:
    """Whether the study of this record has its last report, and not just one from between two looks."""
    report = read_earlier(_comparison(path.parent, _stamp(path)))
    return bool(report and report.ended)


def _stamp(path: Path) -> str:
    return path.stem.removeprefix("study_")


def _file(study: Study) -> Path:
    return study.project / f"study_{study.stamp}.json"
