"""One run of a study in a process of its own: `python -m coco1k_kd.runs.train SPEC.json`.

A run is a function of its spec and of the files it names. It ends with `result.json` in the run folder, or with an exit
code and, where the reason is known, `failure.json`; a defect leaves its traceback at the end of the log. Its own
process gives it a clean random state, a memory figure of its own, and nobody to harm when it dies.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import ultralytics
from msgspec import structs
from torch import nn
from ultralytics.utils import RANK

from coco1k_kd.data.identity import check_unchanged, digest, listed_as
from coco1k_kd.errors import EXIT_BAD_INPUT, DistillationError, RunError, UserError, leave
from coco1k_kd.files import atomic, leftovers, sha256, write_json
from coco1k_kd.runs.code import code_hash, versions
from coco1k_kd.runs.devices import read_devices
from coco1k_kd.runs.export import export
from coco1k_kd.runs.initial import FROZEN, WEIGHTS, frozen_layers, keep_statistics, partial_start
from coco1k_kd.runs.launch import FAILURE, LOCK, LOG, TIED
from coco1k_kd.runs.predict import predict_each
from coco1k_kd.runs.ranks import run_ranks
from coco1k_kd.runs.record import Recorder
from coco1k_kd.runs.results import write_result
from coco1k_kd.runs.snapshot import SNAPSHOT, load_snapshot, read_snapshot
from coco1k_kd.runs.spec import (
    SPEC,
    EvaluateSpec,
    Evaluation,
    ExportSpec,
    LookSpec,
    Result,
    Trained,
    TrainSpec,
    checkpoints,
    read,
    read_spec,
    write,
)
from coco1k_kd.runs.taught import look_as

_START = "start.pt"
_PLACEBO = "placebo.pt"
_TRAINED = "trained.json"  # what rank 0 hands to the process that started the ranks
_KEPT = (SPEC, LOG, LOCK, _PLACEBO)
# As GPU and CPU allocators say it.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "cublas_status_alloc_failed")


def train(spec: TrainSpec) -> Result:
    """Train one arm with one seed, then write the predictions of its best and last checkpoint."""
    folder, args = Path(spec.folder), spec.train_args
    devices = read_devices(args["device"] or "")
    code, identity = code_hash(), what_it_reads(spec)
    if spec.judge and spec.judge.listed:
        check_unchanged(Path(spec.judge.listed))  # now, and not after hours
    if spec.code and code != spec.code:
        raise UserError("the package's code has changed since the study began: begin a new study without --resume")
    _prepare(spec, folder)
    if spec.random_teacher and not (folder / _PLACEBO).exists():
        images = [Path(path) for path in spec.placebo_images]
        random_teacher(spec.teacher, images, args["imgsz"], spec.seed, folder / _PLACEBO)
    trained = fit(spec) if len(devices) == 1 else _fit_on_ranks(folder, len(devices))
    settings = {key: args[key] for key in ("data", "imgsz", "batch", "workers")} | {"device": devices[0] or None}
    own = predict_each(checkpoints(folder), Path(spec.annotations), Path(spec.images), folder, **settings)
    if spec.judge:  # in this process, since to start another one takes longer than to judge some hundred images
        judged = evaluate(structs.replace(spec.judge, launched=time.monotonic()))
        write_result(Path(spec.judge.folder), judged)
    (folder / "weights" / SNAPSHOT).unlink(missing_ok=True)
    return Result(
        **structs.asdict(trained.figures),
        seconds=trained.figures.earlier_seconds + time.monotonic() - spec.launched,
        ultralytics=own["best"],
        ultralytics_last=own["last"],
        work={**trained.work, "versions": versions(), "code": code, "freeze_bn": spec.freeze_bn},
        weights_sha256=_hashes(checkpoints(folder)),
        **identity,
    )


def what_it_reads(spec: TrainSpec) -> dict[str, Any]:
    """The hashes of data, teacher and loss file. UserError names the first file that has changed in the meantime."""
    if not spec.listed:
        return {}
    now, loss_file = check_unchanged(Path(spec.listed)), spec.distillation_settings.get("loss_file")
    return {
        "files_sha256": digest(now[f"draw {spec.draw}"]),
        "teacher_sha256": now["models"][listed_as(spec.teacher, Path(spec.listed).parent)] if spec.teacher else None,
        "loss_file_sha256": digest(now["loss file"]) if loss_file else None,
    }


def fit(spec: TrainSpec) -> Trained:
    """Train to the end, from the snapshot where there is one; on several GPUs every rank does."""
    folder, args = Path(spec.folder), spec.train_args
    if spec.start == FROZEN:
        args = {"freeze": frozen_layers(spec.student), **args}
    snapshot = read_snapshot(folder)
    fresh = spec.student if spec.start == WEIGHTS else folder / _START
    model, extra = _model(spec, folder / "weights" / "last.pt" if snapshot else fresh)
    recorder = Recorder(folder, args["batch"], spec.seed, snapshot)
    recorder.figures.at_once = max(recorder.figures.at_once, spec.at_once)
    recorder.attach(model)
    if spec.freeze_bn:
        model.add_callback("on_train_batch_start", keep_statistics)
    if snapshot:
        print(f"continuing after epoch {snapshot['epoch'] + 1} of {args['epochs']}", flush=True)
        extra |= {"resume": True}
    model.train(**args, save_dir=str(folder), **extra)
    return Trained(recorder.figures, recorder.work)


def evaluate(spec: EvaluateSpec) -> Evaluation:
    """Write predictions_<name>.json for each of `spec.weights`, checkpoints by name."""
    folder = Path(spec.folder)
    files = digest(check_unchanged(Path(spec.listed))["images"]) if spec.listed else ""
    folder.mkdir(exist_ok=True)
    weights = _hashes(spec.weights)
    places = Path(spec.annotations), Path(spec.images), folder
    own = predict_each(spec.weights, *places, by_name=spec.by_name, **spec.val_args)
    return Evaluation(
        ultralytics=own,
        seconds=time.monotonic() - spec.launched,
        versions=versions(),
        code=code_hash(),
        files_sha256=files,
        weights_sha256=weights,
    )


def random_teacher(weights: str, images: list[Path], imgsz: int, seed: int, output: Path) -> None:
    """Write a checkpoint of the architecture of `weights` with random weights: a teacher that knows nothing.

    Its batch-norm statistics come from `images` (any few of the train images), since those of a fresh network let the
    activations fade to nothing, and a placebo must look like a teacher. Written once for a run, since another machine
    on which it goes on may round them otherwise.
    """
    import cv2

    torch.manual_seed(seed)
    teacher = ultralytics.YOLO(weights)
    teacher.model = model = ultralytics.nn.tasks.DetectionModel(teacher.model.yaml, verbose=False)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    pixels = [cv2.resize(cv2.imread(str(path))[..., ::-1], (imgsz, imgsz)) for path in images]
    batch = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in pixels]).float() / 255
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the calls
    model.train()
    with torch.no_grad():
        for part in batch.split(4):
            model.predict(part)
    for norm in norms:
        norm.momentum = 0.03
    with atomic(output) as file:
        teacher.save(file)


def _model(spec: TrainSpec, weights: Path | str) -> tuple[Any, dict[str, Any]]:
    """The object to train, and the arguments that its arm adds to `train`."""
    if spec.distillation is None:
        return ultralytics.YOLO(str(weights)), {}
    if spec.distillation == "ultralytics":
        return ultralytics.YOLO(str(weights)), {"distill_model": spec.teacher}
    from coco1k_kd.distill.yolo import YOLO

    return YOLO(str(weights)), {
        "teacher": str(Path(spec.folder) / _PLACEBO) if spec.random_teacher else spec.teacher,
        "distillation_loss": spec.distillation,
        **{f"distillation_{name}": value for name, value in spec.distillation_settings.items()},
    }


def _prepare(spec: TrainSpec, folder: Path) -> None:
    """Make the run folder what the training begins with: the state of its snapshot, or nothing but its start."""
    for path in [*leftovers(folder), *leftovers(folder / "weights")]:  # a snapshot's has 95 MB and more
        path.unlink(missing_ok=True)
    try:
        if load_snapshot(folder):
            return
    except Exception as error:  # torn by a failing disk: the run starts again, which costs time and nothing else
        print(f"the snapshot in {folder} cannot be read ({error}); the run starts again", flush=True)
    for path in folder.iterdir():  # what an earlier attempt left; Ultralytics would append to its results.csv
        if path.name not in _KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if spec.start != WEIGHTS:
        partial_start(spec.student, spec.start, spec.seed, folder / _START)


def _fit_on_ranks(folder: Path, number: int) -> Trained:
    """`fit` in a process for each device."""
    code = run_ranks(number, [sys.executable, "-m", "coco1k_kd.runs.train", str(folder / SPEC), TIED])
    if code < 0 and not (folder / FAILURE).exists():
        os.kill(os.getpid(), -code)  # as the rank was: a study tells runs that were killed from those that failed
    if code:
        sys.exit(1)
    trained = read(folder / _TRAINED, Trained)
    (folder / _TRAINED).unlink()
    return trained


def _hashes(weights: Mapping[str, str]) -> dict[str, str]:
    return {name: sha256(Path(path)) for name, path in weights.items()}


def _end_with_parent() -> None:
    """End the run, its ranks and data loaders, when the process that started this one is gone, however it went.

    That process, the study or the run of a rank, holds the other end of our standard input: it closes when the process
    exits, crashes or is killed.
    """

    def wait() -> None:
        os.read(0, 1)  # not sys.stdin: its lock would be held when the interpreter ends
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    folder = Path(sys.argv[1]).parent
    if TIED in sys.argv[2:]:
        _end_with_parent()
    spec = read_spec(folder)
    kinds = {TrainSpec: train, EvaluateSpec: evaluate, ExportSpec: export, LookSpec: look_as}
    work = fit if RANK > -1 else kinds[type(spec)]
    try:
        result = work(spec)
    except DistillationError as error:
        return _fail(folder, "run", str(error))
    except UserError as error:
        return _fail(folder, "input", str(error))
    except Exception as error:
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            fewer = " or fewer runs at a time with --parallel" if spec.at_once > 1 else ""
            error = RunError(f"out of memory; take a smaller --batch or --imgsz{fewer}")
        if isinstance(error, RunError):
            return _fail(folder, "run", str(error))
        if RANK > -1:  # the log ends with what the other ranks say of the one that they miss
            _fail(folder, "run", f"rank {RANK}: {type(error).__name__}: {' '.join(str(error).split())}")
        raise
    if RANK > -1:
        dist.destroy_process_group()  # left to the interpreter's end, gloo may abort there: pytorch/pytorch#179291
    if RANK < 1:
        write(folder / _TRAINED, result) if RANK == 0 else write_result(folder, result)
    return 0


def _fail(folder: Path, kind: str, message: str) -> int:
    """Say why the run failed, unless another rank has said so, whose end is then the reason for ours."""
    if not (folder / FAILURE).exists():
        write_json(folder / FAILURE, {"kind": kind, "message": message})
    return EXIT_BAD_INPUT if kind == "input" else 1


if __name__ == "__main__":
    leave(main())
