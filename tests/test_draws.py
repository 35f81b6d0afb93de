"""Train images drawn anew: other images by the same rules, one val set, and each draw made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coco1k_kd import inputs
from coco1k_kd.draws import further_draws
from coco1k_kd.errors import UserError
from coco1k_kd.manifest import read_manifest
from coco1k_kd.verification import verify


@pytest.fixture(scope="module")
def data(subset: Path) -> inputs.Data:
    return inputs.read_data(subset / "coco1k.yaml")


@pytest.fixture(scope="module")
def drawn(data: inputs.Data, coco_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    project = tmp_path_factory.mktemp("draws")
    return project, list(further_draws(data, 3, coco_root, project))


def test_draws_differ_in_their_train_images_alone(data: inputs.Data, drawn: tuple[Path, list]) -> None:
    draws = [data, *drawn[1]]
    manifests = [read_manifest(draw.root / "manifest.json") for draw in draws]
    assert [manifest.seed for manifest in manifests] == [0, 1, 2]
    assert len({tuple(manifest.train.image_ids) for manifest in manifests}) == 3
    assert {draw.train.size for draw in draws} == {48} and len({draw.classes for draw in draws}) == 1
    records = [draw.record() for draw in draws]
    assert len({record["val_annotations_sha256"] for record in records}) == 1, "one instrument"
    assert len({record["train_annotations_sha256"] for record in records}) == 3
    assert [manifest.train.k for manifest in manifests[1:]] == [manifests[0].train.k] * 2, "as even as the first"
    for draw in drawn[1]:
        assert verify(draw.root) == []


def test_draws_are_made_once(data: inputs.Data, coco_root: Path, drawn: tuple[Path, list]) -> None:
    project, made = drawn
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert further_draws(data, 3, None, project) == tuple(made)
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before
    assert further_draws(data, 1, None, project) == ()


def test_what_cannot_be_drawn_is_refused(
    data: inputs.Data, coco_root: Path, drawn: tuple[Path, list], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="say with --coco-root what COCO"):
        further_draws(data, 2, None, tmp_path)
    other = tmp_path / "other"
    shutil.copytree(coco_root / "annotations", other / "annotations")
    (other / "annotations" / "instances_train2017.json").write_text(
        (coco_root / "annotations" / "instances_val2017.json").read_text()
    )
    with pytest.raises(UserError, match="is not the file the manifest was made from"):
        further_draws(data, 2, other, tmp_path)
    assert not (tmp_path / "draws").exists()
    name = drawn[1][0].root.name
    shutil.copytree(drawn[1][1].root, tmp_path / "draws" / name, symlinks=True)
    with pytest.raises(UserError, match=f"{name} is not draw 1 of"):
        further_draws(data, 2, coco_root, tmp_path)
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        further_draws(inputs.Data(**{**vars(data), "root": bare}), 2, coco_root, tmp_path)
