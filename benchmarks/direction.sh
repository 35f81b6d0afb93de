#!/usr/bin/env bash
# Does distillation still point the right way? A small real study, to be run after a change to what is learned:
#
#   STUDENT=yolo11n.pt TEACHER=yolov8m.pt benchmarks/direction.sh COCO_ROOT [FOLDER]
#
# 300 images, 320 px, 6 epochs, a fresh head, three seeds; minutes and figures on two CPU cores: docs/results.md.
# Fails if the mean AP of CWD is not above the baseline's. A second call goes on where the first one ended.
set -euo pipefail

coco=${1:?usage: benchmarks/direction.sh COCO_ROOT [FOLDER]}
folder=${2:-direction}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}

[[ -e $folder/coco300/coco1k.yaml ]] ||
    "$python" "$here/create_coco1k.py" --coco-root "$coco" --target-size 300 --val-size 200 --output-dir "$folder/coco300"
"$python" "$here/test_coco1k_kd.py" --data "$folder/coco300/coco1k.yaml" --project "$folder/study" --resume \
    --student "${STUDENT:-yolo11n.pt}" --teacher "${TEACHER:-yolo11l.pt}" --start neck --arms baseline cwd \
    --seeds 0 1 2 --epochs 6 --imgsz 320 --device cpu --train cache=ram --parallel 2
"$python" - "$folder"/study/comparison_*.json <<'PYTHON'
import json
import sys

means = {pair["arm"]: pair["d_ap"]["mean"] for pair in json.load(open(sys.argv[-1]))["comparisons"]}
print("direction:", ", ".join(f"{arm} {100 * mean:+.1f} AP" for arm, mean in means.items()))
sys.exit(means["cwd"] <= 0 and "direction.sh: CWD no longer helps a fresh head: what has changed?")
PYTHON
