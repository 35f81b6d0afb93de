"""What a user would ship: size and speed of the models, and the best student of each arm as an exported file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from coco1k_kd.distill.weights import load_model
from coco1k_kd.report.comparison import Arm, Export, Model
from coco1k_kd.runs.launch import RunFailed
from coco1k_kd.runs.results import finished
from coco1k_kd.runs.spec import PREDICTIONS, Exported, ExportSpec, checkpoints
from coco1k_kd.study.arms import Key, run_label
from coco1k_kd.study.plan import Study
from coco1k_kd.study.references import Evaluator
from coco1k_kd.verdict.matching import coco_metrics


def models(study: Study) -> dict[str, Model]:
    """Size and speed of the student as given and of the teachers that it learns from, on this machine."""
    import torch

    from coco1k_kd.runs import speed  # here, since Ultralytics takes seconds to import

    imgsz, device = study.settings.imgsz, study.val_args()["device"] or ""
    if device.isdecimal() and not torch.cuda.is_available():
        device = "cpu"  # the GPUs are those of other nodes
    found = {}
    for role, weights in study.given().items():
        model = load_model(study.as_met(weights).path, role)
        found[role] = Model(
            parameters=speed.parameters(model),
            gflops=speed.gflops(model, imgsz),
            ms_per_image=speed.milliseconds(model.eval(), imgsz, device),
        )
    return found


def exports(study: Study, evaluator: Evaluator, arms: Mapping[str, Arm]) -> tuple[list[Export], list[str]]:
    """Export the best run of each arm, by its AP on the val images, to every format that is asked for.

    One at a time, so that their times are those of an idle machine. What is there from before is kept.

    Returns:
        The exports, and the labels of those that failed, each with its reason on the console.
    """
    made, failed = [], []
    for arm in (arm for arm in study.arms if arm.name in arms):  # without controls, which nobody ships
        run = max(arms[arm.name].runs, key=lambda run: run.ap)
        key = (arm, (run.draw, run.seed))
        for format in study.settings.export:
            label = f"{run_label(*key)} as {format}"
            spec = _spec(study, evaluator, key, format)
            folder = Path(spec.folder)
            try:
                result = finished(folder, Exported) or _begin(evaluator, spec, label)
            except RunFailed as failure:
                print(f"error: {failure}", file=sys.stderr, flush=True)
                failed.append(label)
                continue
            ap = coco_metrics(evaluator.truth, folder / PREDICTIONS)["ap"]
            made.append(
                Export(
                    arm=arm.name,
                    draw=run.draw,
                    seed=run.seed,
                    format=format,
                    file=str(folder / result.file),
                    megabytes=result.megabytes,
                    ms_per_image=result.ms_per_image,
                    ap=ap,
                    d_ap=ap - (run.ap if run.ap_judge is None else run.ap_judge),
                )
            )
    return made, failed


def _begin(evaluator: Evaluator, spec: ExportSpec, label: str) -> Exported:
    print(f"exporting: {label}", flush=True)
    return evaluator.slots.submit(spec, label).result()


def _spec(study: Study, evaluator: Evaluator, key: Key, format: str) -> ExportSpec:
    """An export lies in the folder of its run, once for each judge."""
    name = "_".join(["export", *format.split(":"), evaluator.judge_name or "val"])
    return ExportSpec(
        folder=str(study.folder(*key) / name),
        weights=checkpoints(study.folder(*key))["best"],
        format=format,
        calibration=str(study.drawn[key[1][0]].yaml),
        annotations=str(evaluator.split.annotations),
        images=str(evaluator.split.images),
        val_args=evaluator.judge_args(),
    )
