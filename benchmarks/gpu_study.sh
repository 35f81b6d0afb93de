#!/usr/bin/env bash
# The whole GPU evidence in one command: step times, where the time goes, studies of all arms from every start.
#
# On a machine of your own, with a GPU, the environment of run_coco1k_kd.sh --setup-only, and COCO 2017:
#
#   COCO_ROOT=/data/coco benchmarks/gpu_study.sh run                    # 25 minutes; MINUTES=120 for more epochs
#   benchmarks/gpu_study.sh plan --starts neck weights                  # as JSON: what would run, and for how long
#
# On a lent machine that is bare, offline, takes 64 MB at a time and gives 10 minutes a command (the device tool). Here:
#
#   mkdir -p .git/info && echo /.gpu_parts/ >>.git/info/exclude
#   STUDENT=../shared/weights/yolo11n.pt TEACHER=../shared/weights/yolov8m.pt \
#     benchmarks/gpu_study.sh pack ../shared/coco-mini .gpu_parts       # .gpu_parts/1, /2, /3, each under 60 MB
#
# then, one straight after the other (the machine is gone after 30 idle seconds, and all on it), with the tool's `run`:
#
#   carry [".gpu_parts/1"]  command  export WORK=/tmp/gpu_study; benchmarks/gpu_study.sh unpack .gpu_parts/1
#   carry [".gpu_parts/2"]  command  export WORK=/tmp/gpu_study; benchmarks/gpu_study.sh unpack .gpu_parts/2
#   carry [".gpu_parts/3"]  command  export WORK=/tmp/gpu_study; benchmarks/gpu_study.sh unpack .gpu_parts/3 && MINUTES=24 benchmarks/gpu_study.sh run
#   carry []                command  export WORK=/tmp/gpu_study; benchmarks/gpu_study.sh run        (timeout_s 600)
#   ... the last one again until it says that all is done: 3 or 4 times. FLAGS go with the first `run`.
#
# Where $OUT is set, `run` works in a process of its own, which goes on between the calls; a call follows it for SLICE
# minutes and leaves summary.md, state.json, results.tar.gz (JSON, pictures, logs) and each study's predictions in $OUT.
set -euo pipefail
shopt -s inherit_errexit nullglob

usage() {
  cat <<'TEXT'
  benchmarks/gpu_study.sh run [FLAGS]                 do everything, or what is left of it
  benchmarks/gpu_study.sh plan [FLAGS]                print what that would be, as JSON
  benchmarks/gpu_study.sh pack COCO_ROOT PARTS_DIR    subset, weights and wheels, in parts to carry to another machine
  benchmarks/gpu_study.sh unpack PART                 take a part in there; the last one puts it all together
  FLAGS: see benchmarks/gpu_study.sh plan --help

environment  WORK (./gpu_study)  PYTHON (.venv's, else python3)
             pack, run: TARGET_SIZE (1500)  VAL_SIZE (400)
             run: MINUTES (25)  COCO_ROOT  SLICE (9 where OUT is set)  OUT
             pack: STUDENT (yolo11n.pt)  TEACHER (yolov8m.pt)  PART_BYTES (59000000)  TARGET_PYTHON (3.12)
                   PACKAGES (what the lent machine lacks)
TEXT
}

die() {
  echo "error: $*" >&2
  exit 2
}

here=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
work=$(realpath -m "${WORK:-gpu_study}")
input=$work/input
python=${PYTHON:-$here/.venv/bin/python}
[[ -x $python || ${PYTHON:-} ]] || python=python3

draw() { # COCO root, folder
  "$python" "$here/create_coco1k.py" --coco-root "$1" --output-dir "$2" \
    --target-size "${TARGET_SIZE:-1500}" --val-size "${VAL_SIZE:-400}"
}

# --- pack: here -----------------------------------------------------------------------------------------------------
pack() {
  local root=$1 parts=$2 student=${STUDENT:-yolo11n.pt} teacher=${TEACHER:-yolov8m.pt} file
  for file in "$student" "$teacher"; do
    [[ -f $file ]] || die "$file does not exist: name the weights with STUDENT= and TEACHER="
  done
  [[ ! -e $parts ]] || die "$parts exists: take it away, or name another folder"
  packing=$(mktemp -d)
  trap 'rm -rf "$packing"' EXIT
  draw "$root" "$packing/coco1k"
  mkdir "$packing"/{weights,wheels}
  cp "$student" "$teacher" "$packing/weights/"
  wheels "$packing/wheels"
  mkdir -p "$parts"
  tar -C "$packing" -c coco1k weights wheels | gzip -1 | split -b "${PART_BYTES:-59000000}" -d -a 2 - "$packing/part_"
  local number=0
  for file in "$packing"/part_*; do
    mkdir "$parts/$((++number))"
    mv "$file" "$parts/$number/data"
  done
  # every part knows all parts: whoever has one can tell which are missing
  (cd "$parts" && sha256sum ./*/data) >"$packing/sums"
  for file in "$parts"/*/; do cp "$packing/sums" "$file/SHA256SUMS"; done
  du -b --apparent-size "$parts"/*/data
}

# What the lent machine's image lacks of requirements.txt and of what that needs (its list: the device tool's KINDS.md).
# polars is a third of its size in this version, and Ultralytics, which reads a CSV with it, takes any from 0.20.
wheels() { # folder
  local platform flags=() package
  for platform in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
    flags+=(--platform "${platform}_x86_64")
  done
  flags+=(--python-version "${TARGET_PYTHON:-3.12}" --implementation cp --only-binary=:all: --no-deps --quiet)
  for package in ${PACKAGES-ultralytics ultralytics-thop ultralytics-platform pycocotools msgspec polars==0.20.31}; do
    "$python" -m pip download "${flags[@]}" --dest "$1" "$(pinned "$package")"
  done
}

pinned() { # package: in the version that is tested here
  [[ $1 != *==* ]] || { echo "$1" && return; }
  "$python" -c 'import sys; from importlib.metadata import version; print(sys.argv[1], version(sys.argv[1]), sep="==")' "$1"
}

# --- unpack: there --------------------------------------------------------------------------------------------------
unpack() {
  local part=${1%/} number missing
  [[ -f $part/data && -f $part/SHA256SUMS ]] || die "$part is no part: it holds no data and SHA256SUMS"
  number=$(basename "$(realpath "$part")")
  if [[ -f $input/SHA256SUMS ]] && cmp -s "$input/SHA256SUMS" "$part/SHA256SUMS"; then
    echo "all parts stand in $input" && return
  fi
  [[ "$(sha256sum <"$part/data" | cut -c1-64)  ./$number/data" == "$(grep -F "./$number/data" "$part/SHA256SUMS")" ]] ||
    die "$part is not as it was packed (SHA-256): carry it again"
  mkdir -p "$work/parts/$number"
  cp "$part/SHA256SUMS" "$part/data" "$work/parts/$number/"
  missing=$(missing_parts "$part/SHA256SUMS")
  [[ ! $missing ]] || { echo "part $number is here; still to come: $missing" && return; }
  assemble "$part/SHA256SUMS"
}

numbers_in() { # SHA256SUMS
  awk '{split($2, path, "/"); print path[2]}' "$1" | sort -n
}

missing_parts() { # SHA256SUMS: numbers of the parts that are not here, or are of another packing
  local number numbers=()
  for number in $(numbers_in "$1"); do
    cmp -s "$1" "$work/parts/$number/SHA256SUMS" || numbers+=("$number")
  done
  echo "${numbers[*]}"
}

assemble() { # SHA256SUMS
  local number data=() fresh=$work/input.new site=$work/site
  (cd "$work/parts" && sha256sum --quiet -c "1/SHA256SUMS") || die "a part is damaged: carry it again"
  for number in $(numbers_in "$1"); do data+=("$work/parts/$number/data"); done
  rm -rf "$fresh" "$site"
  mkdir -p "$fresh"
  cat "${data[@]}" | tar -C "$fresh" -xz
  local wheels=("$fresh"/wheels/*.whl)
  ((${#wheels[@]} == 0)) || "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
    --disable-pip-version-check --target "$site" "${wheels[@]}"
  sed -i "s|^path:.*|path: \"$input/coco1k\"|" "$fresh/coco1k/coco1k.yaml"
  rm -rf "$input"
  mv "$fresh" "$input"
  offline
  "$python" "$here/create_coco1k.py" --verify "$input/coco1k"
  "$python" -c 'import torch, ultralytics; print("torch", torch.__version__, "ultralytics", ultralytics.__version__,
    "on", torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU")'
  cp "$1" "$input/" # last: it says that all stands
  rm -rf "$work/parts"
}

# --- run: there, or on any machine ----------------------------------------------------------------------------------
offline() { # unpacked input needs no network, and must not wait for one that is not there
  export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
  export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=0 YOLO_CONFIG_DIR=$work http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9
}

prepare() {
  if [[ -f $input/SHA256SUMS ]]; then
    offline
  elif [[ -d $work/parts ]]; then
    local first=("$work"/parts/*/SHA256SUMS)
    die "parts are missing: $(missing_parts "${first[0]}"); unpack them first"
  elif [[ ! -e $input/coco1k && ${COCO_ROOT:-} ]]; then
    draw "$COCO_ROOT" "$input/coco1k"
  fi
  export PYTHONUNBUFFERED=1
}

study() {
  prepare
  local log=$work/run.log code=$work/code begun=$work/flags words
  mkdir -p "$work"
  [[ ! ${MINUTES:-} ]] || set -- --minutes "$MINUTES" "$@"
  if (($#)); then
    printf '%s\n' "$@" >"$begun"
  elif [[ -f $begun ]]; then # the flags that it was begun with
    mapfile -t words <"$begun" && set -- "${words[@]}"
  fi
  # on a machine of one's own: in the foreground, until it is done
  [[ ${SLICE:-${OUT:-}} ]] || exec "$python" "$here/benchmarks/gpu_study.py" --work "$work" "$@"
  if ! worker_lives; then
    # from a copy, since the next call puts the project there anew while this is at work
    rm -rf "$code" && mkdir "$code"
    cp -r "$here"/{coco1k_kd,benchmarks} "$here"/*.py "$code/"
    setsid "$python" "$code/benchmarks/gpu_study.py" --work "$work" "$@" >"$log" 2>&1 </dev/null &
    echo $! >"$work/worker.pid"
  fi
  follow "$log" "$(awk -v m="${SLICE:-9}" 'BEGIN {print int(60 * m)}')"
}

worker_lives() {
  [[ -f $work/worker.pid ]] && grep -q gpu_study "/proc/$(cat "$work/worker.pid")/cmdline" 2>/dev/null
}

follow() { # log, seconds: pass on what the worker says, and publish what it finds, until it or the slice ends
  local until=$((SECONDS + $2)) seen=0 size
  while worker_lives && ((SECONDS < until)); do
    sleep 1
    size=$(stat -c %s "$1")
    ((size == seen)) || { tail -c +$((seen + 1)) "$1" | head -c $((size - seen)) && seen=$size && publish; }
  done
  publish
  if worker_lives; then
    echo "at work: call again, within 30 seconds where the machine is lent"
  else
    tail -c +$((seen + 1)) "$1"
    [[ -f $work/results/state.json ]] || die "it ended before it began, see above"
    echo "all is done that found the time"
  fi
}

publish() { # into $OUT: at most 8 files of 16 MB
  [[ ${OUT:-} && -d $work/results ]] || return 0
  # a file that changes while it is read, or no study yet, is no reason to end
  (cd "$work" && find results studies -path 'results/*' -type f -o -name result.json -o -name results.csv 2>/dev/null |
    tar -czf "$OUT/.results" -T - 2>/dev/null) || true
  mv "$OUT/.results" "$OUT/results.tar.gz"
  for file in "$work"/{results/summary.md,results/state.json,predictions_*.tar.gz}; do
    [[ ! -f $file ]] || cp "$file" "$OUT/"
  done
}

case ${1:-} in
  pack) (($# == 3)) || die "pack takes a COCO root and a folder for the parts: see --help" ;;&
  unpack) (($# == 2)) || die "unpack takes a part's folder: see --help" ;;&
  pack | unpack) "$@" ;;
  run) study "${@:2}" ;;
  plan) exec "$python" "$here/benchmarks/gpu_plan.py" --work "$work" "${@:2}" ;;
  -h | --help) usage ;;
  *) die "unknown command ${1:-(none)}: see --help" ;;
esac
