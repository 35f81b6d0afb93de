"""What tables and picture both say of a comparison."""

from __future__ import annotations

from typing import Any

from coco1k_kd.verdict.intervals import points

_SOURCES = {"seed": "seeds", "draw": "draws", "image": "images"}


def entries(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """The comparisons, each followed by the same on all of val2017 where that was evaluated."""
    found = []
    for entry in comparison["comparisons"]:
        found.append(entry)
        if "full_val" in entry:
            names = {"arm": entry["arm"], "against": f"{entry['against']}, all of val2017"}
            found.append(entry["full_val"] | names)
    return found


def pair(entry: dict[str, Any]) -> str:
    return f"{entry['arm']} against {entry['against']}"


def result(entry: dict[str, Any]) -> str:
    """Verdict, difference and interval."""
    low, high = (points(x) for x in entry["d_ap"]["ci95"])
    return f"{entry['verdict'].replace('_', ' ')}, {points(entry['d_ap']['mean'])} ({low} to {high})"


def at_odds(entry: dict[str, Any]) -> bool:
    """Whether best and last epoch lead to different verdicts. On all of val2017 only the best is evaluated."""
    return "last" in entry and entry["last"]["verdict"] != entry["verdict"]


def sources(variance: dict[str, float | None]) -> str:
    """Where the variance of a difference comes from, in shares of its known parts; empty where there is none."""
    known = {name: part for name, part in variance.items() if part is not None}
    total = sum(known.values())
    if not total:
        return ""
    if len(known) == 1:
        return "100% from images, of seeds nothing is known"
    named = _SOURCES | ({"draw": "draws and their seeds"} if variance["seed"] is None else {})
    return ", ".join(f"{part / total:.0%} from {named[name]}" for name, part in known.items())


def repeats(comparison: dict[str, Any]) -> tuple[int, int]:
    """How many draws of the train images, and how many seeds of each."""
    runs = next(iter(comparison["arms"].values()))["runs"]
    return tuple(len({run[key] for run in runs}) for key in ("draw", "seed"))


def repeated(comparison: dict[str, Any]) -> str:
    """What figures are means over: `3 seeds`, or `2 draws of 3 seeds`."""
    draws, seeds = repeats(comparison)
    of_draws = f"{draws} draws of " if draws > 1 else ""
    return f"{of_draws}{seeds} seed{'s' * (seeds != 1)}"
