"""One acceptance check: a changed COCO file is refused by all programs in the same words, or carried through."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from ultralytics.data.dataset import YOLODataset

import create_coco1k
from coco1k_kd.data.accept import accept, judge_faults
from coco1k_kd.data.annotations import read
from coco1k_kd.data.dataset import read_data, read_split
from coco1k_kd.data.images import image_fault
from coco1k_kd.data.verify import verify
from coco1k_kd.errors import UserError
from coco1k_kd.verdict.matching import coco_metrics

SIZE = (64, 48)
IMAGES = {"train": 14, "val": 7}
Change = Callable[[dict[str, Any], Path], None]


def make(root: Path) -> None:
    """A COCO root of noisy pictures with one to three boxes each, in three classes with gaps in their ids."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, number in IMAGES.items():
        folder = root / f"{split}2017"
        folder.mkdir()
        content: dict[str, Any] = {"info": {}, "images": [], "annotations": [], "categories": []}
        content["categories"] = [{"id": i, "name": name} for i, name in ((2, "cup"), (5, "kite"), (9, "person"))]
        for image in range(1, number + 1):
            name = f"{split}{image:02}.jpg"
            Image.fromarray(rng.integers(0, 255, (*SIZE[::-1], 3), np.uint8)).save(folder / name)
            content["images"].append({"id": image, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
            for _ in range(1 + image % 3):
                width, height = rng.integers(8, 30, 2).tolist()
                box = [int(rng.integers(0, SIZE[0] - width)), int(rng.integers(0, SIZE[1] - height)), width, height]
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": image,
                        "category_id": [2, 5, 9][len(content["annotations"]) % 3],
                        "bbox": box,
                        "area": width * height,
                        "iscrowd": 0,
                        "segmentation": [],
                    }
                )
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def create(root: Path, output: Path) -> Path:
    """create_coco1k.py with all images."""
    sizes = ["--target-size", "all", "--val-size", "all", "--workers", "2"]
    command = ["--coco-root", str(root), "--output-dir", str(output), *sizes]
    create_coco1k.create(create_coco1k.parser().parse_args(command))
    return output


def study(folder: Path) -> list[str]:
    """What a study does with a subset before it trains."""
    return accept(read_data(folder / "coco1k.yaml"))


def refused(action: Callable[[], Any]) -> str | None:
    """The line with which something is refused, without the folders that files are in; None where it is accepted."""
    try:
        action()
    except UserError as error:
        assert "\n" not in str(error)
        return re.sub(r"(?:[^\s:\"]*/)?([^\s/:\"]+\.(?:json|jpg|txt))", r"\1", str(error))
    return None


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A root and the subset of all its images. Read only."""
    folder = tmp_path_factory.mktemp("base")
    make(folder / "root")
    return folder / "root", create(folder / "root", folder / "made")


# What may be done to annotations: each takes the parsed file and the folder of its images.


def each(change: Callable[[dict[str, Any]], Any], one: bool = False, part: str = "annotations") -> Change:
    """Change every entry, or the first one."""

    def apply(content: dict[str, Any], _: Path) -> None:
        for entry in content[part][: 1 if one else None]:
            change(entry)

    return apply


def setting(key: str, value: Any, one: bool = False, part: str = "annotations") -> Change:
    return each(lambda entry: entry.update({key: value}), one, part)


def without(key: str, part: str = "annotations") -> Change:
    return each(lambda entry: entry.pop(key, None), part=part)


def box(change: Callable[[list[float]], list[float]], one: bool = False) -> Change:
    return each(lambda entry: entry.update(bbox=change(entry["bbox"])), one)


def named(change: Callable[[str], str], move: bool = True, one: bool = False) -> Change:
    """Give images other names, and their files as well."""

    def apply(content: dict[str, Any], folder: Path) -> None:
        for entry in content["images"][: 1 if one else None]:
            old, entry["file_name"] = folder / entry["file_name"], change(entry["file_name"])
            if move and (new := folder / entry["file_name"]) != old:
                new.parent.mkdir(parents=True, exist_ok=True)
                old.rename(new)

    return apply


def file(change: Callable[[Path], None], one: bool = True) -> Change:
    """Change image files; those of a subset are links."""

    def apply(content: dict[str, Any], folder: Path) -> None:
        for entry in content["images"][: 1 if one else None]:
            path = folder / entry["file_name"]
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data)
            change(path)

    return apply


def turned(orientation: int) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        with Image.open(path) as picture:
            picture.load()
        picture.save(path, "JPEG", exif=exif.tobytes())

    return save


def converted(kind: str) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        with Image.open(path) as picture:
            picture.load()
        picture.save(path, kind)

    return save


def turned_by_xmp(path: Path) -> None:
    tag = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    with Image.open(path) as picture:
        picture.load()
    picture.save(path, "JPEG", xmp=tag)


def of_floats(path: Path) -> None:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"), np.float32)
    Image.fromarray(pixels).save(path, "TIFF")


def cut_bmp(path: Path) -> None:
    converted("BMP")(path)
    path.write_bytes(path.read_bytes()[:2000])


CHANGES: dict[str, Change] = {
    "nothing": lambda content, folder: None,
    "no iscrowd": without("iscrowd"),
    "no area": without("area"),
    "no area, no iscrowd, no segmentation": each(lambda e: [e.pop(k) for k in ("area", "iscrowd", "segmentation")]),
    "area -1": setting("area", -1),
    "area 0": setting("area", 0),
    "area null": setting("area", None),
    "area a text": setting("area", "12"),
    "area 1e15": setting("area", 1e15, one=True),
    "area NaN": setting("area", math.nan),
    "ids from 0": each(lambda e: e.update(id=e["id"] - 1)),
    "ids below 0": each(lambda e: e.update(id=-e["id"])),
    "one id 0": setting("id", 0, one=True),
    "ids as text": each(lambda e: e.update(id=str(e["id"]))),
    "ids as float": each(lambda e: e.update(id=float(e["id"]))),
    "id twice": setting("id", 2, one=True),
    "id too large": setting("id", 2**64 - 1, one=True),
    "image ids as text": each(lambda e: e.update(id=str(e["id"])), part="images"),
    "image ids from 0": lambda content, _: (
        [e.update(id=e["id"] - 1) for e in content["images"]],
        [e.update(image_id=e["image_id"] - 1) for e in content["annotations"]],
    ),
    "category ids from 0": lambda content, _: (
        [e.update(id=e["id"] - 2) for e in content["categories"]],
        [e.update(category_id=e["category_id"] - 2) for e in content["annotations"]],
    ),
    "unknown category": setting("category_id", 77, one=True),
    "unknown image": setting("image_id", 777, one=True),
    "two names": setting("name", "cup", part="categories"),
    "bbox []": setting("bbox", [], one=True),
    "bbox null": setting("bbox", None),
    "bbox of texts": box(lambda b: [str(v) for v in b]),
    "bbox of five": box(lambda b: [*b, 1], one=True),
    "bbox in shares": box(lambda b: [b[0] / SIZE[0], b[1] / SIZE[1], b[2] / SIZE[0], b[3] / SIZE[1]]),
    "bbox as corners": box(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
    "bbox of negative width": box(lambda b: [b[0] + b[2], b[1], -b[2], b[3]], one=True),
    "bbox empty": box(lambda b: [b[0], b[1], 0, b[3]], one=True),
    "bbox outside": box(lambda b: [b[0] + 1000, *b[1:]], one=True),
    "bbox a little outside": box(lambda b: [-0.2, -0.2, SIZE[0] + 0.4, SIZE[1] + 0.4], one=True),
    "bbox as float": box(lambda b: [v + 0.25 for v in b]),
    "equal boxes": each(lambda e: e.update(bbox=[1, 2, 30, 20], category_id=5)),
    "a box twice": lambda content, _: content["annotations"].append({**content["annotations"][0], "id": 999}),
    "all boxes empty": box(lambda b: [b[0], b[1], 0, 0]),
    "no boxes": lambda content, _: content.update(annotations=[]),
    "crowds": each(lambda e: e.update(iscrowd=int(e["id"] % 2))),
    "all crowds": setting("iscrowd", 1),
    "iscrowd true": setting("iscrowd", True, one=True),
    "iscrowd null": setting("iscrowd", None),
    "iscrowd as text": setting("iscrowd", "0"),
    "iscrowd a word": setting("iscrowd", "no"),
    "no boxes on an image": lambda content, _: content.update(
        annotations=[e for e in content["annotations"] if e["image_id"] != 1]
    ),
    "coco_url null": setting("coco_url", None, part="images"),
    "subfolders": named(lambda name: f"cam{len(name) % 2}/{name}"),
    "a folder named images": named(lambda name: f"site/images/{name}"),
    "a name with ./": named(lambda name: f"./{name}"),
    "an absolute name": named(lambda name: f"/data/{name}", move=False),
    "a name with ..": named(lambda name: f"../x/{name}", move=False),
    "a Windows name": named(lambda name: f"a\\{name}", move=False),
    "a folder named .png": named(lambda name: f"a.png/{name}"),
    "a hidden folder": named(lambda name: f".thumbs/{name}"),
    "suffix jfif": named(lambda name: name.replace(".jpg", ".jfif"), one=True),
    "suffix JPG": named(lambda name: name.replace(".jpg", ".JPG")),
    "no suffix": named(lambda name: name.replace(".jpg", "")),
    "a space in the name": named(lambda name: f"a b {name}"),
    "sizes exchanged": each(lambda e: e.update(width=e["height"], height=e["width"]), part="images"),
    "size off by one": setting("width", SIZE[0] + 1, one=True, part="images"),
    "no width": without("width", part="images"),
    "width 0": setting("width", 0, part="images"),
    "width as text": setting("width", "64", part="images"),
    **{f"turned by EXIF {k}": file(turned(k)) for k in range(1, 10)},
    "bytes after the end": file(lambda path: path.write_bytes(path.read_bytes() + b"\0" * 64 + b"SEFT"), one=False),
    "an end marker after the end": file(lambda path: path.write_bytes(path.read_bytes() + b"\0\xff\xd9\0")),
    "cut": file(lambda path: path.write_bytes(path.read_bytes()[:-300])),
    "a GIF": file(converted("GIF")),
    "a PNG": file(converted("PNG")),
    "not an image": file(lambda path: path.write_text("<html>")),
    "an empty image": file(lambda path: path.write_bytes(b"")),
    "one byte": file(lambda path: path.write_bytes(b"\xff")),
    "a cut BMP": file(cut_bmp),
    "a TIFF of floats": file(of_floats),
    "turned by XMP": file(turned_by_xmp),
    "tiny": file(lambda path: Image.new("RGB", (8, 8)).save(path, "JPEG")),
    "no file": file(lambda path: path.unlink()),
}


def mutate(folder: Path, split: str, images: Path, change: Change) -> None:
    path = folder / "annotations" / f"instances_{split}2017.json"
    content = json.loads(path.read_bytes())
    change(content, images)
    path.unlink()
    path.write_text(json.dumps(content))


def expected(path: Path) -> dict[str, list[list[float]]]:
    """Class and box in pixels of every box to learn from, by image name, straight from the file."""
    content = json.loads(path.read_text("utf-8-sig"))
    ranks = {entry["id"]: rank for rank, entry in enumerate(sorted(content["categories"], key=lambda c: c["id"]))}
    names = {entry["id"]: str(PurePosixPath(entry["file_name"])) for entry in content["images"]}
    rows: dict[str, list[list[float]]] = {name: [] for name in names.values()}
    for entry in content["annotations"]:
        if entry.get("iscrowd") in (None, 0, "0") and min(entry["bbox"][2:]) > 0:
            row = [float(ranks[entry["category_id"]]), *entry["bbox"]]
            if row not in rows[names[entry["image_id"]]]:
                rows[names[entry["image_id"]]].append(row)
    return rows


def check_labels(folder: Path, split: str) -> None:
    """What Ultralytics reads is what is annotated."""
    wanted, images = expected(folder / "annotations" / f"instances_{split}2017.json"), folder / f"images/{split}2017"
    found = YOLODataset(img_path=str(images), data={"names": {0: "cup", 1: "kite", 2: "person"}}, augment=False)
    assert {str(Path(one["im_file"]).relative_to(images)) for one in found.labels} == wanted.keys()
    for one in found.labels:
        rows = np.hstack((one["cls"], one["bboxes"] * np.tile(SIZE, 2)))
        rows[:, 1:3] -= rows[:, 3:] / 2
        right = np.array(wanted[str(Path(one["im_file"]).relative_to(images))]).reshape(-1, 5)
        assert np.allclose(np.sort(rows, axis=0), np.sort(right, axis=0), atol=1e-3)


def check_figures(folder: Path) -> None:
    """A model that finds all has AP 1, and one that finds half has not."""
    path = folder / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text("utf-8-sig"))
    once = {(e["image_id"], e["category_id"], *e["bbox"]): e for e in content["annotations"]}  # as a model finds them
    found = [
        {"image_id": e["image_id"], "category_id": e["category_id"], "bbox": e["bbox"], "score": 1 - n / 1000}
        for n, e in enumerate(once.values())
        if e.get("iscrowd") in (None, 0, "0") and min(e["bbox"][2:]) > 0
    ]
    for name, part in (("all", found), ("half", found[::2])):
        (folder.parent / f"{name}.json").write_text(json.dumps(part))
    assert coco_metrics(path, folder.parent / "all.json")["ap"] == pytest.approx(1)
    assert coco_metrics(path, folder.parent / "half.json")["ap"] < 0.9


def check(base: tuple[Path, Path], change: str, split: str) -> str | None:
    """Hold all programs to one answer on a changed source, and on a subset that is changed in the same way."""
    with TemporaryDirectory() as place:
        root, made, output = (Path(place) / name for name in ("root", "made", "output"))
        shutil.copytree(base[0], root)
        mutate(root, split, root / f"{split}2017", CHANGES[change])
        line = refused(lambda: create(root, output))
        if line is None:
            assert verify(output) == []
            study(output)
            for name in IMAGES:
                check_labels(output, name)
            check_figures(output)
            return None
        assert not output.exists()
        shutil.copytree(base[1], made, symlinks=True)
        yaml = made / "coco1k.yaml"
        yaml.write_text(yaml.read_text().replace(str(base[1]), str(made)))
        mutate(made, split, made / f"images/{split}2017", CHANGES[change])
        assert verify(made)
        if "are missing:" in line:  # in other words: there is nothing to download for a study
            assert "are not in" in refused(lambda: study(made))
        else:
            assert refused(lambda: study(made)).partition(" (")[0] == line.partition(" (")[0]
        return line


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.sampled_from(sorted(CHANGES)), split=st.sampled_from(sorted(IMAGES)))
@example(change="ids from 0", split="val")
@example(change="a box twice", split="val")
@example(change="turned by EXIF 6", split="train")
@example(change="a folder named images", split="train")
def test_all_programs_give_one_answer(base: tuple[Path, Path], change: str, split: str) -> None:
    check(base, change, split)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ids as text", r"annotations\[0\] is not in COCO's format \(Expected `int`, got `str` for `id`\): .*correct"),
        ("ids as float", r"annotations\[0\] is not in COCO's format"),
        ("bbox []", r"annotation 1 has the bbox \[\]; it must be \[left, top, width, height\] in pixels"),
        ("bbox in shares", "which looks like shares of the image"),
        ("bbox as corners", "outside its image of 64x48 .*left, top, right, bottom"),
        ("area NaN", "knows neither NaN nor Infinity"),
        ("all crowds", "all .* annotations are crowd regions"),
        ("iscrowd a word", r"annotations\[0\] is not in COCO's format .* for `iscrowd`"),
        ("all boxes empty", "instances_train2017.json: none of the 14 images has a valid box"),
        ("no boxes", "none of the 14 images has a valid box"),
        ("a folder named .png", 'Ultralytics would take the folder "a.png" for an image: rename it'),
        ("a hidden folder", "does not see names that begin with a dot"),
        ("suffix jfif", "Ultralytics reads the suffixes avif, bmp,"),
        ("no suffix", "Ultralytics reads the suffixes"),
        ("an absolute name", "not a path relative to the image folder"),
        ("sizes exchanged", "outside its image of 48x64 .*are width and height exchanged"),
        ("size off by one", "is 64x48, but its annotations are for 65x48"),
        ("turned by EXIF 6", "is 48x64, but its annotations are for 64x48: it is turned by its EXIF orientation 6"),
        ("turned by EXIF 8", "turned by its EXIF orientation 8"),
        ("a GIF", "is in the format GIF, which Ultralytics does not read"),
        ("cut", "is cut short"),
        ("tiny", "less than 10 pixels"),
        ("an empty image", "cannot be decoded .the file is empty"),
        ("one byte", "cannot be decoded"),
        ("a cut BMP", "cannot be decoded"),
        ("a TIFF of floats", "cannot be decoded .by OpenCV, as Ultralytics reads it.; convert it"),
        ("turned by XMP", "has the orientation 6 in its XMP data alone"),
        ("no width", "Object missing required field `width`"),
    ],
)
def test_a_refusal_names_what_is_wrong(base: tuple[Path, Path], change: str, says: str) -> None:
    assert re.search(says, check(base, change, "train") or "accepted")


@pytest.mark.parametrize("k", [2, 3, 4])
def test_what_no_size_shows_is_a_warning(base: tuple[Path, Path], tmp_path: Path, k: int, capsys) -> None:
    root = shutil.copytree(base[0], tmp_path / "root")
    mutate(root, "val", root / "val2017", CHANGES[f"turned by EXIF {k}"])
    made = create(root, tmp_path / "made")
    assert f"1 images are turned or mirrored by EXIF in a way that their size does not show (the first: val01.jpg, " \
        f"orientation {k})" in capsys.readouterr().out  # fmt: skip
    assert len(study(made)) == 1


def test_one_bad_box_among_many_costs_its_image(base: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    root = shutil.copytree(base[0], tmp_path / "root")

    def many(content: dict[str, Any], folder: Path) -> None:
        content["images"] += [
            {**content["images"][0], "id": 100 + i, "file_name": f"more{i:03}.jpg"} for i in range(150)
        ]
        for i in range(150):
            shutil.copy(folder / "train01.jpg", folder / f"more{i:03}.jpg")
            content["annotations"].append({**content["annotations"][0], "id": 1000 + i, "image_id": 100 + i})
        content["annotations"][0]["bbox"] = [1, 2, 3]

    mutate(root, "train", root / "train2017", many)
    made = create(root, tmp_path / "made")
    assert "an image is not used: annotation 1 has the bbox [1,2,3]" in capsys.readouterr().out
    assert verify(made) == []
    assert read_data(made / "coco1k.yaml").train.size == 150 + IMAGES["train"] - 1


def test_labels_of_another_hand_are_refused(base: tuple[Path, Path], tmp_path: Path) -> None:
    def shifted(made: Path) -> None:
        for path in (made / "labels/train2017").glob("*.txt"):
            rows = [line.split() for line in path.read_text().splitlines()]
            path.write_text("".join(" ".join([str((int(row[0]) + 1) % 3), *row[1:]]) + "\n" for row in rows))

    def emptied(made: Path) -> None:
        for path in sorted((made / "labels/val2017").glob("*.txt"))[::2]:
            path.write_text("")

    def moved(made: Path) -> None:
        path = made / "labels/train2017/train02.txt"
        first, *rest = path.read_text().splitlines()
        label, x, *others = first.split()
        path.write_text("\n".join([" ".join([label, f"{float(x) + 0.01:g}", *others]), *rest]))

    def extra(made: Path) -> None:
        path = made / "labels/train2017/train02.txt"
        path.write_text(path.read_text() + "0 0.5 0.5 0.1 0.1\n")

    for number, (change, says) in enumerate(
        [
            (shifted, r"labels/train2017/train01.txt: boxes differ from the annotations in class or place \(14 such"),
            (emptied, r"val01.txt: boxes differ from the annotations: 0 instead of 2"),
            (moved, "train02.txt: boxes differ from the annotations in class or place"),
            (extra, "train02.txt: boxes differ from the annotations: 4 instead of 3"),
        ]
    ):
        made = create(base[0], tmp_path / f"made{number}")
        change(made)
        with pytest.raises(UserError, match=says):
            study(made)
        assert any(re.search(says.partition(r" \(14")[0], line) for line in verify(made))


@pytest.mark.parametrize(
    "name", ["train2017/extra.bmp", "train2017/thumbs/train01.jpg", "val2017/@eaDir/val01.jpg/SYNOPHOTO_THUMB_M.jpg"]
)
def test_images_that_nobody_annotated_are_refused(base: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    made = create(base[0], tmp_path / "made")
    (made / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    with Image.open(base[0] / "train2017/train01.jpg") as picture:
        picture.save(made / "images" / name)
    with pytest.raises(UserError, match=f"holds . images that .* does not list .the first: {name.split('/')[1]}"):
        study(made)
    assert any(name in line for line in verify(made))


def test_a_pipe_beside_the_images_is_not_waited_for(base: tuple[Path, Path], tmp_path: Path) -> None:
    made = create(base[0], tmp_path / "made")
    os.mkfifo(made / "images/train2017/extra.jpg")
    with pytest.raises(UserError, match=r"Ultralytics cannot read .*extra\.jpg is no file, and would be waited for"):
        study(made)
    (made / "images/train2017/extra.jpg").unlink()
    (made / "images/val2017/val01.jpg").unlink()
    os.mkfifo(made / "images/val2017/val01.jpg")
    with pytest.raises(UserError, match=r"1 of \d+ images of .* are not in .*the first: val01\.jpg"):
        study(made)


def test_an_image_in_train_and_val_is_refused_by_name(base: tuple[Path, Path], tmp_path: Path) -> None:
    root = shutil.copytree(base[0], tmp_path / "root")
    shutil.copy(root / "train2017/train03.jpg", root / "val2017/val02.jpg")
    says = r"val2017/val02.jpg: the same image as \S*train2017/train03.jpg"
    with pytest.raises(UserError, match=f"{root}/{says}"):
        create(root, tmp_path / "made")
    assert not (tmp_path / "made").exists()
    made = create(base[0], tmp_path / "made")
    (made / "images/val2017/val02.jpg").unlink()
    shutil.copy(made / "images/train2017/train03.jpg", made / "images/val2017/val02.jpg")
    with pytest.raises(UserError, match=says):
        study(made)
    assert any(re.search(says, line) for line in verify(made))


def test_further_judges_need_no_labels_but_right_images(base: tuple[Path, Path], tmp_path: Path) -> None:
    data, root = read_data(base[1] / "coco1k.yaml"), shutil.copytree(base[0], tmp_path / "root")

    def judge() -> list[str]:
        path = root / "annotations/instances_val2017.json"
        return judge_faults(read_split(path, root / "val2017", data.classes), [data])

    assert judge() == []
    shutil.copy(root / "train2017/train03.jpg", root / "val2017/val02.jpg")
    turned(6)(root / "val2017/val05.jpg")
    assert [re.search(r"val0\d.jpg", fault)[0] for fault in judge()] == ["val05.jpg", "val02.jpg"]
    file = root / "annotations/instances_val2017.json"
    content = json.loads(file.read_bytes())
    for box in content["annotations"]:
        box["bbox"][2] = 0
    file.write_text(json.dumps(content))
    assert any("hold no boxes: nothing to compare" in fault for fault in judge())


def test_a_leak_is_seen_behind_bytes_that_ultralytics_would_remove(base: tuple[Path, Path], tmp_path: Path) -> None:
    """Data with annotations and no manifest: their JPEGs may have a trailer, and may be written anew."""
    made = create(base[0], tmp_path / "made")
    (made / "manifest.json").unlink()
    data = (made / "images/train2017/train03.jpg").read_bytes()
    with Image.open(BytesIO(data)) as picture:
        size = picture.size
    judge = next(path for path in sorted((made / "images/val2017").iterdir()) if Image.open(path).size == size)
    judge.unlink()  # a link into the source
    judge.write_bytes(data + b"\0SEFT")
    for _ in range(2):
        with pytest.raises(UserError, match=f"{judge.name}: the same image as .*train03.jpg, which is trained on"):
            study(made)
    assert judge.read_bytes() == data + b"\0SEFT"


def test_a_study_leaves_the_subset_as_its_manifest_says(base: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    root = shutil.copytree(base[0], tmp_path / "root")
    mutate(root, "train", root / "train2017", CHANGES["bytes after the end"])
    before = {path: path.read_bytes() for path in root.rglob("*.jpg")}
    made = create(root, tmp_path / "made")
    assert "14 JPEGs had bytes after their end marker" in capsys.readouterr().out
    study(made)
    assert verify(made) == []
    assert {path: path.read_bytes() for path in root.rglob("*.jpg")} == before
    path = made / "images/train2017/train01.jpg"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match="1 JPEGs have bytes after their end marker"):
        study(made)


def test_what_is_written_is_read_as_it_was(base: tuple[Path, Path]) -> None:
    annotations = read(base[1] / "annotations/instances_train2017.json")
    assert annotations.truth()["annotations"][0]["id"] == 1
    entry = next(annotations.images())
    assert image_fault((base[1] / "images/train2017" / entry.name).read_bytes(), entry) is None


@pytest.mark.parametrize("name", ["train01.jpg", "./train01.jpg"])
def test_a_picture_of_two_entries_is_in_no_subset(name: str, tmp_path: Path) -> None:
    """Each entry has a part of its boxes, so that neither may be drawn, alone or with the other."""
    make(tmp_path / "root")
    file = tmp_path / "root/annotations/instances_train2017.json"
    content = json.loads(file.read_bytes())
    content["images"].append({**content["images"][0], "id": 99, "file_name": name})
    content["annotations"][0]["image_id"] = 99
    copies = range(1000, 1300)  # so that two of the images are below the share that refuses the whole file
    content["images"] += [{**content["images"][1], "id": i, "file_name": f"more{i}.jpg"} for i in copies]
    file.write_text(json.dumps(content))
    unusable = read(file).unusable
    assert set(unusable) == {1, 99}
    assert all("the same file" in fault and "[1,99]" in fault for fault in unusable.values())
    content["images"] = [image for image in content["images"] if image["id"] < 1000]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="2 of 15 images cannot be used, the first: the same file"):
        create(tmp_path / "root", tmp_path / "subset")
    assert not (tmp_path / "subset").exists()


@pytest.mark.parametrize("file", ["images/train2017", "labels/val2017"])
def test_what_ultralytics_would_leave_out_is_said_before_training(subset_to_spoil: Path, file: str) -> None:
    path = min((subset_to_spoil / file).iterdir())
    path.unlink()  # a hard link
    path.write_text("0 9 9 9 9\n")
    with pytest.raises(UserError, match=rf"{path.stem}.*(cannot be decoded|leave it out.*out of bounds)"):
        accept(read_data(subset_to_spoil / "coco1k.yaml"))
