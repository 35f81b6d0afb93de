"""COCO figures of saved predictions, and COCOeval's matches in a form that can be resampled."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco1k_kd.data.annotations import load_truth
from coco1k_kd.errors import UserError
from coco1k_kd.verdict.resampling import Ranking, rank

SIZES = ("all", "small", "medium", "large")  # in the order of COCOeval's areaRng
_METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # in the order of COCOeval's stats
_KEPT = 32  # files whose matches are remembered: 10 MB each for 450 images, 100 MB for 5,000
_WORTH_PROCESSES = 2**20  # bytes of predictions; with fewer, starting a process takes longer than the work
_MAX_PROCESSES = 8


@dataclass(frozen=True)
class Matches:
    """One model's detections matched to the ground truth by COCOeval, to be counted under any image weights."""

    images: int
    names: list[str]  # classes, in the order of their category ids
    rankings: dict[str, list[Ranking]]  # box size -> one ranking per class
    metrics: dict[str, float]  # COCOeval's own


class Map(Protocol):
    """`map`, or the same in several processes."""

    def __call__(self, function: Any, /, *jobs: Iterable[Any]) -> Iterator[Any]: ...


_State = tuple[Any, ...]
_matched: dict[_State, Matches] = {}  # by files and their states, oldest first
_metrics: dict[_State, dict[str, float]] = {}  # of all files


def coco_metrics(annotations: Path, predictions: Path) -> dict[str, float | None]:
    """pycocotools' COCOeval AP, AP50, AP75 and AP by box size, as fractions; None (there -1) if there is no such box.

    Raises UserError if a file is missing, is not what it should be, or speaks of other images.
    """
    state = _key(annotations, predictions)
    if state not in _metrics:
        match(annotations, predictions)
    return {name: None if value == -1 else value for name, value in _metrics[state].items()}


def check_truth(annotations: Path) -> None:
    """UserError if COCOeval cannot judge by these annotations; to be known before training, not after it."""
    if not any(ranking.boxes.any() for ranking in _matches(_evaluate(annotations, None)).rankings["all"]):
        raise UserError(f"{annotations}: the validation images hold no boxes: nothing to compare")


def match(annotations: Path, predictions: Path) -> Matches:
    """COCOeval's own matches, so that its crowd, ignore and box-size rules hold. Kept while the files stay the same."""
    (matches,) = match_all(annotations, [predictions])
    return matches


def match_all(annotations: Path, predictions: Sequence[Path], each: Map = map) -> list[Matches]:
    """`match` for several files, by `each`."""
    states = [_key(annotations, path) for path in predictions]
    missing = {state: state[:2] for state in states if state not in _matched}
    made = dict(zip(missing, each(_match, *zip(*missing.values(), strict=True)), strict=True)) if missing else {}
    found = [_matched.get(state) or made[state] for state in states]
    for state, matches in made.items():
        _matched[state], _metrics[state] = matches, matches.metrics
    while len(_matched) > _KEPT:
        del _matched[next(iter(_matched))]
    return found


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


def _match(annotations: Path, predictions: Path) -> Matches:
    return _matches(_evaluate(annotations, predictions))


def _matches(evaluation: COCOeval) -> Matches:
    images, classes = evaluation.params.imgIds, evaluation.params.catIds
    cells = iter(range(0, len(evaluation.evalImgs), len(images)))  # evalImgs is classes x sizes x images, flat
    by_class = [
        [_ranking(evaluation.evalImgs[cell : cell + len(images)]) for _, cell in zip(SIZES, cells, strict=False)]
        for _ in classes
    ]
    names = [category["name"] for category in evaluation.cocoGt.loadCats(classes)]
    rankings = {size: [c[i] for c in by_class] for i, size in enumerate(SIZES)}
    metrics = dict(zip(_METRICS, map(float, evaluation.stats), strict=False))
    return Matches(len(images), names, rankings, metrics)


def _ranking(per_image: Sequence[dict[str, Any] | None]) -> Ranking:
    """COCOeval's results of one class and box size, image by image, as one ranking."""
    thresholds = 10
    boxes = np.zeros(len(per_image))
    score, image, hit, counted = (
        [np.zeros(0)],
        [np.zeros(0, int)],
        [np.zeros((thresholds, 0), bool)],
        [np.zeros((thresholds, 0), bool)],
    )
    for position, result in enumerate(per_image):
        if result is None:
            continue
        boxes[position] = np.count_nonzero(result["gtIgnore"] == 0)
        score.append(np.array(result["dtScores"], dtype=float))
        image.append(np.full(len(result["dtScores"]), position))
        counted.append(~result["dtIgnore"])
        hit.append((result["dtMatches"] != 0) & counted[-1])
    return rank(*(np.concatenate(x, axis=-1) for x in (score, image, hit, counted)), boxes)


def _evaluate(annotations: Path, predictions: Path | None) -> COCOeval:
    """COCOeval, done but for its printing; without predictions, of a model that finds nothing."""
    truth, found = load_truth(annotations), _load(predictions) if predictions else []
    with contextlib.redirect_stdout(io.StringIO()):
        coco, detected = COCO(), COCO()
        coco.dataset = truth
        try:
            coco.createIndex()
            if found:
                detected = coco.loadRes(found)
            else:  # loadRes looks at the first detection; a model that finds nothing has an AP of 0
                detected.dataset = {k: truth[k] for k in ("images", "categories")} | {"annotations": []}
                detected.createIndex()
            evaluation = COCOeval(coco, detected, "bbox")
            evaluation.evaluate()
        except AssertionError:
            raise UserError(
                f"{predictions} holds detections on images that {annotations} does not have: evaluate on the same split"
            ) from None
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"{predictions} is not in COCO's results format ({type(error).__name__}: {error}): write it anew"
            ) from None
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _load(path: Path) -> list[Any]:
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): write it anew") from None
    if not isinstance(content, list):
        raise UserError(f"{path} holds no JSON list of detections: is it the right file?")
    return content
