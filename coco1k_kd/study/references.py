"""Checkpoints evaluated as they stand: student and teacher as given, and every run's best on all of val2017."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from coco1k_kd.data.dataset import full_val_yaml
from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import Reference
from coco1k_kd.runs.launch import finished
from coco1k_kd.runs.slots import Slots
from coco1k_kd.study.arms import WEIGHT0, Key, run_label
from coco1k_kd.study.plan import Study
from coco1k_kd.verdict.matching import coco_metrics


class Evaluator:
    """Evaluates checkpoints in the study's slots; the same one on the same data once per project."""

    def __init__(self, study: Study, slots: Slots) -> None:
        self.study, self.slots = study, slots
        self._begun: dict[Path, Future[dict[str, Any]]] = {}

    def references(self) -> dict[str, Reference]:
        """Student and teacher on the study's val images, and on all of val2017 where that is asked for."""
        rows: dict[str, dict[str, Any]] = {}
        figures: list[tuple[dict[str, Any], Callable[[], dict[str, Any]]]] = []
        for role, weights in (("student", self.study.student), ("teacher", self.study.teacher)):
            if weights is None:
                continue
            row: dict[str, Any] = {"weights": weights.path, "sha256": weights.sha256, "ap": None, "ap50": None}
            rows[role] = row
            if weights.scratch:
                row["note"] = "from scratch: before training there is nothing to measure"
            elif weights.task != "detect":
                row["note"] = f"made for the task {weights.task}: no AP of its boxes"
            elif weights.classes != self.study.data.classes:
                own, wanted = len(weights.classes), len(self.study.data.classes)
                row["note"] = f"its {own} classes are not the data's {wanted}: no AP on them"
            else:
                figures.append((row, self._begin(weights.path, f"{role} as given")))
                if self.study.full_val:
                    row["full_val"] = {}
                    figures.append((row["full_val"], self._begin(weights.path, f"{role} as given", full=True)))
        for row, figure in figures:
            row |= figure()
        return msgspec.convert(rows, dict[str, Reference])

    def full_val(self, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
        """COCO figures of the runs' best checkpoints on the 5,000 images; empty where they are not asked for."""
        if not self.study.full_val:
            return {}
        figures = {
            key: self._begin(str(self.study.folder(*key) / "weights" / "best.pt"), run_label(*key), full=True)
            for key in keys
            if key[0] != WEIGHT0
        }
        return {key: figure() for key, figure in figures.items()}

    def _begin(self, weights: str, label: str, full: bool = False) -> Callable[[], dict[str, Any]]:
        """Start an evaluation; the function that is returned waits for its figures."""
        study, split, args = self.study, self.study.data.val, self.study.val_args()
        images = split.images
        if full and study.full_val:
            split, label = study.full_val, f"{label}, all of val2017"
            path = full_val_yaml(split, study.data.classes, study.project)
            args["data"], images = str(path), path.parent / "images" / "val2017"
        what = [sha256(Path(weights)), sha256(split.annotations), args, version("ultralytics"), version("torch")]
        folder = study.project / "references" / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        if folder not in self._begun and not finished(folder):
            print(f"evaluating on {split.size} images: {label}", flush=True)
            spec = {"kind": "evaluate", "folder": str(folder), "weights": weights, "val_args": args}
            spec |= {"annotations": str(split.annotations), "images": str(images)}
            self._begun[folder] = self.slots.submit(spec, label)

        def figures() -> dict[str, Any]:
            result = self._begun[folder].result() if folder in self._begun else finished(folder) or {}
            predictions = folder / "predictions.json"
            own = None if full else result["ultralytics"]  # there are no YOLO labels for the 5,000 images
            return {**coco_metrics(split.annotations, predictions), "ultralytics": own, "predictions": str(predictions)}

        return figures
