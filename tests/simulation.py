"""Studies without a training, by the program whose tables docs/statistics.md shows."""

from __future__ import annotations

from importlib import util
from pathlib import Path


def simulated():
    """benchmarks/looks.py, whose tables docs/statistics.md shows."""
    path = Path(__file__).parents[1] / "benchmarks" / "looks.py"
    specification = util.spec_from_file_location("looks_benchmark", path)
    module = util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
