"""Labelling by a teacher, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from programs import call
from studies import environment

from coco1k_kd.runs import taught
from coco1k_kd.runs.boxes import BoxStore
from coco1k_kd.runs.launch import RunFailed
from coco1k_kd.study.labelling import Order, label, slots_of

PROJECT = Path(__file__).resolve().parents[2]


def run(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coco1k_kd", "label", *map(str, flags), "--imgsz", "64", "--device", "cpu"]
    return call(command, cwd=PROJECT, env=environment())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images in folders with a space and Korean letters: two share a stem; one is broken, a copy, turned."""
    folder = tmp_path / "내 사진" / "images"
    (folder / "가 나").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("one.jpg", "one.png", "가 나/둘.jpg", "turned.jpg"):
        image = Image.fromarray(random.integers(0, 255, (60, 100, 3), np.uint8))
        exif = Image.Exif()
        if name == "turned.jpg":
            exif[0x0112] = 6
        image.save(folder / name, exif=exif)
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "copy.jpg").write_bytes((folder / "one.jpg").read_bytes())
    (folder / "one.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    return folder


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_images_are_labelled_and_never_changed(photos: Path, models: Path, tmp_path: Path) -> None:
    before, output = state(photos), tmp_path / "ou t"
    command = ["--teacher", models / "teacher.pt", "--images", photos, "--output", output, "--confidence", 0.06]
    done = run(*command, "--format", "cvat", "label-studio")
    assert done.returncode == 0, done.stderr
    assert state(photos) == before
    assert "broken.jpg is left out: cannot be decoded" in done.stdout and "same content" in done.stdout
    assert "2 images with labels beside, which are ignored" in done.stdout  # one.jpg and one.png
    content = json.loads((output / "annotations.json").read_bytes())
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in content["images"]}
    assert len(sizes) == 4 and sizes["turned.jpg"] == (60, 100) and sizes["가 나/둘.jpg"] == (100, 60)
    assert content["annotations"] and all(0.06 <= box["score"] <= 1 for box in content["annotations"])
    assert [box["id"] for box in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    lines = 0
    for image in content["images"]:
        label = (output / "labels" / image["file_name"]).with_suffix(".txt")
        rows = np.array([line.split() for line in label.read_text().splitlines()], float).reshape(-1, 5)
        boxes = [box for box in content["annotations"] if box["image_id"] == image["id"]]
        for row, box in zip(rows, boxes, strict=True):
            x, y, width, height = np.array(box["bbox"]) / np.tile([image["width"], image["height"]], 2)
            assert row[0] + 1 == box["category_id"]
            assert np.allclose(row[1:], [x + width / 2, y + height / 2, width, height], atol=1e-5)
        lines += len(rows)
        assert (output / "images" / image["file_name"]).is_symlink()
    assert lines == len(content["annotations"])
    root = ElementTree.parse(output / "cvat.xml").getroot()
    assert root.findtext("version") == "1.1" and len(root.findall("image/box")) == lines
    names = {label.text for label in root.findall("meta/task/labels/label/name")}
    assert {box.get("label") for box in root.iter("box")} <= names
    tasks = json.loads((output / "label_studio.json").read_bytes())
    results = [result for task in tasks for result in task["predictions"][0]["result"]]
    assert len(results) == lines and all(0 <= result["value"]["x"] <= 100 for result in results)
    assert ElementTree.parse(output / "label_studio.xml").find("RectangleLabels") is not None
    page = (output / "review.html").read_text()
    assert page.count("<figure>") == 4 and "http" not in page.replace("http-equiv", "")

    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    found = check_det_dataset(str(output / "data.yaml"))
    read = YOLODataset(img_path=found["train"], data=found, augment=False)
    assert sum(len(label["cls"]) for label in read.labels) == lines


def test_a_second_call_goes_on_and_takes_no_other_boxes(photos: Path, models: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = ["--images", photos, "--output", output, "--confidence", 0.06, "--teacher"]
    assert run(*command, models / "teacher.pt").returncode == 0
    first = state(output)
    stored = json.loads((output / "boxes_64.json").read_bytes())
    kept = dict(list(stored["images"].items())[:2])  # as an interruption leaves it
    (output / "boxes_64.json").unlink()
    store = BoxStore(output / "boxes_64.json", stored["identity"])
    for digest, rows in kept.items():
        store.add(digest, np.array(rows))
    store.save()
    again = run(*command, models / "teacher.pt")
    assert again.returncode == 0 and "2/4" in again.stderr
    assert {k: v for k, v in state(output).items() if "boxes" not in k} == {
        k: v for k, v in first.items() if "boxes" not in k
    }
    assert json.loads((output / "boxes_64.json").read_bytes())["images"] == stored["images"]
    other = run(*command, models / "student.pt")
    assert other.returncode == 2 and "another --teacher" in other.stderr and "Traceback" not in other.stderr
    label = output / "labels" / "turned.txt"
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    refused = run(*command, models / "teacher.pt")
    assert refused.returncode == 2 and "turned.txt" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert label.read_text() == "0 0.5 0.5 0.2 0.2\n"


def test_several_processes_find_what_one_finds(
    photos: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(taught, "WORTH", 1)
    given = {"teacher": str(models / "teacher.pt"), "images": photos, "imgsz": 64, "device": "cpu", "batch": 1}

    def made(name: str, parallel: int) -> dict[str, bytes]:
        label(Order(**given, output=tmp_path / name, parallel=parallel, confidence=0.06))
        boxed = ("boxes_", "data.yaml", "made.json")  # what has the times, and the path of the folder
        files = state(tmp_path / name).items()
        return {Path(file).name: content for file, content in files if not Path(file).name.startswith(boxed)}

    one, two = made("one", 1), made("two", 2)
    assert one == two and json.loads(two["annotations.json"])["annotations"]
    parts = [json.loads((tmp_path / "two" / name).read_bytes()) for name in ("boxes_64.json", "boxes_64_1.json")]
    assert [len(part["images"]) for part in parts] == [2, 2] and not list((tmp_path / "two").glob("process_*"))
    cost = BoxStore(tmp_path / "two" / "boxes_64.json", parts[0]["identity"]).cost
    assert cost.seconds == sum(part["seconds"] for part in parts) > cost.elapsed > 0
    (tmp_path / "two" / "boxes_64_1.json").unlink()  # as if that process had been killed
    (tmp_path / "two" / "process_0").mkdir()
    (tmp_path / "two" / "process_0" / "spec.json").write_text("torn")
    capsys.readouterr()
    assert made("two", 2) == one and "2/4" in capsys.readouterr().err


def test_labels_of_somebody_else_are_not_touched(photos: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "labels" / "mine.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    done = run("--images", photos, "--output", tmp_path / "out", "--teacher", models / "teacher.pt")
    assert done.returncode == 2 and "was not made by this command" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels"]


@pytest.mark.parametrize("name", ["cvat.xml", "label_studio.json", "review.html", "images/mine.jpg"])
def test_no_file_of_somebody_else_is_written_over(photos: Path, models: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    command = ["--images", photos, "--output", output, "--teacher", models / "teacher.pt", "--format", "cvat"]
    (output / name).parent.mkdir(parents=True)
    (output / name).write_text("mine")
    refused = run(*command)
    assert refused.returncode == 2 and f"{name} was not made by this command" in refused.stderr
    assert state(output) == {str(output / name): b"mine"}


def test_corrected_results_are_kept_and_originals_never_written_anew(
    photos: Path, models: Path, tmp_path: Path
) -> None:
    output, one = tmp_path / "out", photos / "turned.jpg"
    one.write_bytes(one.read_bytes() + b"more")
    command = ["--images", photos, "--output", output, "--teacher", models / "teacher.pt", "--format", "cvat"]
    assert run(*command).returncode == 0
    copy = output / "images" / "turned.jpg"
    assert not copy.is_symlink() and copy.read_bytes() == one.read_bytes()[:-4]  # Ultralytics would cut the original
    assert (output / "images" / "copy.jpg").is_symlink() and run(*command).returncode == 0
    (output / "cvat.xml").write_text("corrected")
    refused = run(*command)
    assert refused.returncode == 2 and "cvat.xml was not made by this command, or was changed" in refused.stderr
    assert (output / "cvat.xml").read_text() == "corrected"


def test_data_choose_classes_and_thresholds_and_are_not_labelled(
    photos: Path, models: Path, subset: Path, tmp_path: Path
) -> None:
    data = yaml.safe_load((subset / "coco1k.yaml").read_text())
    val = next((subset / "images" / "val2017").glob("*.jpg"))
    (photos / "leak.jpg").write_bytes(val.read_bytes())
    with Image.open(val) as image:
        image.resize((200, 150)).rotate(180).save(photos / "another leak.png")
    command = ["--images", photos, "--teacher", models / "teacher.pt", "--data", subset / "coco1k.yaml"]
    done = run(*command, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "1 image left out: also in --data" in done.stdout and not list(tmp_path.glob("out/labels/*leak.txt"))
    assert f"another leak.png is left out: it looks like {val} of val" in done.stdout
    written = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert list(written["names"].values()) == list(data["names"].values())
    first, second = list(data["names"].values())[:2]
    mapped = run(*command, "--output", tmp_path / "two", "--class-map", f"{first}={second}")
    assert mapped.returncode == 0, mapped.stderr
    found = json.loads((tmp_path / "two" / "annotations.json").read_bytes())["annotations"]
    assert 1 not in {box["category_id"] for box in found}
    wrong = run(*command, "--output", tmp_path / "three", "--class-map", f"{first}=unicorn")
    assert wrong.returncode == 2 and "unicorn" in wrong.stderr and not (tmp_path / "three").exists()


def test_the_version_is_told() -> None:
    done = subprocess.run([sys.executable, "-m", "coco1k_kd", "--version"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("coco1k-kd 0.")


def test_a_process_that_fails_ends_the_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, slots_of(None, "cpu"):
        raise RunFailed("label, process 2 of 2 failed")
    lines = "error: label, process 2 of 2 failed\n  what was found is kept: give the same command again\n"
    assert ended.value.code == 1 and capsys.readouterr().err == lines
