"""A teacher that is fitted to the study's train images before it teaches: `--fit-teacher`.

It is a plain training by Ultralytics of the teacher as given. Val chooses its epoch; images that judge are not read.
Its folder is named after what it is made of (weights, data and settings), so that all studies of a project share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from coco1k_kd.data.dataset import Data
from coco1k_kd.data.identity import digest
from coco1k_kd.distill.weights import Weights, read_weights
from coco1k_kd.errors import UserError
from coco1k_kd.files import sha256, write_json
from coco1k_kd.names import STUDENT, TEACHER
from coco1k_kd.runs.board import Board
from coco1k_kd.runs.code import code_hash
from coco1k_kd.runs.initial import WEIGHTS
from coco1k_kd.runs.results import finished
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import UNTAUGHT, EvaluateSpec, Result, TrainSpec, checkpoints
from coco1k_kd.study.hyperparameters import FIT_AUTO, read_train_args, resolve_optimizer
from coco1k_kd.study.plan import Fitted, Study
from coco1k_kd.verdict.matching import coco_metrics

AUTO_EPOCHS = 100  # with auto: at most so many,
AUTO_PATIENCE = 10  # and no more after so many without a better one on val
_SEED = 0  # a second study, with other seeds, shall have the same teacher
_OF_THE_MACHINE = ("amp", "cache")  # of --train, which otherwise speaks of the student
_SAME_TEACHER = ("data", "device", "workers", "cache", "plots", "exist_ok")  # settings that change nothing in it
_POLL_SECONDS = 0.5


def fit(
    study: Study,
    slots: Slots,
    judge: Callable[[Path], EvaluateSpec | None],
    beside: Mapping[str, TrainSpec],
) -> Study:
    """The study with the teachers that its students learn from: fitted now, or found where they were fitted before.

    Args:
        study: begun and locked; each of its draws has a teacher of its own.
        slots: where the training goes.
        judge: how the best checkpoint of a run folder is evaluated on the images that judge.
        beside: runs by label that learn from no teacher, begun one after the other in slots that would be idle.

    Raises:
        RunFailed, UserError: as of any run.
    """
    teachers = [weights for role, weights in study.given().items() if role != STUDENT]
    asked = [(given, draw) for given in teachers for draw in range(len(study.drawn))]
    specs = {(given.path, draw): _spec(study, given, draw, judge) for given, draw in asked}
    left = [spec for spec in specs.values() if not finished(Path(spec.folder))]
    if left:
        print(f"fitting to the train images: {', '.join(weights.path for weights in teachers)}", flush=True)
        _train(left, beside, slots)
    fitted = {}
    for key, spec in specs.items():
        folder, result = Path(spec.folder), finished(Path(spec.folder))
        when = "" if spec in left else ", fitted before"
        print(f"{spec.arm}: {_line(study, folder, result)}{when}: {folder}", flush=True)
        fitted[key] = Fitted(folder, _best(folder, result), result)
    study = replace(study, fitted=fitted)
    write_json(study.listed, study.hashes)  # students must find it as it is now
    return study


def _best(folder: Path, result: Result) -> Weights:
    """The checkpoint of the epoch that val chose. UserError if it is not the one that its run has written."""
    path = checkpoints(folder)["best"]
    if not Path(path).is_file() or sha256(Path(path)) != result.weights_sha256["best"]:
        raise UserError(
            f"{path} is not what its run wrote: put it back, or move {folder} away and give the same command"
        )
    return read_weights(path, "teacher")


def _train(specs: list[TrainSpec], beside: Mapping[str, TrainSpec], slots: Slots) -> None:
    """Run all of `specs`, and of `beside` those that find a slot before that is done; with a table of how far they are.

    One of `beside` ends no later than a first distilled run would, and that is finished whatever hours a study has.
    """
    fitted, further = {Path(spec.folder).name: spec for spec in specs}, list(beside)
    runs = fitted | beside
    at_once = min(slots.number, len(runs))
    with Board(0, len(runs), sum(spec.train_args["epochs"] for spec in runs.values())) as board:
        under_way: dict[Future[Result], str] = {}

        def begin(label: str) -> None:
            board.add(label, Path(runs[label].folder), runs[label].train_args["epochs"])
            under_way[slots.submit(structs.replace(runs[label], at_once=at_once), label)] = label

        for label in fitted:
            begin(label)
        while under_way:
            while further and len(under_way) < slots.number and fitted.keys() & under_way.values():
                begin(further.pop(0))
            for future in wait(under_way, _POLL_SECONDS).done:
                label = under_way.pop(future)
                future.result()
                board.remove(label, "fitted" if label in fitted else "trained")
            board.refresh()


def _line(study: Study, folder: Path, result: Result) -> str:
    best = coco_metrics(study.data.val.annotations, folder / "predictions_best.json")
    figures = f"AP {100 * best['ap']:.1f}, AP50 {100 * best['ap50']:.1f} on val"
    return f"{figures}, {result.epochs} epochs, {result.train_seconds / 60:.1f} min of training"


def _spec(study: Study, given: Weights, draw: int, judge: Callable[[Path], EvaluateSpec | None]) -> TrainSpec:
    arguments = _arguments(study, study.drawn[draw])
    folder = study.project / f"{TEACHER}_{Path(given.path).stem}_{_identity(study, given, draw, arguments)}"
    return TrainSpec(
        arm=TEACHER,
        draw=draw,
        seed=_SEED,
        folder=str(folder),
        listed=str(study.listed),
        code=code_hash(),
        student=given.path,
        start=WEIGHTS,
        freeze_bn=False,
        **UNTAUGHT,
        annotations=str(study.data.val.annotations),
        images=str(study.data.val.images),
        train_args=arguments,
        judge=judge(folder),
    )


def _arguments(study: Study, data: Data) -> dict[str, Any]:
    """Ultralytics' own settings, at the study's image size and batch."""
    s = study.settings
    epochs, patience = (AUTO_EPOCHS, AUTO_PATIENCE) if s.fit_teacher == FIT_AUTO else (s.fit_teacher, 0)
    chosen = resolve_optimizer(data.train.size, s.batch, epochs, len(data.classes))
    chosen |= {key: value for key, value in read_train_args(s.train).items() if key in _OF_THE_MACHINE}
    return study.train_args(data, epochs, _SEED, chosen, patience)


def _identity(study: Study, given: Weights, draw: int, arguments: dict[str, Any]) -> str:
    """What the fitted teacher is made of, in 12 hex digits."""
    settings = {key: value for key, value in arguments.items() if key not in _SAME_TEACHER}
    content = [given.sha256, study.data.classes, digest(study.hashes[f"draw {draw}"]), settings]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
