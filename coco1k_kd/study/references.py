"""Checkpoints evaluated as they stand: student and teacher as given, and every run's on the judge's images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from coco1k_kd.data.dataset import Split
from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import Reference
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import EvaluateSpec, Evaluation, finished
from coco1k_kd.study.arms import Key, run_label
from coco1k_kd.study.judge import WrittenJudge
from coco1k_kd.study.plan import EPOCHS, Study
from coco1k_kd.verdict.matching import coco_metrics

_GIVEN = "given"  # names the predictions of a model as it is given


class Evaluator:
    """Evaluates checkpoints in the study's slots; the same one on the same data once."""

    def __init__(self, study: Study, slots: Slots, judge: WrittenJudge | None) -> None:
        self.study, self.slots, self.judge = study, slots, judge
        self._versions = [version("ultralytics"), version("torch")]

    def references(self) -> dict[str, Reference]:
        """Student and teacher on the study's val images."""
        study, split = self.study, self.study.data.val
        rows: dict[str, dict[str, Any]] = {}
        begun: dict[str, tuple[Path, Future[Evaluation] | None]] = {}
        for role, weights in (("student", study.student), ("teacher", study.teacher)):
            if weights is None:
                continue
            row = rows[role] = {"weights": weights.path, "sha256": weights.sha256, "ap": None, "ap50": None}
            if weights.scratch:
                row["note"] = "from scratch: before training there is nothing to measure"
            elif weights.task != "detect":
                row["note"] = f"made for the task {weights.task}: no AP of its boxes"
            elif weights.classes != study.data.classes:
                own, wanted = len(weights.classes), len(study.data.classes)
                row["note"] = f"its {own} classes are not the data's {wanted}: no AP on them"
            else:
                args = study.val_args()
                folder = study.project / "references" / self._name(split, args, sha256(Path(weights.path)))
                begun[role] = folder, self._begin(folder, {_GIVEN: weights.path}, split, args, f"{role} as given")
        for role, (folder, future) in begun.items():
            result = future.result() if future else finished(folder, Evaluation)
            predictions = folder / f"predictions_{_GIVEN}.json"
            figures = {"ultralytics": result.ultralytics[_GIVEN], "predictions": str(predictions)}
            rows[role] |= coco_metrics(split.annotations, predictions) | figures
        return msgspec.convert(rows, dict[str, Reference])

    def judged(self, keys: Iterable[Key]) -> float:
        """Have the judge's images detected by the best and last checkpoint of every run; seconds that a run took."""
        if not self.judge:
            return 0.0
        begun: dict[Key, Future[Evaluation]] = {}
        for key in keys:
            weights = {epoch: str(self.study.folder(*key) / "weights" / f"{epoch}.pt") for epoch in EPOCHS}
            args = weights, self.judge.split, self._judge_args(), run_label(*key)
            if future := self._begin(self._judged_folder(key), *args):
                begun[key] = future
        for future in begun.values():
            future.result()
        seconds = [finished(self._judged_folder(key), Evaluation).seconds for key in keys]
        return sum(seconds) / len(seconds) if seconds else 0.0

    def predictions(self, key: Key, epoch: str) -> Path:
        """The run's detections on the images that judge it."""
        if not self.judge:
            return self.study.predictions(key, epoch)
        return self._judged_folder(key) / f"predictions_{epoch}.json"

    @property
    def split(self) -> Split:
        """The images and annotations that judge."""
        return self.judge.split if self.judge else self.study.data.val

    @property
    def truth(self) -> Path:
        """The annotations that judge."""
        return self.split.annotations

    def _judge_args(self) -> dict[str, Any]:
        return self.study.val_args() | ({"data": str(self.judge.yaml)} if self.judge else {})

    def _judged_folder(self, key: Key) -> Path:
        return self.study.folder(*key) / f"judged_{self._judge_name}"

    @cached_property
    def _judge_name(self) -> str:
        """Once: it hashes annotations that may be those of all of val2017, and every file of predictions asks."""
        return self._name(self.judge.split, self._judge_args()) if self.judge else ""

    def _name(self, split: Split, args: Mapping[str, Any], *what: str) -> str:
        """A name for an evaluation: the same evaluation has the same."""
        content = [sha256(split.annotations), *what, dict(args), self._versions]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _begin(
        self, folder: Path, weights: Mapping[str, str], split: Split, args: Mapping[str, Any], label: str
    ) -> Future[Evaluation] | None:
        """Start an evaluation that is not there yet."""
        if finished(folder, Evaluation):
            return None
        print(f"evaluating on {split.size:,} images: {label}", flush=True)
        spec = EvaluateSpec(
            folder=str(folder),
            weights=dict(weights),
            annotations=str(split.annotations),
            images=str(split.images),
            val_args=dict(args),
        )
        return self.slots.submit(spec, label)
