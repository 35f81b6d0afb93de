"""What the start of a study, and `--check`, read: every annotation file once, wherever the data come from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from layouts import NAMES, roboflow
from studies import likely_models

import create_coco1k
from coco1k_kd.data import annotations
from coco1k_kd.data.given import check
from coco1k_kd.runs.slots import Slots
from coco1k_kd.study.opening import open_study
from coco1k_kd.study.settings import Settings

Parsed = Counter[str]
_KEYS = (b'"images"', b'"annotations"', b'"categories"')


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Parsed]:
    """How often each annotation file is decoded, by its content: whoever decodes it, from a file or from its bytes."""
    counts: Parsed = Counter()

    def counted(decode: Callable[..., Any]) -> Callable[..., Any]:
        def counting(data: Any, *args: Any, **options: Any) -> Any:
            content = data.encode() if isinstance(data, str) else bytes(data)
            if all(key in content for key in _KEYS):
                counts[sha256(content).hexdigest()] += 1
            return decode(data, *args, **options)

        return counting

    monkeypatch.setattr(msgspec.json, "decode", counted(msgspec.json.decode))
    monkeypatch.setattr(json, "loads", counted(json.loads))
    annotations._kept.cache_clear()
    yield counts
    annotations._kept.cache_clear()


def _study(folder: Path, names: list[str], **asked: Any) -> None:
    likely_models(folder, names)
    models = {name: str(folder / f"{name}.pt") for name in ("student", "teacher")}
    settings = Settings(project=folder / "project", epochs=1, imgsz=64, device="cpu", **models, **asked)
    open_study(settings.checked(), False, Slots(1))


def _digests(*files: Path) -> set[str]:
    return {sha256(file.read_bytes()).hexdigest() for file in files}


def _of_subset(root: Path) -> set[str]:
    return _digests(*(root / f"annotations/instances_{split}2017.json" for split in ("train", "val")))


@pytest.mark.parametrize("start", ["check", "study"])
def test_every_annotation_file_of_a_subset_is_parsed_once(
    start: str, subset: Path, coco_root: Path, tmp_path: Path, parsed: Parsed
) -> None:
    data = subset / "coco1k.yaml"
    if start == "check":
        check(data)
        assert set(parsed) == _of_subset(subset)
    else:
        _study(tmp_path, yaml_names(data), data=data, coco_root=coco_root, judge="full", draws=3, seeds=[0])
        draws = sorted((tmp_path / "project/draws").glob("*_draw?"))
        assert len(draws) == 2
        assert set().union(*map(_of_subset, [subset, coco_root, *draws])) <= set(parsed)
    assert set(parsed.values()) == {1}, parsed


@pytest.mark.parametrize("start", ["check", "study"])
def test_the_truth_of_a_data_yaml_with_a_test_split_is_parsed_once(start: str, tmp_path: Path, parsed: Parsed) -> None:
    data = roboflow(tmp_path)
    if start == "check":
        check(data)
    else:
        _study(tmp_path, NAMES, data=data, seeds=[0])
        assert set(parsed) >= _digests(*(tmp_path / "project/data").glob("*/*.json"))
    assert len(parsed) >= 3 and set(parsed.values()) == {1}, parsed


def test_what_a_pilot_of_a_data_yaml_was_drawn_from_is_parsed_once(
    subset: Path, tmp_path: Path, parsed: Parsed
) -> None:
    names = yaml_names(subset / "coco1k.yaml")
    for split in ("train2017", "val2017"):
        for what in ("images", "labels"):
            (tmp_path / "own" / what).mkdir(parents=True, exist_ok=True)
            (tmp_path / "own" / what / split).symlink_to(subset / what / split)
    content = {"path": str(tmp_path / "own"), "train": "images/train2017", "val": "images/val2017", "names": names}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(content))
    flags = ["--data", str(tmp_path / "my.yaml"), "--target-size", "24", "--val-size", "12"]
    create_coco1k.create(create_coco1k.parser().parse_args([*flags, "--output-dir", str(tmp_path / "pilot")]))
    annotations._kept.cache_clear()
    parsed.clear()
    _study(tmp_path, names, data=tmp_path / "pilot/coco1k.yaml", judge="full", draws=2, seeds=[0])
    assert _of_subset(tmp_path / "pilot") <= set(parsed)
    assert set(parsed.values()) == {1}, parsed


def test_images_of_the_pool_that_are_of_a_judging_group_are_told_of(
    subset: Path, coco_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used = {path.name for path in (subset / "images" / "train2017").iterdir()}
    source = next(path for path in sorted((coco_root / "train2017").iterdir()) if path.name not in used)
    name = min(path.name for path in (subset / "images" / "val2017").iterdir())
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / name).write_bytes(source.read_bytes())
    asked = {"data": subset / "coco1k.yaml", "judge": "val", "groups": r"(\d+)\.jpg", "seeds": [0]}
    _study(tmp_path, yaml_names(asked["data"]), **asked)
    assert "hold images to train on as well" not in capsys.readouterr().out
    _study(tmp_path, yaml_names(asked["data"]), **asked, unlabelled=tmp_path / "pool")
    assert "1 of the groups hold images to train on as well" in capsys.readouterr().out


def yaml_names(data: Path) -> list[str]:
    return list(yaml.safe_load(data.read_text())["names"].values())
