"""Images without labels that a study may take: none of its own, in whatever form."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageOps

from coco1k_kd.data.pool import accept_pool, read_pool
from coco1k_kd.errors import UserError


@pytest.fixture
def scenes(coco_root: Path) -> list[Path]:
    return sorted((coco_root / "train2017").glob("*.jpg"))


@pytest.fixture
def kept_out(coco_root: Path, scenes: list[Path]) -> dict[str, list[Path]]:
    return {"train": scenes[:5], "judge": sorted((coco_root / "val2017").glob("*.jpg"))}


@pytest.fixture
def folder(tmp_path: Path, scenes: list[Path]) -> Path:
    """Six images in two folders: a copy, an unreadable one, labels beside, and results of an earlier study."""
    place = tmp_path / "pool 사진"
    (place / "more").mkdir(parents=True)
    for number, scene in enumerate(scenes[10:16]):
        (place / ("more" if number % 2 else "") / f"{number}.jpg").write_bytes(scene.read_bytes())
    (place / "copy.jpg").write_bytes(scenes[10].read_bytes())
    (place / "broken.jpg").write_bytes(b"no image")
    (place / "0.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (place / "results").mkdir()
    (place / "results" / "0.jpg").write_bytes(scenes[17].read_bytes())
    return place


def test_a_pool_says_what_is_left_out(folder: Path, kept_out: dict[str, list[Path]]) -> None:
    pool = accept_pool(folder, kept_out, folder / "results")
    assert [image.name for image in pool.images] == ["0.jpg", "2.jpg", "4.jpg", *(f"more/{n}.jpg" for n in (1, 3, 5))]
    assert pool.notes() == [
        f"{folder / 'broken.jpg'} is left out: cannot be decoded (not an image that Pillow knows)",
        "1 image left out: the same content as another",
        "1 image with labels beside, which are ignored",
    ]


def test_the_same_bytes_are_refused_by_name(folder: Path, kept_out: dict[str, list[Path]]) -> None:
    judge = kept_out["judge"][3]
    (folder / "more" / "leak.jpg").write_bytes(judge.read_bytes() + b"\0\0")  # what follows the end does not hide it
    with pytest.raises(UserError, match=r"--unlabelled .*: 1 image also in judge \(the first: .*leak.jpg, the same as"):
        accept_pool(folder, kept_out)


@pytest.mark.parametrize("change", ["smaller", "mirrored"])
def test_what_looks_like_an_image_of_the_study_is_left_out(
    folder: Path, kept_out: dict[str, list[Path]], change: str
) -> None:
    for split in ("train", "judge"):
        with Image.open(kept_out[split][2]) as image:
            changed = image.resize((300, 200)) if change == "smaller" else ImageOps.mirror(image)
            changed.save(folder / f"leak {split}.png")
    pool = accept_pool(folder, kept_out, folder / "results")
    assert len(pool.images) == 6 and not any("leak" in image.name for image in pool.images)
    assert pool.notes()[1:3] == [
        f"{folder / f'leak {split}.png'} is left out: it looks like {kept_out[split][2]} of {split}"
        for split in ("judge", "train")
    ]


def test_a_list_and_what_cannot_be_a_pool(
    folder: Path, scenes: list[Path], kept_out: dict[str, list[Path]], tmp_path: Path
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{scene}\n" for scene in scenes[20:23]))
    assert [image.file for image in accept_pool(listed, kept_out).images] == scenes[20:23]
    listed.write_text(f"{scenes[20]}\nnowhere.jpg\n")
    with pytest.raises(UserError, match=r"--unlabelled .*nowhere.jpg is not there"):
        accept_pool(listed, kept_out)
    with pytest.raises(UserError, match=r"--unlabelled .*: there is no such folder or file"):
        accept_pool(tmp_path / "nothing", kept_out)
    (folder / "0.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"0.npy lies beside its image"):
        accept_pool(folder, kept_out)
    only = tmp_path / "only"
    only.mkdir()
    with pytest.raises(UserError, match="it holds no image"):
        read_pool(only)
    with Image.open(kept_out["train"][0]) as image:
        image.resize((200, 200)).save(only / "one.jpg")
    with pytest.raises(UserError, match=r"no image is left: .*it looks like"):
        accept_pool(only, kept_out)
