"""Find labels that are likely missing or wrong: a teacher looks at labelled images, and what it sees is compared.

    coco1k-kd review --teacher yolo11l.pt --data my.yaml --output review

Writes a page of pictures, label_review.html, and a list, label_review.json. Labels and images are only read.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from coco1k_kd.data.given import open_data
from coco1k_kd.data.made import Made
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError, count, run_cli
from coco1k_kd.flags import Parser
from coco1k_kd.report.words import Words
from coco1k_kd.runs.devices import check_device
from coco1k_kd.study.doubts import LIST, PAGE, review
from coco1k_kd.study.hyperparameters import check_imgsz
from coco1k_kd.study.label import looking
from coco1k_kd.study.labelling import slots_of
from coco1k_kd.study.teaching import Labeller, best_imgsz, classes_of_labels


def parser() -> Parser:
    """The flags."""
    p = looking(__doc__)
    p.add_argument("--data", required=True, type=Path, metavar="YAML", help="labelled data")
    p.add_argument("--split", default="train", choices=("train", "val", "test"), help="default: train")
    p.add_argument(
        "--imgsz", type=int, metavar="N", help="pixels (default: of a few the one of the best AP on the val images)"
    )
    return p


def main() -> int:
    """Parse, look, write, and say what was found."""
    args = parser().parse_args()
    check_imgsz(args.imgsz, "--imgsz")
    check_device(args.device)
    if args.batch < 1:
        raise UserError(f"--batch {args.batch}: must be at least 1")
    teacher = read_weights(args.teacher, "teacher")
    with TemporaryDirectory() as folder, slots_of(args.parallel, args.device) as slots:
        data = open_data(args.data, Path(folder))
        split = data.splits.get(args.split)
        if split is None:
            raise UserError(f"--split {args.split}: {args.data} has none")
        numbers = classes_of_labels(teacher, data.classes, args.class_map)[1]
        labeller = Labeller(teacher, numbers, args.output, args.device, args.batch, slots)
        made = Made(args.output, (PAGE, LIST))
        imgsz = args.imgsz or best_imgsz(labeller.aps(data.val))
        thresholds = labeller.thresholds(data.val, imgsz)
        known = np.isin(np.arange(len(data.classes)), numbers)
        tables = labeller.tables(split, imgsz, args.split)
        files, number = review(split, tables, thresholds, known, Path(teacher.path).name, Words(args.language))
    made.write(files, {})
    print(f"{count(number, 'label')} to look at in {count(len(tables), 'image')} of {args.split}, seen at {imgsz} px")
    print(f"look at {args.output / PAGE}; the list is {args.output / LIST}")
    return 0


if __name__ == "__main__":
    run_cli(main)
