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
from coco1k_kd.data.identity import CACHE, digest, files_of_split, hashes
from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import Reference
from coco1k_kd.runs.initial import WEIGHTS
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import EvaluateSpec, Evaluation, checkpoints, finished
from coco1k_kd.study.arms import Key, run_label
from coco1k_kd.study.judge import WrittenJudge
from coco1k_kd.study.plan import Study
from coco1k_kd.verdict.matching import coco_metrics

_GIVEN = "given"  # names the predictions of a model as it is given


class Evaluator:
    """Evaluates checkpoints in the study's slots; the same one on the same data once."""

    def __init__(self, study: Study, slots: Slots, judge: WrittenJudge | None) -> None:
        self.study, self.slots, self.judge = study, slots, judge
        self._versions = [version("ultralytics"), version("torch")]

    def references(self) -> dict[str, Reference]:
        """Student and teacher on the study's val images; a student that trains on as it is also on the judge's."""
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
                begun[role] = self._begin_given(role, weights.path, split, study.val_args())
        judged = None
        if "student" in begun and self.judge and study.settings.start == WEIGHTS:
            # val images that chose the epoch flatter what was trained, and a fresh head has not begun as this student
            judged = self._begin_given("student", study.student.path, self.judge.split, self.judge_args())
        for role, (folder, future) in begun.items():
            result = future.result() if future else finished(folder, Evaluation)
            predictions = folder / f"predictions_{_GIVEN}.json"
            figures = {"ultralytics": result.ultralytics[_GIVEN], "predictions": str(predictions)}
            rows[role] |= coco_metrics(split.annotations, predictions) | figures
        if judged:
            folder, future = judged
            if future:
                future.result()
            file = folder / f"predictions_{_GIVEN}.json"
            rows["student"] |= {
                "judged": str(file),
                "ap_judge": coco_metrics(self.judge.split.annotations, file)["ap"],
            }
        return msgspec.convert(rows, dict[str, Reference])

    def of_run(self, key: Key) -> EvaluateSpec | None:
        """How the run's best and last checkpoint are evaluated on the judge's images."""
        if not self.judge:
            return None
        return self._spec(
            self._judged_folder(key), checkpoints(self.study.folder(*key)), self.judge.split, self.judge_args()
        )

    def judged(self, keys: Iterable[Key]) -> None:
        """Evaluate what is missing of these runs: a run does it by itself, for the judge that its study then had."""
        specs = {key: spec for key in keys if (spec := self.of_run(key))}
        for future in [self._begin(spec, self.split, run_label(*key)) for key, spec in specs.items()]:
            if future:
                future.result()

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

    def judge_args(self) -> dict[str, Any]:
        """How Ultralytics evaluates on the images that judge."""
        return self.study.val_args() | ({"data": str(self.judge.yaml)} if self.judge else {})

    def _judged_folder(self, key: Key) -> Path:
        return self.study.folder(*key) / f"judged_{self.judge_name}"

    @cached_property
    def judge_name(self) -> str:
        """Names the judge in folders. Once: it hashes what may be all of val2017, and all predictions ask."""
        return self._name(self.judge.split, self.judge_args()) if self.judge else ""

    def _name(self, split: Split, args: Mapping[str, Any], *what: str) -> str:
        """A name for an evaluation: the same evaluation has the same."""
        images = digest(hashes(files_of_split(split), self.study.project / CACHE))
        content = [sha256(split.annotations), images, *what, dict(args), self._versions]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _spec(self, folder: Path, weights: Mapping[str, str], split: Split, args: Mapping[str, Any]) -> EvaluateSpec:
        return EvaluateSpec(
            folder=str(folder),
            weights=dict(weights),
            annotations=str(split.annotations),
            images=str(split.images),
            val_args=dict(args),
        )

    def _begin_given(
        self, role: str, weights: str, split: Split, args: Mapping[str, Any]
    ) -> tuple[Path, Future[Evaluation] | None]:
        """Start the evaluation of a model as it is given, if it is not there yet; its folder comes with it."""
        folder = self.study.project / "references" / self._name(split, args, sha256(Path(weights)))
        return folder, self._begin(self._spec(folder, {_GIVEN: weights}, split, args), split, f"{role} as given")

    def _begin(self, spec: EvaluateSpec, split: Split, label: str) -> Future[Evaluation] | None:
        """Start an evaluation that is not there yet."""
        if finished(Path(spec.folder), Evaluation):
            return None
        print(f"evaluating on {split.size:,} images: {label}", flush=True)
        return self.slots.submit(spec, label)
