"""Studies without a training, by the programs that the table of docs/statistics.md comes from."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def simulated(name: str = "made_up") -> ModuleType:
    """A program of benchmarks/."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return import_module(name)


def ends(studies: int, **what: Any) -> Any:
    """How so many studies of the case end."""
    benchmark = simulated()
    case = benchmark.Case(**what)
    return benchmark.at_once(case, benchmark.drawn(case, studies, np.random.default_rng(0)))


def slack(studies: int) -> float:
    """Three standard errors of a rate of 5%."""
    return 3 * (0.05 * 0.95 / studies) ** 0.5
