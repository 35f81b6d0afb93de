#!/usr/bin/env python3
"""Tables for docs/benchmarks.md from the results of `benchmarks/gpu_study.sh run`, however far it has come.

python benchmarks/gpu_summary.py gpu_study/results
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

GIB = 2**30
STARTS = {
    "weights": "its weights",
    "neck": "all but its head",
    "frozen": "all but its head, the backbone left alone",
    "backbone": "its backbone alone",
    "scratch": "scratch",
}


def markdown(results: Path) -> str:
    """The summary of a results folder."""
    state = _read(results / "state.json") or {"steps": {}, "used_seconds": 0}
    found = {path.stem: content for path in sorted(results.glob("*.json")) if (content := _read(path))}
    parts = [_head(state, found), _kd_step(found.get("kd_step")), _breakdown(found.get("breakdown"))]
    parts += [_together({name: value for name, value in found.items() if name.startswith("together_")})]
    parts += [_ablation(found)]
    parts += [_whole(found.get("against_stock"))]
    for start, meaning in STARTS.items():
        path = results / f"study_{start}.md"
        if path.exists():
            _, _, text = path.read_text().partition("\n")  # without its title
            parts.append(f"## Study: the student starts from {meaning}\n{text}".replace("\n## ", "\n### "))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _head(state: dict[str, Any], found: dict[str, Any]) -> str:
    any_ = next((found[name] for name in found if "versions" in found[name] and "device" in found[name]), None)
    where = ""
    if any_:
        versions = ", ".join(f"{name} {version}" for name, version in any_["versions"].items())
        where = f"{any_['device']}, {any_['cores']} CPU cores, {versions}. "
    rows = [
        [
            name,
            entry["state"],
            entry.get("seconds", ""),
            entry.get("epochs", ""),
            entry.get("why", entry.get("said", "")),
        ]
        for name, entry in state["steps"].items()
    ]
    command = shlex.join(["benchmarks/gpu_study.sh", "run", *state.get("command", [])])
    intro = f"{where}{state['used_seconds'] / 60:.1f} minutes of `{command}`."
    return f"# On a card\n\n{intro}\n\n" + _table(["step", "state", "s", "epochs", "note"], rows)


def _kd_step(content: dict[str, Any] | None) -> str:
    if not content:
        return ""
    seconds, memory = content["seconds"], content["peak_memory_bytes"]
    others = [name for name in ("stock", "floor") if name in seconds]
    rows = [
        [name, f"{1000 * s:.1f}", *(f"{s / seconds[other]:.2f}" for other in others), _gib(memory.get(name))]
        for name, s in seconds.items()
    ]
    head = ["step", "ms", *(f"against {other}" for other in others), "memory, GiB"]
    return "## A training step\n\n" + _table(head, rows)


def _breakdown(content: dict[str, Any] | None) -> str:
    if not content:
        return ""
    parts = list(dict.fromkeys(part for row in content["rows"] for part in row["parts"]))
    head = [
        "arm",
        "images/s",
        "step, ms",
        *parts,
        "card works, ms",
        "kernels",
        "validation, s",
        "saving, s",
        "epoch, s",
        "GiB",
    ]
    rows = [
        [
            row["arm"],
            f"{row['images_per_second']:.0f}",
            _ms(row["step_seconds"]),
            *(_ms(row["parts"].get(part)) for part in parts),
            _ms(row.get("device_seconds")),
            f"{row['kernels']:.0f}" if "kernels" in row else "",
            f"{row['validation_seconds']:.1f}",
            f"{row['checkpoint_seconds']:.1f}",
            f"{row['epoch_seconds']:.1f}",
            _gib(row["peak_memory_bytes"]),
        ]
        for row in content["rows"]
    ]
    loader = max(row["loader_images_per_second"] or 0 for row in content["rows"])
    settings = content["settings"]
    note = (
        f"Batch {settings['batch']}, {settings['imgsz']} px, {settings['workers']} loader processes, which alone give "
        f"{loader:.0f} images/s. The parts, in ms, are of steps that wait for the card at each change of part; the "
        "step is of undisturbed ones. `card works` is how long the card computes in a step: its limit."
    )
    return f"## Where the time goes, one run alone\n\n{note}\n\n{_table(head, rows)}"


def _together(found: dict[str, dict[str, Any]]) -> str:
    if not found:
        return ""
    rows = []
    for content in sorted(found.values(), key=lambda content: content["settings"]["together"]):
        each = [row["epoch_seconds"] for row in content["rows"]]
        settings = content["settings"]
        memory = sum(row["peak_memory_bytes"] for row in content["rows"])
        rows.append(
            [settings["together"], settings["workers"], f"{content['images_per_second']:.0f}",
             f"{min(each):.1f} to {max(each):.1f}", _gib(memory)]
        )  # fmt: skip
    head = ["runs at once", "loader processes each", "images/s, all", "epoch, s", "memory of all, GiB"]
    return "## Several runs at once\n\n" + _table(head, rows)


def _ablation(found: dict[str, Any]) -> str:
    names = [name for name in found if name.startswith("ablation_")]
    if not names:
        return ""
    rows = []
    if "breakdown" in found:
        arm = found[names[0]]["rows"][0]["arm"]
        rows += [("as above", row) for row in found["breakdown"]["rows"] if row["arm"] == arm]
    rows += [(name.removeprefix("ablation_").replace("_", " "), found[name]["rows"][0]) for name in names]
    cells = [
        [name, row["arm"], f"{row['images_per_second']:.0f}", _ms(row["step_seconds"]), _ms(row["parts"].get("loader")),
         f"{row['loader_images_per_second'] or 0:.0f}", _gib(row["peak_memory_bytes"])]
        for name, row in rows
    ]  # fmt: skip
    head = ["setting", "arm", "images/s", "step, ms", "of it waiting for the loader", "loader alone, images/s", "GiB"]
    return "## What each setting brings, one run alone\n\n" + _table(head, cells)


def _whole(content: dict[str, Any] | None) -> str:
    if not content:
        return ""
    stock, ours = content["stock_seconds"], content["ours_seconds"]
    note = (
        f"{content['settings']['epochs']} epochs, from start to end: stock Ultralytics' two trainings "
        f"{stock['baseline']:.0f} + {stock['distilled']:.0f} s; the study, with its evaluations and comparison, "
        f"{ours['whole']:.0f} s: {content['ours/stock']:.2f} of stock's. Training alone: baseline "
        f"{ours['baseline_train_seconds']:.0f} s, CWD {ours['cwd_train_seconds']:.0f} s."
    )
    return f"## The whole, against stock\n\n{note}"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.1f}"


def _gib(value: float | None) -> str:
    return "" if value is None else f"{value / GIB:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    print(markdown(parser.parse_args().results), end="")


if __name__ == "__main__":
    main()
