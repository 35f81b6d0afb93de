#!/usr/bin/env bash
# Everything that only a card can tell, in order of value: the time of a step, where it goes, then a study of each start.
#
#   benchmarks/gpu/all.sh /data/coco                             # into ./gpu; 2 hours a study
#   HOURS=6 STARTS=frozen benchmarks/gpu/all.sh /data/coco       # one start, six hours
#   ARMS="baseline cwd+response baseline_same_time" benchmarks/gpu/all.sh /data/coco # equal time: teacher or epochs?
#
# Each step leaves its JSON or its report in the folder. The same command continues after any kind of end.
set -euo pipefail

coco=${1:?usage: benchmarks/gpu/all.sh COCO_ROOT [FOLDER]}
folder=${2:-gpu}
here=$(dirname "$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")")
python=${PYTHON:-$here/.venv/bin/python}
student=${STUDENT:-yolo11n.pt} teacher=${TEACHER:-yolov8m.pt}
shared=(--student "$student" --teacher "$teacher" --imgsz "${IMGSZ:-640}" --batch "${BATCH:-16}" --device "${DEVICE:-0}")

measure() { # name, program, flags: its JSON, unless it is there
  [[ -s $folder/$1.json ]] && return
  "$python" "$here/benchmarks/$2" "${shared[@]}" "${@:3}" >"$folder/$1.json.part"
  mv "$folder/$1.json.part" "$folder/$1.json"
  echo "wrote $folder/$1.json"
}

mkdir -p "$folder"
[[ -e $folder/coco1k/manifest.json ]] ||
  "$python" "$here/create_coco1k.py" --coco-root "$coco" --output-dir "$folder/coco1k" \
    --target-size "${TARGET_SIZE:-1500}" --val-size "${VAL_SIZE:-400}"
data=(--data "$folder/coco1k/coco1k.yaml")

measure kd_step kd_step.py --rounds "${ROUNDS:-50}"
measure breakdown gpu/breakdown.py "${data[@]}" --steps "${STEPS:-40}" --workers "${WORKERS:-8}"
for start in ${STARTS:-neck frozen weights}; do
  # shellcheck disable=SC2086 # ARMS is a list
  "$python" "$here/test_coco1k_kd.py" "${data[@]}" "${shared[@]}" --start "$start" --project "$folder/$start" --resume \
    --arms ${ARMS:-baseline cwd mgd ultralytics} --epochs "${EPOCHS:-50}" --workers "${WORKERS:-8}" \
    --seeds auto --hours "${HOURS:-2}"
done
