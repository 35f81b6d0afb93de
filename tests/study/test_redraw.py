"""Train images drawn anew: other images by the same rules, one val set, and each draw made once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from studies import PROGRAM, run

from coco1k_kd.data.dataset import Data, read_data
from coco1k_kd.data.manifest import read_manifest
from coco1k_kd.data.verify import verify
from coco1k_kd.errors import UserError
from coco1k_kd.study.redraw import further_draws


@pytest.fixture(scope="module")
def data(subset: Path) -> Data:
    return read_data(subset / "coco1k.yaml")


@pytest.fixture(scope="module")
def drawn(data: Data, coco_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    project = tmp_path_factory.mktemp("draws")
    return project, list(further_draws(data, 3, coco_root, project))


def test_draws_differ_in_their_train_images_alone(data: Data, drawn: tuple[Path, list]) -> None:
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


def test_draws_are_made_once(data: Data, coco_root: Path, drawn: tuple[Path, list]) -> None:
    project, made = drawn
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert further_draws(data, 3, None, project) == tuple(made)
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before
    assert further_draws(data, 1, None, project) == ()


def test_what_cannot_be_drawn_is_refused(data: Data, coco_root: Path, drawn: tuple[Path, list], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name with --coco-root what the subset"):
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
        further_draws(Data(**{**vars(data), "root": bare}), 2, coco_root, tmp_path)


@pytest.mark.slow
def test_a_finished_study_gets_another_draw(
    whole: SimpleNamespace, command: list[str], coco_root: Path, tmp_path: Path
) -> None:
    stamp = whole.path.stem.removeprefix("comparison_")
    for path in [*whole.project.glob(f"*{stamp}*"), whole.project / "references"]:
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    kept = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")}
    more = ["--resume", "--draws", "2", "--coco-root", str(coco_root), "--parallel", "2"]
    done = run([*command[:-1], str(tmp_path)], *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"adding to the study of {stamp}" in done.stdout
    assert {path: path.read_bytes() for path in kept} == kept, "the first comparison stands"
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "finished runs were repeated"
    (path,) = set(tmp_path.glob("comparison_*.json")) - kept.keys()
    content = json.loads(path.read_bytes())
    jsonschema.validate(content, json.loads((PROGRAM.parent / "docs" / "comparison.schema.json").read_bytes()))
    draws = content["dataset"]["draws"]
    assert len({draw["train_annotations_sha256"] for draw in draws}) == 2
    assert len({draw["val_annotations_sha256"] for draw in draws}) == 1
    for name, arm in content["arms"].items():
        first, second = arm["runs"]
        assert (first["draw"], second["draw"]) == (0, 1) and first["batch_hash"] != second["batch_hash"]
        assert first["init_hash"] == second["init_hash"], "the seed alone sets the start"
        assert first["curves"] == whole.content["arms"][name]["runs"][0]["curves"]
        assert stamp in first["dir"] and Path(second["dir"]).name.endswith("_draw1")
    assert [run["at_once"] for run in content["arms"]["cwd"]["runs"]] == [1, 2] and content["at_once"] == 2
