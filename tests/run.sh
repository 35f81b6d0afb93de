#!/usr/bin/env bash
# Everything that must hold before a commit, from a fresh checkout on: environment, style, tests.
#   tests/run.sh            the first time about 3 minutes of installation
#   tests/run.sh -k demo    what follows is handed to pytest
#   tests/run.sh --slow     also the tests that take over a minute
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
venv=$(realpath -m "${VENV:-.venv}")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 || { cat "$log" >&2 && exit 1; }; }

quietly ./run_coco1k_kd.sh --setup-only
quietly "$venv/bin/python" -m pip install -r tests/requirements.txt
export PATH=$venv/bin:$PATH OMP_NUM_THREADS=1

ruff check --quiet .
ruff format --check --quiet .
shellcheck run_coco1k_kd.sh tests/run.sh .ci/run benchmarks/*.sh benchmarks/gpu/*.sh
markers=(-m "not slow")
if [[ ${1-} == --slow ]]; then
  markers=() && shift
  # one test opens the report in a browser; without one it is skipped
  command -v chromium >/dev/null || { [[ $EUID != 0 ]] || quietly apt-get install -qq chromium || true; }
fi
# two workers, since a training keeps one core busy; by file, so that tests share their trainings, the long ones first
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "${markers[@]}" "$@"
