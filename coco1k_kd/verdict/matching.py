"""COCO figures of saved predictions: computed once a file, in several processes where that is worth it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from coco1k_kd.errors import UserError
from coco1k_kd.verdict.coco import SIZES, Detections, Ranking, Truth, rankings, read_detections, read_truth
from coco1k_kd.verdict.precision import figures

_KEPT = 64  # files whose figures are remembered: 1 MB each for 450 images, 8 MB for 5,000
_WORTH_PROCESSES = 2**22  # bytes of predictions; with fewer, starting a process takes longer than the work
_MAX_PROCESSES = 8


@dataclass(frozen=True)
class Figures:
    """AP of one model by box size (A), IoU threshold (T) and class (C), and each image's (I) influence on it."""

    names: list[str]  # classes, in the order of their category ids
    ap: np.ndarray  # (A, T, C), NaN for a class without boxes
    influence: np.ndarray  # (A, C, I) on the mean over thresholds
    influence50: np.ndarray  # (C, I) on AP at the first threshold, of all sizes
    shown: np.ndarray  # (A, C, I) bool: the image shows a box of the class

    @property
    def images(self) -> int:
        return self.shown.shape[-1]


class Map(Protocol):
    """`map`, or the same in several processes."""

    def __call__(self, function: Any, /, *jobs: Iterable[Any]) -> Iterator[Any]: ...


_State = tuple[Any, ...]
_known: dict[_State, Figures] = {}  # by files and their states, oldest first
_metrics: dict[_State, dict[str, float | None]] = {}  # of all files


def coco_metrics(annotations: Path, predictions: Path) -> dict[str, float | None]:
    """COCOeval's AP, AP50, AP75 and AP by box size, as fractions; None (there -1) if there is no such box.

    Raises UserError if a file is missing, is not what it should be, or speaks of other images.
    """
    state = _key(annotations, predictions)
    if state not in _metrics:
        all_figures(annotations, [predictions])
    return _metrics[state]


def check_truth(annotations: Path) -> None:
    """UserError if there is nothing to judge by in these annotations; to be known before training, not after it."""
    truth = read_truth(annotations)
    if truth.crowd.all():
        raise UserError(f"{annotations}: the validation images hold no boxes: nothing to compare")


def all_figures(annotations: Path, predictions: Sequence[Path], each: Map = map) -> list[Figures]:
    """The figures of several files, by `each`. Kept while the files stay the same."""
    states = [_key(annotations, path) for path in predictions]
    missing = {state: state[:2] for state in states if state not in _known}
    made = dict(zip(missing, each(_of_file, *zip(*missing.values(), strict=True)), strict=True)) if missing else {}
    found = [_known.get(state) or made[state] for state in states]
    for state, of_file in made.items():
        _known[state], _metrics[state] = of_file, _summary(of_file)
    while len(_known) > _KEPT:
        del _known[next(iter(_known))]
    return found


def matched(annotations: Path, predictions: Path) -> tuple[Truth, Detections, list[Ranking]]:
    """Ground truth, detections, and the matches of one to the other by class."""
    truth = _truth(annotations, _state(annotations))
    found = read_detections(predictions, truth)
    return truth, found, rankings(truth, found)


def of_rankings(by_class: Sequence[Ranking], names: list[str]) -> Figures:
    """The figures of one model's matches."""
    each = [figures(ranking) for ranking in by_class]
    return Figures(
        names,
        np.stack([one.ap for one in each], axis=-1),
        np.stack([one.influence for one in each], axis=1).astype(np.float32),
        np.stack([one.influence50 for one in each]).astype(np.float32),
        np.stack([ranking.boxes > 0 for ranking in by_class], axis=1),
    )


@contextlib.contextmanager
def processes(predictions: Sequence[Path]) -> Iterator[Map]:
    """A `map` that uses all cores where that is worth the start of processes. They import no torch.

    For the main thread. An interrupt ends them at once. Raises UserError when one of them is killed.
    """
    size = sum(state[1] for path in predictions if (state := _state(path)))
    workers = min(os.cpu_count() or 1, _MAX_PROCESSES)
    if workers == 1 or size < _WORTH_PROCESSES:
        yield map
        return
    others = active_children()
    pool = ProcessPoolExecutor(workers, get_context("spawn"))  # not forked: the caller may have threads
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for the parent, which then leaves here
    for _ in range(workers):
        pool.submit(int)  # starts one
    signal.signal(signal.SIGINT, before)
    try:
        yield pool.map
    except BaseException as error:
        for process in active_children():
            if process not in others:
                process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a process of the comparison was killed; if nobody did it on purpose, memory ran out: give the same "
                "command with --resume when there is more"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _key(annotations: Path, predictions: Path) -> _State:
    return annotations, predictions, _state(annotations), _state(predictions)


def _state(path: Path) -> tuple[int, int] | None:
    """Changes when the file does."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns, path.stat().st_size
    return None


@lru_cache(maxsize=2)
def _truth(annotations: Path, _: tuple[int, int] | None) -> Truth:
    return read_truth(annotations)


def _of_file(annotations: Path, predictions: Path) -> Figures:
    truth, _, by_class = matched(annotations, predictions)
    return of_rankings(by_class, truth.names)


def _summary(of_file: Figures) -> dict[str, float | None]:
    """COCOeval's stats by their names."""
    cells = {"ap": of_file.ap[0], "ap50": of_file.ap[0, 0], "ap75": of_file.ap[0, 5]}
    cells |= {f"ap_{size}": of_file.ap[a] for a, size in enumerate(SIZES) if a}
    return {name: None if np.isnan(cell).all() else float(np.nanmean(cell)) for name, cell in cells.items()}
