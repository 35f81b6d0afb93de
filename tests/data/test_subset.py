"""The subset on disk: complete, faithful, checkable; and whatever goes wrong, nothing is lost or half-written."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from subsets import annotations, content, cut, first, make

import create_coco1k
from coco1k_kd.data.verify import verify
from coco1k_kd.errors import UserError


def test_layout_and_manifest(coco_root: Path, subset: Path):
    manifest = json.loads((subset / "manifest.json").read_text())
    data = yaml.safe_load((subset / "coco1k.yaml").read_text())
    assert data["path"] == str(subset)
    assert Path(data["path"]).is_absolute()
    for split, size in (("train", 48), ("val", 24)):
        source = json.loads(annotations(coco_root, split).read_text())
        chosen = json.loads(annotations(subset, split).read_text())
        part = manifest[split]
        ids = [image["id"] for image in chosen["images"]]
        assert ids == part["image_ids"] == sorted(ids)
        assert len(set(ids)) == size
        assert manifest["source"][split]["sha256"] == sha256(annotations(coco_root, split).read_bytes()).hexdigest()
        assert data["names"] == dict(enumerate(c["name"] for c in sorted(source["categories"], key=lambda c: c["id"])))
        for key in ("images", "annotations"):  # every field of every entry
            by_id = {entry["id"]: entry for entry in source[key]}
            assert all(by_id[entry["id"]] == entry for entry in chosen[key])
        assert sum(a["image_id"] in set(ids) for a in source["annotations"]) == len(chosen["annotations"])

        images = {path.name for path in (subset / data[split]).iterdir()}
        assert images == {image["file_name"] for image in chosen["images"]}
        assert (subset / f"{split}2017").resolve() == subset / "images" / f"{split}2017"
        assert {Path(name).stem for name in images} == {p.stem for p in (subset / "labels" / f"{split}2017").iterdir()}
        valid = [a for a in chosen["annotations"] if not a["iscrowd"]]
        names = {c["id"]: c["name"] for c in chosen["categories"]}
        for name, count in part["images_per_class"].items():
            assert count == len({a["image_id"] for a in valid if names[a["category_id"]] == name})
            assert part["instances_per_class"][name] == sum(names[a["category_id"]] == name for a in valid)
        assert set(part["files"]) == {
            str(p.relative_to(subset))
            for folder in ("images", "labels")
            for p in (subset / folder / f"{split}2017").iterdir()
        } | {f"annotations/instances_{split}2017.json"}
    assert verify(subset) == []


def test_no_images_writes_annotations_manifest_and_yaml_only(coco_root: Path, tmp_path: Path):
    folder = make(coco_root, tmp_path / "made", "--no-images")
    expected = {"annotations/instances_train2017.json", "annotations/instances_val2017.json"}
    assert set(content(folder)) == expected | {"manifest.json", "coco1k.yaml"}
    assert verify(folder) == []


def test_same_inputs_same_bytes_in_any_order(coco_root: Path, made: Path, copy: Path, tmp_path: Path):
    again = content(make(copy, tmp_path / "again"))
    assert {k: v for k, v in again.items() if k != "coco1k.yaml"} == {
        k: v for k, v in content(made).items() if k != "coco1k.yaml"
    }
    for split in ("train", "val"):
        path = annotations(copy, split)
        data = json.loads(path.read_text())
        for entries in (data["images"], data["annotations"], data["categories"]):
            random.Random(1).shuffle(entries)
        path.write_text(json.dumps(dict(reversed(data.items())), indent=1))
    shuffled = make(copy, tmp_path / "shuffled")
    names = [name for name in content(made) if name.startswith(("images", "labels"))]
    assert [content(shuffled)[name] for name in names] == [content(made)[name] for name in names]
    assert (
        json.loads((shuffled / "manifest.json").read_text())["train"]["image_ids"]
        == (json.loads((made / "manifest.json").read_text())["train"]["image_ids"])
    )


def test_ground_truth_as_predictions_has_ap_1(subset: Path):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations(subset, "val")))
        valid = [a for a in truth.dataset["annotations"] if not a["iscrowd"]]
        keys = ("image_id", "category_id", "bbox")
        found = truth.loadRes([{k: a[k] for k in keys} | {"score": 1.0} for a in valid])
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_an_interrupt_loses_no_file_of_the_users(made: Path, copy: Path, monkeypatch):
    (made / "notes.txt").write_text("mine")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "notes.txt":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started without
    try:
        with pytest.raises(KeyboardInterrupt):
            make(copy, made, "--seed", "1", "--force")
    finally:
        signal.signal(signal.SIGINT, before)
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join(0 if thread.daemon else 30)  # as the interpreter's end does
    assert (made / "notes.txt").read_text() == "mine"
    assert not list(made.parent.glob(".*"))


def test_an_existing_folder_is_not_touched(made: Path, copy: Path):
    before = content(made)
    with pytest.raises(UserError, match=r"exists; --force replaces"):
        make(copy, made, "--seed", "1")
    assert content(made) == before


def test_force_replaces_its_own_and_keeps_the_rest(made: Path, copy: Path):
    old = content(made)
    (made / "notes.txt").write_text("mine")
    with (made / "labels/train2017.cache").open("wb") as cache:
        np.save(cache, {"hash": "Ultralytics'"})
    (made / "empty").mkdir()
    make(copy, made, "--seed", "1", "--force")
    assert (made / "notes.txt").read_text() == "mine"
    assert (made / "labels/train2017.cache").is_file()
    assert (made / "empty").is_dir()
    assert verify(made) == []
    assert set(old) - set(content(made))  # images that this seed does not draw are gone
    assert not list(made.parent.glob(".*"))


@pytest.mark.parametrize("changed", ["coco1k.yaml", "labels/train2017", "manifest.json"])
def test_force_leaves_what_was_changed(made: Path, copy: Path, changed: str):
    path = made / changed
    path = path / first(path) if path.is_dir() else path
    path.write_text(path.read_text() + "# mine\n")
    before = content(made)
    with pytest.raises(UserError, match=r"was changed since|not a whole manifest"):
        make(copy, made, "--seed", "1", "--force")
    assert content(made) == before


def test_force_leaves_a_folder_that_is_no_subset(copy: Path):
    before = content(copy)
    with pytest.raises(UserError, match="was not made by this tool"):
        make(copy, copy, "--force")
    assert content(copy) == before


def failures(copy: Path, monkeypatch) -> dict[str, tuple]:
    """What can go wrong: how, and what is raised and said."""

    def breaks(error: BaseException, after: int):
        calls = iter(range(10**6))
        link = os.link

        def broken(*args, **kwargs):
            if next(calls) >= after:
                raise error
            link(*args, **kwargs)

        return lambda: monkeypatch.setattr(os, "link", broken)

    usage = namedtuple("usage", "total used free")
    chosen = copy / "train2017"
    return {
        "torn json": (lambda: cut(annotations(copy, "val"), 0.6), UserError, "not a whole COCO instances file"),
        "no json": (lambda: annotations(copy, "val").unlink(), UserError, "--coco-root.*--download"),
        "missing images": (lambda: shutil.rmtree(chosen), UserError, "40 of the 60 chosen images are missing.*jpg, .*"),
        "cut image": (lambda: [cut(p, 0.8) for p in chosen.iterdir()], UserError, "is cut short"),
        "full disk, foreseen": (
            lambda: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 10)),
            UserError,
            "needs .* MB but .* 0 MB free",
        ),
        "full disk": (
            breaks(OSError(errno.ENOSPC, "No space left on device"), 9),
            UserError,
            "No space left on device",
        ),
        "interrupt": (breaks(KeyboardInterrupt(), 9), KeyboardInterrupt, None),
    }


@pytest.mark.parametrize(
    "what", ["torn json", "no json", "missing images", "cut image", "full disk, foreseen", "full disk", "interrupt"]
)
@pytest.mark.parametrize("before", ["nothing", "a subset"])
def test_a_failure_leaves_the_old_subset_or_none(copy: Path, tmp_path: Path, monkeypatch, what: str, before: str):
    output = tmp_path / "out" / "made"
    if before == "a subset":
        make(copy, output)
        (output / "notes.txt").write_text("mine")
    old = content(output)
    harm, error, says = failures(copy, monkeypatch)[what]
    harm()
    with pytest.raises(error, match=says):
        make(copy, output, "--seed", "1", "--force")
    monkeypatch.undo()
    assert content(output) == old
    assert output.exists() == bool(old)
    assert not list(output.parent.glob(".*")) if output.parent.exists() else True


@pytest.mark.parametrize("moment", [0, 1])
def test_an_interrupt_while_renaming_leaves_the_old_subset(made: Path, copy: Path, monkeypatch, moment: int):
    old, rename, calls = content(made), Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == moment + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(copy, made, "--seed", "1", "--force")
    assert content(made) == old
    assert not list(made.parent.glob(".*"))


def test_a_target_larger_than_the_pool_says_how_large_the_pool_is(copy: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"--target-size 9999: only \d+ images of train have a valid box"):
        make(copy, tmp_path / "made", "--target-size", "9999")
    assert not (tmp_path / "made").exists()


def test_splits_with_other_categories_are_refused(copy: Path, tmp_path: Path):
    path = annotations(copy, "val")
    path.write_text(path.read_text().replace('"name": "person"', '"name": "human"'))
    with pytest.raises(UserError, match="different categories"):
        make(copy, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_source_is_only_read(copy: Path, tmp_path: Path):
    before = content(copy)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    make(copy, tmp_path / "made")
    make(copy, tmp_path / "made", "--seed", "1", "--force")
    assert content(copy) == before


def test_download_fetches_only_the_chosen_images(copy: Path, tmp_path: Path, monkeypatch):
    store = copy.rename(tmp_path / "store")
    root = tmp_path / "root"
    asked = []

    def fetch_annotations(coco_root: Path) -> None:
        shutil.copytree(store / "annotations", coco_root / "annotations")

    def fetch_images(images: list[tuple[str, Path]], workers: int) -> None:
        for _, path in images:
            asked.append(path)
            path.parent.mkdir(exist_ok=True)
            shutil.copy(store / path.relative_to(root), path)

    monkeypatch.setattr("coco1k_kd.data.download.fetch_annotations", fetch_annotations)
    monkeypatch.setattr("coco1k_kd.data.download.fetch_images", fetch_images)
    folder = make(root, tmp_path / "made", "--download")
    assert len(asked) == 60
    assert verify(folder) == []


@pytest.mark.parametrize("bbox", [[1, 2, 3000, 4], [-100, 2, 20, 4]])
def test_a_box_outside_its_image_is_refused(copy: Path, tmp_path: Path, bbox: list[int]):
    path = annotations(copy, "train")
    data = json.loads(path.read_text())
    for annotation in data["annotations"]:
        annotation["bbox"] = bbox
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"annotation \d+ has the bbox .* outside its image of \d+x\d+"):
        make(copy, tmp_path / "made")
    assert not list(tmp_path.glob("*made*"))


@pytest.mark.parametrize("flags", [["--seed", "-1"], ["--target-size", "0"], ["--link", "soft"], ["--balance", "x"]])
def test_a_wrong_flag_is_one_line(flags: list[str]):
    with pytest.raises(UserError, match=f"^{flags[0]}: .*{flags[1]}"):
        create_coco1k.parser().parse_args(flags)


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--coco-root", "nowhere"], 2, "error: no COCO annotations at nowhere/.*--coco-root.*--download"),
        (["--verify", "nowhere"], 2, "error: cannot read nowhere/manifest.json: No such file"),
        (["--verify", "{subset}"], 0, ""),
        (["--from-manifest", "{subset}/coco1k.yaml"], 2, "error: .*coco1k.yaml: not a whole manifest"),
    ],
)
def test_the_program_ends_with_one_line_and_a_code(
    subset: Path, tmp_path: Path, flags: list[str], code: int, says: str
):
    script = Path(create_coco1k.__file__).resolve()
    command = [sys.executable, str(script), *(flag.format(subset=subset) for flag in flags)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code
    assert re.match(says, done.stderr)
    assert done.stderr.count("\n") == (code != 0)
    assert list(tmp_path.iterdir()) == []
