"""Warnings that no interval covers; those of collapsed and failed runs are tested on the whole report."""

from __future__ import annotations

from comparisons import EN, comparison
from msgspec import structs

from coco1k_kd.report.cautions import cautions
from coco1k_kd.report.words import Words

KO = Words("ko")


def test_arms_stand_beside_a_student_that_knows_some_of_the_classes():
    content = comparison(seeds=3)
    content.references["student"] = structs.replace(content.references["student"], ap=0.18, classes=["cat", "dog"])
    content.arms["baseline"].ap_known, content.arms["cwd"].ap_known = 0.213, 0.25
    (said,) = (line for line in cautions(content, EN) if "as given" in line)
    assert said.startswith("On the 2 classes that it knows, the student as given has 18.0 AP")
    assert "baseline 21.3, cwd 25.0" in said and "baseline 21.3, cwd 25.0" in " ".join(cautions(content, KO))
    content.references["student"].classes = []
    assert not any("classes that it knows" in line for line in cautions(content, EN))
