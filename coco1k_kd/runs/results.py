"""Results of runs on disk, which count only while they are what their run wrote."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, state
from coco1k_kd.runs.spec import RESULT, SPEC, Outcome, Result, Spec, TrainSpec, read, read_spec, write

S = TypeVar("S", bound=Outcome)


def write_result(folder: Path, result: Outcome) -> None:
    """Write a result beside the predictions that it belongs to, and seal both."""
    predictions = {file.name: sha256(file) for file in sorted(folder.glob("predictions*.json"))}
    result = structs.replace(result, predictions_sha256=predictions)
    write(folder / RESULT, structs.replace(result, sha256=_seal(result)))


def finished(folder: Path, kind: type[S] = Result) -> S | None:
    """The result of a run that has ended well, else None. UserError if it or its predictions were changed since."""
    path = folder / RESULT
    if not path.exists():
        return None
    result = read(path, kind)
    if not result.sha256:
        raise UserError(f"{path} was not written by this version; remove its folder")
    wrong = [path] if result.sha256 != _seal(result) else []
    for name, found in result.predictions_sha256.items():
        wrong += [file] if _hash(file := folder / name) != found else []
    if wrong:
        what = "has been changed" if wrong[0].exists() else "is gone"
        raise UserError(
            f"{wrong[0]} {what} since its run wrote it: put it back, or move {folder} away and give the same command "
            "with --resume"
        )
    return result


def finished_as(spec: Spec, kind: type[S] = Result) -> S | None:
    """The same of the run that `spec` asks for. UserError if its folder holds another run, finished or not."""
    folder = Path(spec.folder)
    result = finished(folder, kind)
    if (folder / SPEC).exists():
        asked, done = (_what(part) for part in (spec, read_spec(folder)))
        if differing := [name for name in sorted(asked | done) if asked.get(name) != done.get(name)]:
            name = differing[0]
            raise UserError(
                f"{folder} holds another run: its {name} is {done.get(name)}, and not {asked.get(name)}; "
                "move that folder away"
            )
    return result


def _seal(result: Outcome) -> str:
    """SHA-256 of what a result says, however its file is laid out."""
    written = msgspec.json.encode(structs.replace(result, sha256=""))
    as_read = msgspec.json.encode(msgspec.json.decode(written, type=type(result)), order="deterministic")
    return hashlib.sha256(as_read).hexdigest()


def _hash(path: Path) -> str:
    try:
        known = state(path)
    except OSError:
        return ""
    return _hash_of(path, *known)


@lru_cache(maxsize=4096)
def _hash_of(path: Path, *_: int) -> str:
    """Once a process while the file stays the same: a study asks again and again what is finished."""
    return sha256(path)


def _what(spec: Spec) -> dict[str, Any]:
    """What a run is, apart from where its files lie and which machine does it: its project may have moved."""
    if not isinstance(spec, TrainSpec):
        return {"kind": "evaluation"}
    arguments = {key: value for key, value in spec.train_args.items() if key not in ("data", "device")}
    settings = {key: value for key, value in spec.distillation_settings.items() if key != "loss_file"}
    if lesson := settings.get("lesson"):
        settings["lesson"] = Path(lesson).name  # which has the hash of what is in it
    names = ("arm", "draw", "seed", "start", "freeze_bn", "random_teacher", "distillation")
    what = arguments | settings | {name: getattr(spec, name) for name in names}
    return msgspec.json.decode(msgspec.json.encode(what))  # as a spec that was read has it
