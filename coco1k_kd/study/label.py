"""Label images that have no labels: a teacher's boxes as YOLO labels, COCO JSON, a data YAML and a page to review.

    coco1k-kd label --teacher yolo11l.pt --images photos --output labelled
    coco1k-kd label --teacher yolo11l.pt --images photos --output labelled --data my.yaml --class-map truck=vehicle

Images are linked to, never copied or changed. The same command again goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from coco1k_kd.errors import run_cli
from coco1k_kd.flags import Parser
from coco1k_kd.report.words import languages
from coco1k_kd.study.labelling import FORMATS, Order, label


def looking(text: str | None) -> Parser:
    """A parser with the flags of every command in which a teacher looks at images."""
    p = Parser(text)
    p.add_argument("--teacher", required=True, metavar="PT", help="the detector that looks at the images")
    p.add_argument("--output", required=True, type=Path, metavar="DIR", help="where all results are written")
    p.add_argument(
        "--device", default="", help="cpu, mps, or the numbers of GPUs, as 0 or 0,1 (default: Ultralytics' choice)"
    )
    p.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        help="processes that share the images; of several GPUs each has one (default: one for each of --device)",
    )
    p.add_argument("--batch", type=int, default=16, metavar="N", help="images at a time (default: 16)")
    p.add_argument(
        "--class-map", nargs="+", default=[], metavar="FROM=TO", help="teacher's classes that have another name here"
    )
    p.add_argument("--language", default="en", choices=languages(), help="of the page to review (default: en)")
    return p


def parser() -> Parser:
    """The flags: the fields of `Order`."""
    p = looking(__doc__)
    p.add_argument("--images", required=True, type=Path, metavar="DIR|FILE", help="a folder, or a list of images")
    p.add_argument(
        "--data",
        type=Path,
        metavar="YAML",
        help="labelled data: its classes are taken, by name, and its val images choose each class's threshold; none of "
        "its images is labelled",
    )
    p.add_argument(
        "--imgsz",
        type=int,
        metavar="N",
        help="pixels, a multiple of 32 (default: of a few the one of the best AP on the val images of --data; without "
        "--data the one that the teacher was trained at)",
    )
    p.add_argument(
        "--confidence",
        type=float,
        default=0.3,
        metavar="X",
        help="least score of a label, without --data (default: 0.3)",
    )
    p.add_argument(
        "--format", nargs="+", default=["yolo"], choices=FORMATS, help="what is written besides (default: yolo alone)"
    )
    return p


def main() -> int:
    """Parse, and label."""
    label(Order(**vars(parser().parse_args())))
    return 0


if __name__ == "__main__":
    run_cli(main)
