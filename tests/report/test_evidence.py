"""What the page shows of saved predictions: the images that differ most, curves and calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from comparisons import STAMP
from pages import Page
from PIL import Image

from coco1k_kd.report.comparison import Comparison
from coco1k_kd.report.evidence import gather
from coco1k_kd.report.examples import told_apart
from coco1k_kd.report.words import Words
from coco1k_kd.report.write import write_report
from coco1k_kd.verdict.matching import coco_metrics

EN = Words()


def test_the_curves_are_cocos(study: Comparison) -> None:
    found = gather(study, EN)
    assert not found.left_out and list(found.precision_recall) == ["0.5", "0.75"]
    annotations = Path(study.judged_by.annotations)
    for arm, content in study.arms.items():
        own = [coco_metrics(annotations, Path(run.predictions)) for run in content.runs]
        for iou, key in (("0.5", "ap50"), ("0.75", "ap75")):
            curve = found.precision_recall[iou][arm]
            assert np.mean(curve.precision) == pytest.approx(np.mean([figures[key] for figures in own]), abs=1e-9)
    assert set(found.calibration) == {"baseline", "cwd"}


def test_the_images_that_differ_most_come_first(study: Comparison) -> None:
    found = gather(study, EN).examples
    assert found is not None and 0 < len(found.won) <= 6 and len(found.lost) <= 6
    shares = [example.share for example in (*found.won, *reversed(found.lost))]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0
    best = found.won[0]
    assert best.name.startswith("folder/") and best.path.is_file() and list(best.found) == ["baseline", "cwd"]
    hits = [len(told_apart(boxes, best.truth)[0]) for boxes in best.found.values()]
    assert hits[1] >= hits[0], "where the arm won most, it finds no fewer"


def test_pictures_are_in_the_page_and_beside_it(study: Comparison, tmp_path: Path) -> None:
    paths = write_report(study, tmp_path, STAMP, "ko")
    page = Page(paths[-1].read_text())
    shown = [attributes for tag, attributes in page.elements if tag == "img"]
    slides = sorted((tmp_path / f"pictures_{STAMP}.ko").iterdir())
    assert len(shown) == 3 * len(slides) and len(slides) > 6
    assert all(len(image["alt"]) > 5 and image["src"].startswith("data:image/jpeg;base64,") for image in shown)
    assert Image.open(slides[0]).width > 1800
    assert paths[-1].stat().st_size < 5_000_000


@pytest.mark.parametrize("gone", ["predictions", "annotations", "changed", "image", "broken", "record"])
def test_what_is_gone_is_left_out_and_said(study: Comparison, tmp_path: Path, gone: str) -> None:
    annotations, predictions = Path(study.judged_by.annotations), study.arms["cwd"].runs[1].predictions
    if gone == "predictions":
        Path(predictions).unlink()
    elif gone == "annotations":
        annotations.unlink()
    elif gone == "changed":
        annotations.write_text(annotations.read_text() + " ")
    elif gone == "image":
        for path in (tmp_path / "images" / "folder").iterdir():
            path.unlink()
    elif gone == "broken":
        Path(predictions).write_text("[{")
    else:
        study.judged_by = None
    found = gather(study, EN)
    assert len(found.left_out) == 1 and found.left_out[0].startswith("Left out: the pictures")
    assert found.examples is None and bool(found.precision_recall) == (gone == "image")
    named = {"predictions": predictions, "annotations": str(annotations), "changed": str(annotations)}
    assert named.get(gone, "") in found.left_out[0]
    page = Page(write_report(study, tmp_path, STAMP)[-1].read_text())
    assert found.left_out[0] in page.text and not (tmp_path / f"pictures_{STAMP}").exists()


def test_one_arm_has_curves_and_no_pictures(study: Comparison) -> None:
    study.comparisons = []
    found = gather(study, EN)
    assert found.examples is None and not found.left_out and set(found.precision_recall["0.5"]) == {"baseline", "cwd"}


def test_a_model_that_finds_nothing_has_a_page_too(study: Comparison, tmp_path: Path) -> None:
    for arm in study.arms.values():
        for run in arm.runs:
            Path(run.predictions).write_text("[]")
    found = gather(study, EN)
    assert sum(found.precision_recall["0.5"]["cwd"].precision) == 0
    assert found.examples is None and not found.left_out, "no image has a share of a difference that there is not"
    text = Page(write_report(study, tmp_path, STAMP)[-1].read_text()).text
    assert EN("verdict") in text and EN("pictures") not in text
