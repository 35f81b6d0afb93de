#!/usr/bin/env python3
"""How many of a random sample of mutants do the tests kill? docs/lab/mutants.md.

    pip install cosmic-ray
    nice python benchmarks/mutants.py --sample 100                  # 5 minutes of CPU
    nice python benchmarks/mutants.py --sample 100 --only 12 64     # of these the ones that had survived

cosmic-ray makes the mutants. Each is tested in a fork of a process that has imported torch and its like already, on a
copy of the repository, by the test files of its module; what is shared by tests is made once.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Slow tests are left out: those of whole simulations, and of a session's own data where no module here needs it.
SLOW = "not promise and not benchmark and not futility_spares and not resampled_images and not cocoeval_matches"
TESTS = {
    "study/audit.py": ["tests/study/test_audit.py"],
    "verdict/matching.py": ["tests/verdict/test_matching.py", "tests/verdict/test_compare.py"],
    "verdict/intervals.py": ["tests/verdict/test_intervals.py"],
    "verdict/looks.py": ["tests/verdict/test_looks.py"],
    "data/identity.py": ["tests/data/test_identity.py"],
    "study/store.py": ["tests/study/test_store.py"],
    "runs/record.py": ["tests/runs/test_record.py", "tests/runs/test_train.py"],
}
SHARED = ("coco_root", "subset", "models")  # fixtures that are paths
PATIENCE = 90  # seconds of the processor; a mutant that takes longer is killed, on a busy machine as on an idle one
_STUCK = 3600  # seconds in which one that waits for something is given up


class Shared:
    """A pytest plugin that remembers the shared fixtures of a first session, and hands them to later ones."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, Path] = pickle.loads(file.read_bytes()) if file.exists() else {}

    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        if fixturedef.argname not in self.known:
            return None
        fixturedef.cached_result = (self.known[fixturedef.argname], fixturedef.cache_key(request), None)
        return self.known[fixturedef.argname]

    def pytest_fixture_post_finalizer(self, fixturedef: Any, request: Any) -> None:
        if fixturedef.argname in SHARED and fixturedef.cached_result and fixturedef.cached_result[2] is None:
            self.known[fixturedef.argname] = fixturedef.cached_result[0]
            self.file.write_bytes(pickle.dumps(self.known))


def mutants(module: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the place of every mutant of a module, and what makes its source; annotations are never evaluated."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.mutating import mutate_code

    path = ROOT / "coco1k_kd" / module
    source, tree = path.read_text(), get_ast_from_path(path)
    ignored = list(_annotations(ast.parse(source)))
    for name in cosmic_ray.plugins.operator_names():
        made_by = cosmic_ray.plugins.get_operator(name)
        if made_by.arguments():
            continue
        operator = made_by()
        positions = [spot for node in ast_nodes(tree) for spot in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            if not any(begin <= start < end for begin, end in ignored):
                yield f"{name}, {module}:{start[0]}", partial(mutate_code, source, operator, occurrence)


def _annotations(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for part in filter(None, found):
            yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def tested(copy: Path, module: str, source: str | None, shared: Path, log: Path) -> int:
    """Exit code of the module's tests on a source of it; -9 where they took too long."""
    path = copy / "coco1k_kd" / module
    original = path.read_text()
    path.write_text(source or original)
    child = os.fork()
    if not child:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        import pytest

        base = tempfile.mkdtemp(dir=shared.parent)
        arguments = ["-x", "-q", "-p", "no:cacheprovider", "-k", SLOW, f"--basetemp={base}/t"]
        code = pytest.main([*arguments, *TESTS[module]], plugins=[Shared(shared)])
        if source:
            shutil.rmtree(base, ignore_errors=True)
        os._exit(int(code))
    end = time.monotonic() + _STUCK
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            status = signal.SIGKILL
            break
        time.sleep(0.02)
    path.write_text(original)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", nargs="+", default=list(TESTS), choices=list(TESTS))
    parser.add_argument("--only", nargs="+", type=int, help="numbers of the drawn ones, as an earlier start gave them")
    args = parser.parse_args()
    every = [(module, *mutant) for module in TESTS for mutant in mutants(module)]
    chosen = random.Random(args.seed).sample(every, args.sample)
    print(f"{len(every)} mutants of {len(TESTS)} modules, {len(chosen)} drawn", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        copy, shared, log = Path(folder) / "copy", Path(folder) / "shared", Path(folder) / "log"
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True)
        for name in listed.stdout.decode().splitlines():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        os.chdir(copy)
        sys.path[:] = [str(copy), *(place for place in sys.path if Path(place) not in (ROOT, ROOT / "benchmarks"))]
        os.environ["PYTHONDONTWRITEBYTECODE"], sys.dont_write_bytecode = "1", True  # mutants may have one size and time
        import hypothesis  # noqa: F401  # once for all forks
        import pycocotools.cocoeval  # noqa: F401
        import pytest  # noqa: F401
        import scipy.stats  # noqa: F401
        import ultralytics  # noqa: F401

        for module in args.modules:
            if code := tested(copy, module, None, shared, log):
                raise SystemExit(f"the tests of {module} fail without a mutant ({code}):\n{log.read_text()[-2000:]}")
        survivors, killed = [], 0
        in_order = sorted(chosen, key=lambda mutant: list(TESTS).index(mutant[0]))
        for number, (module, place, make) in enumerate(in_order, 1):
            if module not in args.modules or (args.only and number not in args.only):
                continue
            began = time.monotonic()
            code = tested(copy, module, make(), shared, log)
            print(
                f"{number} {place}: {'killed' if code else 'SURVIVED'} ({time.monotonic() - began:.0f} s)", flush=True
            )
            killed += bool(code)
            if not code:
                was = (copy / "coco1k_kd" / module).read_text().splitlines()
                now = make().splitlines()
                differing = next((pair for pair in zip(was, now, strict=False) if pair[0] != pair[1]), ("", ""))
                survivors.append({"place": place, "was": differing[0].strip(), "now": differing[1].strip()})
        print(json.dumps({"tested": killed + len(survivors), "killed": killed, "survivors": survivors}, indent=1))


if __name__ == "__main__":
    main()
