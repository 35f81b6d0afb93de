"""Checkpoints evaluated as they stand: student and teacher as given, and every run's on the judge's images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from coco1k_kd.data.dataset import Split
from coco1k_kd.data.identity import digest, files_of_split, hashes
from coco1k_kd.distill.weights import Weights
from coco1k_kd.files import write_json
from coco1k_kd.report.comparison import Reference
from coco1k_kd.runs.code import code_hash, versions
from coco1k_kd.runs.initial import WEIGHTS
from coco1k_kd.runs.results import finished
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import EPOCHS, EvaluateSpec, Evaluation, Result, checkpoints
from coco1k_kd.study.arms import Key, run_label
from coco1k_kd.study.audit import check_read
from coco1k_kd.study.judge import Judge
from coco1k_kd.study.plan import Fitted, Study
from coco1k_kd.verdict.matching import coco_metrics

Begun = tuple[EvaluateSpec, Future[Evaluation] | None]  # none: it was there
_GIVEN = "given"  # names the predictions of a model as it is given
_BEST = EPOCHS[0]


class Evaluator:
    """Evaluates checkpoints in the study's slots; the same one on the same data once."""

    def __init__(self, study: Study, slots: Slots, judge: Judge | None) -> None:
        self.study, self.slots, self.judge = study, slots, judge
        self._program = [versions(), code_hash()]

    def references(self) -> Callable[[], dict[str, Reference]]:
        """Student and teacher on the study's val images; a student that trains on as it is also on the judge's.

        So is a teacher that was fitted, which stands in place of the one that was given. The evaluations are begun;
        the function that is returned waits for them.
        """
        study, split = self.study, self.study.data.val
        rows: dict[str, dict[str, Any]] = {}
        begun: dict[str, Begun] = {}
        known: dict[str, tuple[int, ...]] = {}  # the classes that a model knows, where it does not know all
        for role, weights in study.given().items():
            if (weights.path, 0) in study.fitted:
                rows[role] = {}  # its run has evaluated it
                continue
            row = rows[role] = {"weights": weights.path, "sha256": weights.sha256, "ap": None, "ap50": None}
            if weights.scratch:
                row["note"] = "from scratch: before training there is nothing to measure"
            elif weights.task != "detect":
                row["note"] = f"made for the task {weights.task}: no AP of its boxes"
            elif not (shared := _shared(study.data.classes, weights.classes)):
                own, wanted = len(weights.classes), len(study.data.classes)
                row["note"] = f"none of its {own} classes is one of the data's {wanted} by name: no AP on them"
            else:
                if len(shared) < len(study.data.classes):
                    known[role] = shared
                begun[role] = self._begin_given(role, weights, split, study.val_args())
        judged = None
        trains_on = study.student.classes == study.data.classes and study.settings.start == WEIGHTS
        if trains_on and "student" in begun and self.judge:
            # val images that chose the epoch flatter what was trained, and a fresh head has not begun as this student
            judged = self._begin_given("student", study.student, self.judge.split, self.judge_args())

        def ended() -> dict[str, Reference]:
            for role, weights in study.given().items():
                if fitted := study.fitted.get((weights.path, 0)):
                    rows[role] = self._fitted(weights, fitted)
            for role, (spec, future) in begun.items():
                result = self._ended(spec, future, f"{role} as given")
                predictions = Path(spec.folder) / f"predictions_{_GIVEN}.json"
                rows[role] |= coco_metrics(split.annotations, predictions, known.get(role))
                rows[role] |= {"predictions": str(predictions)}
                if role in known:  # Ultralytics' own figure is over all classes
                    rows[role]["classes"] = [study.data.classes[number] for number in known[role]]
                else:
                    rows[role]["ultralytics"] = result.ultralytics[_GIVEN]
            if judged:
                self._ended(*judged, "student as given")
                file = Path(judged[0].folder) / f"predictions_{_GIVEN}.json"
                rows["student"] |= {"judged": str(file), "ap_judge": coco_metrics(self.truth, file)["ap"]}
            return msgspec.convert(rows, dict[str, Reference])

        return ended

    def _fitted(self, given: Weights, teacher: Fitted) -> dict[str, Any]:
        """A fitted teacher, whose own run has evaluated it, for the judge that its study then had."""
        study, folder = self.study, teacher.folder
        seconds = sum(of.result.train_seconds for (path, _), of in study.fitted.items() if path == given.path)
        if spec := self.of_teacher(folder):
            label = "the fitted teacher"
            weights = {_BEST: teacher.weights.sha256}
            self._ended(*self._begin(spec, self.split, label), label, weights_sha256=weights)
            folder = Path(spec.folder)
        own, judged = teacher.folder / f"predictions_{_BEST}.json", folder / f"predictions_{_BEST}.json"
        return {
            "weights": teacher.weights.path,
            "sha256": teacher.weights.sha256,
            **coco_metrics(study.data.val.annotations, own),
            "ap_judge": coco_metrics(self.truth, judged)["ap"],
            "ultralytics": teacher.result.ultralytics,
            "predictions": str(own),
            "judged": str(judged),
            "fitted": {"epochs": teacher.result.epochs, "seconds": seconds, "from": given.path},
        }

    def of_run(self, key: Key) -> EvaluateSpec | None:
        """How the run's best and last checkpoint are evaluated on the judge's images."""
        if not self.judge:
            return None
        folder = self.study.folder(*key)
        return self._of_judge(folder, checkpoints(folder))

    def of_teacher(self, folder: Path) -> EvaluateSpec | None:
        """The same of a teacher that is fitted in `folder`, whose last checkpoint nobody asks for."""
        return self._of_judge(folder, {_BEST: checkpoints(folder)[_BEST]}) if self.judge else None

    def evaluate(self, results: Mapping[Key, Result]) -> None:
        """Evaluate what is missing of these runs: a run does it by itself, for the judge that its study then had.

        UserError if an evaluation that is there is not of the run's checkpoints.
        """
        begun = {key: self._begin(spec, self.split, run_label(*key)) for key in results if (spec := self.of_run(key))}
        for key, evaluation in begun.items():
            self._ended(*evaluation, run_label(*key), weights_sha256=results[key].weights_sha256)

    def predictions(self, key: Key, epoch: str) -> Path:
        """The run's detections on the images that judge it."""
        if not self.judge:
            return self.study.predictions(key, epoch)
        return self._judged_folder(self.study.folder(*key)) / f"predictions_{epoch}.json"

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

    def _judged_folder(self, run: Path) -> Path:
        return run / f"judged_{self.judge_name}"

    @property
    def judge_name(self) -> str:
        """Names the judge in folders; "" where the subset's val images judge."""
        return self._named_judge[0] if self.judge else ""

    @cached_property
    def _named_judge(self) -> tuple[str, Path]:
        """Once: it looks at what may be all of val2017, and every file of predictions asks."""
        return self._named(self.judge.split, self.judge_args())

    def _named(self, split: Split, args: Mapping[str, Any], *weights: str) -> tuple[str, Path]:
        """A name for an evaluation, the same for the same one, and the list of what it reads, which is written."""
        project = self.study.project
        images, models = hashes(files_of_split(split, project), project), hashes(map(Path, weights), project)
        listed = project / f"files_{digest(images | models)[:16]}.json"
        if not listed.exists():
            write_json(listed, {"images": images, "models": models})
        content = [listed.name, dict(args), self._program]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16], listed

    def _spec(
        self, folder: Path, listed: Path, weights: Mapping[str, str], split: Split, args: Mapping[str, Any]
    ) -> EvaluateSpec:
        return EvaluateSpec(
            folder=str(folder),
            listed=str(listed),
            weights=dict(weights),
            annotations=str(split.annotations),
            images=str(split.images),
            val_args=dict(args),
        )

    def _of_judge(self, run: Path, weights: Mapping[str, str]) -> EvaluateSpec:
        listed = self._named_judge[1]
        return self._spec(self._judged_folder(run), listed, weights, self.judge.split, self.judge_args())

    def _begin_given(self, role: str, model: Weights, split: Split, args: Mapping[str, Any]) -> Begun:
        """Start the evaluation of a model as it is given, if it is not there yet."""
        name, listed = self._named(split, args, model.path)
        spec = self._spec(self.study.project / "references" / name, listed, {_GIVEN: model.path}, split, args)
        spec = structs.replace(spec, by_name=model.classes != self.study.data.classes)
        return self._begin(spec, split, f"{role} as given")

    def _begin(self, spec: EvaluateSpec, split: Split, label: str) -> Begun:
        """Start an evaluation that is not there yet."""
        if finished(Path(spec.folder), Evaluation):
            return spec, None
        print(f"evaluating on {split.size:,} images: {label}", flush=True)
        return spec, self.slots.submit(spec, label)

    def _ended(self, spec: EvaluateSpec, future: Future[Evaluation] | None, label: str, **more: Any) -> Evaluation:
        """The evaluation. UserError if it has read other files than its list, or others than `more` says."""
        found = future.result() if future else finished(Path(spec.folder), Evaluation)
        images = digest(json.loads(Path(spec.listed).read_bytes())["images"])
        check_read(f"the evaluation of {label}", found, {"files_sha256": images, **more})
        return found


def _shared(classes: Sequence[str], of_model: Sequence[str]) -> tuple[int, ...]:
    """The numbers of those of `classes` that a model knows by name."""
    from coco1k_kd.distill.response import shared_classes  # here, since torch takes seconds to import

    return tuple(ours for ours, _ in shared_classes(dict(enumerate(classes)), dict(enumerate(of_model))))
