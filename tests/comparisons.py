"""Comparisons of made-up figures, as a study writes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import msgspec
from matplotlib.figure import Figure
from msgspec import structs

from coco1k_kd.report.checks import Audit
from coco1k_kd.report.comparison import Arm, Comparison, OwnFigures, Reference, Run
from coco1k_kd.report.plots import Plots
from coco1k_kd.report.words import Words
from coco1k_kd.verdict.entry import Entry, Last, RunDifference
from coco1k_kd.verdict.intervals import Estimate, corrected, needed, verdict

EN = Words()


STAMP = "20260101_000000"


SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "comparison.schema.json").read_text())


def valid(comparison):
    jsonschema.validate(msgspec.json.decode(msgspec.json.encode(comparison)), SCHEMA)
    return comparison


def run(draw, seed, ap, distilled):
    epochs = list(range(1, 11))
    curves = {"epoch": epochs, "ap": [ap * e / 10 for e in epochs]}
    return Run(
        draw=draw,
        seed=seed,
        dir=f"runs/{seed}",
        ap=ap,
        ap50=ap + 0.15,
        ap_last=ap - 0.002,
        ap50_last=ap + 0.148,
        ultralytics=OwnFigures(map50=ap + 0.16, map50_95=ap + 0.01),
        train_seconds=600.0 + seed,
        val_seconds=30.0,
        images_per_second=40.0,
        peak_memory_bytes=3 * 2**30,
        effective_batch=16,
        epochs=10,
        batch_hash="b",
        init_hash="i",
        curves=curves | ({"kd_loss": [3 / e for e in epochs]} if distilled else {}),
    )


def comparison(arms=("baseline", "cwd"), seeds=2, classes=12, gain=0.006, images=400, draws=1, last=None):
    """A comparison with made-up figures; every arm but the first is compared with the first."""
    replicates = [(draw, seed) for draw in range(draws) for seed in range(seeds)]
    repeated = len(replicates) > 1
    estimate = Estimate(gain, draws, seeds, images, 2e-6, 1e-6, 9e-6 if repeated else 0.0, 2e-6 if draws > 1 else 0.0)
    of_last = replace(estimate, mean=gain if last is None else last)
    names = [f"a class with quite a long name, number {i}" for i in range(classes)]
    parts = {n: Estimate((i - classes / 2) / 100, 1, seeds, 3 + i, 1e-4) for i, n in enumerate(names)}
    sizes = {n: Estimate(gain, 1, seeds, images, 1e-4) for n in ("small", "medium", "large")}
    (word, reason), (of_last_word, _) = verdict(estimate), verdict(of_last)
    difference, last = estimate.summary(), of_last.summary()
    entry = Entry(
        against=arms[0],
        draws=list(range(draws)),
        seeds=list(range(seeds)),
        images=images,
        replicates=2000,
        d_ap=difference,
        d_ap50=difference,
        per_run=[RunDifference(d, s, gain) for d, s in replicates],
        mde=estimate.mde(),
        verdict=word,
        reason=reason,
        needed=needed(estimate) if word == "inconclusive" else None,
        per_class=corrected(parts),
        per_size=corrected(sizes),
        last=Last(last, last, of_last.mde(), of_last_word),
    )
    return Comparison(
        command="test_coco1k_kd.py --epochs 10",
        versions={"python": "3.11.7", "ultralytics": "8.4.190"},
        git=None,
        hardware={"device": "cpu", "cores": 2},
        dataset={"manifest_sha256": "0" * 64, "train_images": 1500, "val_images": 400},
        arms={
            arm: Arm(
                runs=[run(d, s, 0.3 + gain * (i > 0) + 0.002 * s + 0.004 * d, i > 0) for d, s in replicates],
                mean={"ap": 0.3, "ap50": 0.45},
                std={"ap": None, "ap50": None},
            )
            for i, arm in enumerate(arms)
        },
        references={"student": Reference(ap=0.308, ap50=0.449), "teacher": Reference(ap=None, ap50=None)},
        comparisons=[structs.replace(entry, arm=arm) for arm in arms[1:]],
        audit=Audit(passed=True),
        controls=None,
    )


def change(content, **changes):
    """Another first entry in a comparison."""
    content.comparisons[0] = structs.replace(content.comparisons[0], **changes)


MANY = ("baseline", "cwd", "mgd", "ultralytics", "baseline_same_time", "random_teacher", "a_seventh", "an_eighth")


SEARCH = ("baseline", "cwd", *(f"cwd:weight={weight}:schedule=constant" for weight in range(10, 20)))


SHAPES = [
    {},
    {"seeds": 1},
    {"seeds": 1, "arms": ("baseline",)},
    {"arms": MANY, "seeds": 3, "classes": 80},
    {"classes": 1, "gain": 0.0, "images": 4},
    {"draws": 2, "last": 0.0},
    {"draws": 2, "seeds": 1},
    {"arms": SEARCH},
    {"arms": ("baseline", "cwd", "mgd", "baseline_same_time"), "seeds": 3},
]


def drawn(method, content, words=EN):
    """The axes of one plot."""
    axes = Figure().subplots()
    getattr(Plots(content, words), method)(axes)
    return axes


def an_entry(**changes: object) -> Entry:
    return structs.replace(comparison(seeds=3).comparisons[0], **changes)


def told(**verdicts: str) -> Comparison:
    """A comparison of the arms cwd and mgd with these verdicts; the student as given is below them."""
    content = comparison(arms=("baseline", "cwd", "mgd"), seeds=3)
    content.references["student"] = structs.replace(content.references["student"], ap=0.01)
    content.comparisons = [structs.replace(one, verdict=verdicts[one.arm]) for one in content.comparisons]
    return content


def against(arm: str, other: str, verdict: str, mean: float, half: float) -> Entry:
    interval = (mean - half, mean + half)
    d_ap = structs.replace(an_entry().d_ap, mean=mean, ci95=interval, ci=interval)
    return an_entry(arm=arm, against=other, verdict=verdict, d_ap=d_ap)
