#!/usr/bin/env bash
# Does knowledge distillation help my YOLO student? From a bare machine to the verdict: environment, data, weights,
# compare, report. Every stage that stands is skipped, so the same command goes on after any kind of end.
set -euo pipefail
shopt -s inherit_errexit

usage() {
  cat <<'TEXT'
  ./run_coco1k_kd.sh --demo                        # no download, no GPU: generated scenes, 7 minutes
  ./run_coco1k_kd.sh --coco-root /data/coco        # your COCO 2017; for 100 epochs take a GPU
  ./run_coco1k_kd.sh --download --judge full       # no COCO yet: fetches 1.4 GB of it (0.6 without --judge)
  SEEDS="0 1 2" LOSS=mgd ./run_coco1k_kd.sh --coco-root /data/coco -- --imgsz 416 --controls

Draws COCO-1K, trains the same student with and without a teacher, compares, and draws the picture.
Writes coco1k/, coco1k_kd_experiments/ and logs/ (--demo: coco1k_demo/) into the current folder.

  --demo            generated scenes and models trained on the spot: shows that all works, tells nothing about COCO
  --coco-root DIR   holds annotations/, train2017/ and val2017/ (default: $COCO_ROOT, else ./coco); only read
  --download        fetch what is missing into the COCO root: the annotations and the chosen images alone
  --judge WHICH     the images that the verdict is taken on: full (all of val2017 beyond the subset, with --download),
                    val (the subset's 400) or a COCO root (default: full where they are at hand, else val)
  --from STAGE      do this stage and all after it again: environment, data, weights, compare or report
  --dry-run         print the commands that would run, and change nothing
  --setup-only      stop after the environment
  -- FLAGS          for test_coco1k_kd.py: --arms, --imgsz, --controls, ... (python test_coco1k_kd.py --help)

environment  COCO_ROOT  EPOCHS (100)  BATCH (16)  TEACHER (yolo11l.pt)  STUDENT (yolo11n.pt)  LOSS (cwd)  SEEDS (auto)
             DEVICE (first GPU, else CPU)  TARGET_SIZE (1500)  VAL_SIZE (400)  VENV (.venv beside this script)
             FIT_TEACHER: epochs, or auto: train the teacher on the subset first
             UNLABELLED (none): images without labels, which the teacher labels for the arm pool (docs/unlabelled.md)
             WORLD (0): the seed of the demo's generated scenes
exit codes   0 done, 1 a run failed, 2 bad usage or input, 130 interrupted, 141 output closed
TEXT
}

die() {
  echo "error: $*" >&2
  exit 2
}

# --- what is asked for ---------------------------------------------------------------------------------------------
stages=(environment data weights compare report)
demo='' download='' from='' dry='' setup='' judge='' coco_root=${COCO_ROOT:-coco} extra=()
while (($#)); do
  case $1 in
    --demo) demo=1 ;;
    --coco-root | --from | --judge) (($# > 1)) || die "$1 needs a value: see --help" ;;&
    --coco-root) coco_root=$2 && shift ;;
    --coco-root=*) coco_root=${1#*=} ;;
    --download) download=1 ;;
    --judge) judge=$2 && shift ;;
    --judge=*) judge=${1#*=} ;;
    --from) from=$2 && shift ;;
    --from=*) from=${1#*=} ;;
    --dry-run) dry=1 ;;
    --setup-only) setup=1 ;;
    -h | --help) usage && exit ;;
    --) extra=("${@:2}") && break ;;
    *) die "unknown argument $1: see --help; flags of test_coco1k_kd.py go after --" ;;
  esac
  shift
done
[[ " ${extra[*]}" != *" --project"* ]] || die "--project is this script's: call it from the folder that shall hold the results"
[[ -z $from || " ${stages[*]} " == *" $from "* ]] || die "--from $from: choose one of ${stages[*]}"

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")") # the project, also when called through a symbolic link
venv=$(realpath -m "${VENV:-$here/.venv}")
python=$venv/bin/python
out=$PWD${demo:+/coco1k_demo} # below the current folder, like the programs' own defaults
logs=$out/logs project=$out/coco1k_kd_experiments
if [[ $demo ]]; then
  [[ ! $download ]] || die "--demo makes its own data: leave --download out"
  coco_root=$out/coco
  : "${TEACHER:=$out/teacher/weights/last.pt}" "${STUDENT:=$out/student/weights/last.pt}"
  : "${EPOCHS:=6}" "${BATCH:=8}" "${TARGET_SIZE:=160}" "${VAL_SIZE:=60}" "${LOSS:=cwd+response}" "${WORLD:=0}"
  : "${FIT_TEACHER:=25}"
  # a step with every batch: Ultralytics' own optimizer steps once in 64 images, 15 times in this whole training
  extra=(--imgsz 96 --start weights --distillation-weight 3 --looks 5 8 --parallel 2 --workers 0
    --train cache=ram nbs=8 optimizer=AdamW lr0=0.001 warmup_epochs=1.0 "${extra[@]}")
fi
: "${TEACHER:=yolo11l.pt}" "${STUDENT:=yolo11n.pt}" "${LOSS:=cwd}" "${SEEDS:=auto}" "${EPOCHS:=100}" "${BATCH:=16}"
: "${TARGET_SIZE:=1500}" "${VAL_SIZE:=400}" "${DEVICE:=}"
coco_root=$(realpath -m "$coco_root")
annotations=("$coco_root"/annotations/instances_{train,val}2017.json)
if [[ ! $demo && ! $download && ! $setup && ! -f ${annotations[0]} ]]; then
  die "no COCO 2017 at $coco_root (no annotations/${annotations[0]##*/}): name its folder with --coco-root DIR," \
    "fetch 0.6 GB of it with --download, or try --demo"
fi

# --- the stages: functions of plain commands -----------------------------------------------------------------------
run() {
  printf '+'
  printf ' %q' "$@"
  echo
  [[ $dry ]] || "$@"
}

environment() {
  [[ -x $venv/bin/pip ]] || run "$base" -m venv "$venv"
  run "$python" -m pip install -r "$here/requirements.txt" | { grep -v --line-buffered '^Requirement already' || true; }
  [[ $dry ]] || "$python" -c 'import cv2' 2>/dev/null || headless
}

headless() { # a bare server lacks the desktop libraries that Ultralytics' OpenCV wants; this build does without
  run "$python" -m pip uninstall -q -y opencv-python
  run "$python" -m pip install opencv-python-headless
}

data() {
  local draw=("$python" "$here/create_coco1k.py" --coco-root "$coco_root" --force)
  if [[ $demo ]]; then
    # what the models have seen before the study: scenes of the old classes, as published models have seen COCO
    {
      run "$python" -m coco1k_kd.demo "$out/old" --old --train 800 --val 60 --seed "$((1000 + WORLD))"
      run "${draw[@]}" --coco-root "$out/old" --output-dir "$out/pool" --target-size all --val-size all
    } &
    local old=$!
    [[ ! $dry ]] || wait "$old" # the commands in one order, since they are a part of the stage's key
    run "$python" -m coco1k_kd.demo "$coco_root" --train 400 --val 500 --seed "$WORLD"
    wait "$old"
  elif [[ $download ]]; then
    draw+=(--download --workers 16) # connections wait more than they work
  fi
  [[ $judge != full ]] || draw+=(--judge full)
  run "${draw[@]}" --output-dir "$out/coco1k" --target-size "$TARGET_SIZE" --val-size "$VAL_SIZE"
}

weights() {
  if [[ $demo ]]; then
    # a teacher of the same size that has learnt longer; both from nothing, on the pool, at once
    pretrain yolo11n.yaml 2 student &
    local student=$!
    [[ ! $dry ]] || wait "$student" # in one order, as above
    pretrain yolo11n.yaml 7 teacher
    wait "$student"
  else
    run "$python" -c "$fetch" "$TEACHER" "$STUDENT"
  fi
}

pretrain() { # architecture, epochs, name
  run "$venv/bin/yolo" detect train model="$1" epochs="$2" name="$3" project="$out" exist_ok=True \
    data="$out/pool/coco1k.yaml" imgsz=96 batch=8 nbs=8 optimizer=AdamW lr0=0.002 warmup_epochs=1 mosaic=0 \
    val=False plots=False workers=0 cache=ram ${DEVICE:+device="$DEVICE"}
}
fetch='import sys; from coco1k_kd.errors import run_cli; from coco1k_kd.distill.weights import read_weights
run_cli(lambda: [read_weights(*pair) for pair in zip(sys.argv[1:], ("teacher", "student"))] and 0)'

compare() {
  # shellcheck disable=SC2086 # SEEDS is a list
  run "$python" "$here/test_coco1k_kd.py" --data "$out/coco1k/coco1k.yaml" --project "$project" \
    --student "$STUDENT" --teacher "$TEACHER" --loss "$LOSS" --epochs "$EPOCHS" --batch "$BATCH" \
    --seeds $SEEDS ${FIT_TEACHER:+--fit-teacher "$FIT_TEACHER"} --coco-root "$coco_root" ${judge:+--judge "$judge"} ${DEVICE:+--device "$DEVICE"} \
    ${UNLABELLED:+--unlabelled "$UNLABELLED"} ${resume:+--resume} "${extra[@]}"
}

report() {
  local json
  json=$(newest comparison json)
  # compare has just printed the tables
  run "$python" "$here/test_coco1k_kd.py" --report-only "${json:-$project/comparison_....json}" |
    sed -n '/^+/p; /^- \*\*/p; /^wrote/p'
}

newest() { # kind, suffix: the newest result of the study, nothing where there is none
  [[ ! -d $project ]] || find "$project" -maxdepth 1 -name "*${1}_*.$2" -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-
}

find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
    "$name" -c 'import ensurepip, venv' 2>/dev/null || die "python3-venv is missing: sudo apt install python3-venv"
    command -v "$name"
    return
  done
  die "Python 3.10 or newer is needed, found $(python3 --version 2>&1 || true): sudo apt install python3 python3-venv"
}

# --- how a stage runs ----------------------------------------------------------------------------------------------
# A stage stands when its product is there and its stamp holds the same key: a hash of its commands, code and inputs.
key_of() { # stage, files
  local file
  {
    dry=1 python=python resume='' download='' "$1"
    for file in "${@:2}"; do
      [[ -f $file ]] || continue
      # large files by name, size and time: hashing COCO's annotations would take longer than the draw
      if (($(stat -Lc %s "$file") > 20000000)); then stat -Lc '%n %s %Y' "$file"; else sha256sum "$file"; fi
    done
  } | sha256sum | cut -c1-16
}

stage() { # name, product, files it depends on
  local name=$1 product=$2 began=$SECONDS rc=0 key stamp log=$logs/$1.log
  shift 2
  [[ $name == "$from" ]] && forced=1
  stamp=$([[ $name == environment ]] && echo "$venv" || echo "$logs")/$name.stage
  key=$(key_of "$name" "$@")
  if [[ ! $forced && -e $product && $(cat "$stamp" 2>/dev/null) == "$key done" ]]; then
    rows+=("$name|stands|") && return
  fi
  echo "== $name"
  [[ ! $dry ]] || { "$name" && return; }
  echo "$key begun" >"$stamp"
  set -m # a process group of its own, so that all of it can be ended
  { "$name" 2>&1 | tee -i "$log"; } </dev/null &
  job=$!
  set +m
  wait "$job" || rc=$?
  job=''
  if ((rc)); then
    rows+=("$name|failed ($rc)|$((SECONDS - began))")
    hint "$log"
    echo "the stage $name failed (log: $log); the same command goes on from here" >&2
    exit "$rc"
  fi
  echo "$(key_of "$name" "$@") done" >"$stamp"
  rows+=("$name|done|$((SECONDS - began))")
}

hint() { # log: what to do about failures that tools report at length
  if grep -q 'No space left on device' "$1" || (($(free_kb "$out") < 1000)); then
    echo "error: the disk is full: make room in $out, $venv and ${TMPDIR:-/tmp}" >&2
  elif grep -qE 'No matching distribution|NewConnectionError|Max retries exceeded|ReadTimeout' "$1"; then
    echo "error: no network: check the connection or the proxy (pip config list)" >&2
  fi
}

free_kb() {
  df -Pk "$1" | awk 'END {print $4}'
}

interrupt() { # exit code
  trap '' INT TERM HUP
  if [[ $job ]]; then
    rows+=("$name|interrupted|$((SECONDS - began))") # of the stage that this trap broke into
    kill -INT -- -"$job" 2>/dev/null || true
    for _ in {1..75}; do
      kill -0 -- -"$job" 2>/dev/null || break
      sleep 0.2
    done
    kill -KILL -- -"$job" 2>/dev/null || true
  fi
  echo "interrupted; the same command goes on from here" >&2
  exit "$1"
}

closing() {
  local row stage state seconds
  ((${#rows[@]})) || return 0
  printf '\n%-12s %-12s %7s\n' stage state time
  for row in "${rows[@]}"; do
    IFS='|' read -r stage state seconds <<<"$row"
    printf '%-12s %-12s %7s\n' "$stage" "$state" "${seconds:+$(printf '%d:%02d' $((seconds / 60)) $((seconds % 60)))}"
  done
}

# --- go ------------------------------------------------------------------------------------------------------------
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
rows=() job='' forced=''
resume=1 # the study goes on where its settings, data and training code are the same, and else begins anew
[[ $from != compare ]] || resume=''
[[ -x $venv/bin/pip ]] || base=$(find_python)
if [[ ! $dry ]]; then
  mkdir -p "$logs" "$venv" || die "cannot write to $out or $venv"
  if [[ ! -x $venv/bin/pip ]] && (($(free_kb "$venv") < 7000000)); then
    die "the environment needs 7 GB on the disk of $venv: make room, or choose another place with VENV=DIR"
  fi
  exec 9>>"$logs/lock"
  flock -n 9 || die "$out is in use by another run (process $(cat "$logs/lock")): wait for it, or work in another folder"
  echo $$ >"$logs/lock"
  trap closing EXIT
  trap 'interrupt 130' INT
  trap 'interrupt 143' TERM HUP
fi

code=$here/coco1k_kd
if [[ ! $dry ]]; then # the environment is shared by the runs of all folders
  exec 8>>"$venv/.lock"
  flock -n 8 || { echo "waiting for another run that installs $venv" && flock 8; }
fi
stage environment "$python" "$here/requirements.txt"
exec 8>&-
[[ $setup ]] && exit
[[ $dry ]] || "$python" -c 'import torch; print("device:", torch.cuda.get_device_name() if torch.cuda.is_available()
else "CPU, no GPU found; after its first epoch each run says how long it will take")'

draws=("$here/create_coco1k.py" "$code"/demo.py "$code"/data/*.py)
if [[ -e $out/coco1k && ! -e $logs/data.stage && $from != data && ! $forced && ! $dry ]]; then
  die "$out/coco1k was not made by this script: --from data replaces it, or move it away"
fi
stage data "$out/coco1k/manifest.json" "${draws[@]}" "${annotations[@]}"
stage weights "$TEACHER" "$out/pool/manifest.json"
# the study itself knows which code its trainings depend on; what only judges or reports trains nothing anew
studies=("$here/test_coco1k_kd.py" "$code"/{distill,runs,study,verdict}/*.py) reports=("$code"/report/*.{py,html} "$code"/report/texts/*)
stage compare "$(newest comparison json)" "${studies[@]}" "$out"/coco1k/{manifest.json,coco1k.yaml} "$TEACHER" "$STUDENT"
stage report "$(newest report html)" "${reports[@]}" "$(newest comparison json)"

[[ $dry ]] || printf '\nresults: %s\n         %s\nreport:  %s\n' \
  "$(newest comparison json)" "$(newest kd_comparison png)" "$(newest report html)"
[[ ! $demo || $dry ]] || echo "These are generated scenes: they show that all works, and nothing about COCO."
