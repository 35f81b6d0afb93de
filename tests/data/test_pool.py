"""Images without labels that a study may take: none of its own, in whatever form."""

from __future__ import annotations

import os
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


def test_links_are_followed_and_what_is_no_picture_is_named(
    folder: Path, scenes: list[Path], kept_out: dict[str, list[Path]], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "far.jpg").write_bytes(scenes[30].read_bytes())
    (other / "up").symlink_to(folder)  # a ring
    (folder / "linked").symlink_to(other)
    (folder / "broken link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(scenes[31].read_bytes())
    pool = accept_pool(folder, kept_out, folder / "results")
    names = [image.name for image in pool.images]
    assert len(names) == len(set(names)) == 7 and "linked/far.jpg" in names
    notes = "\n".join(pool.notes())
    assert "broken link.jpg is left out: it is no file, or a link to none" in notes
    assert "pipe.jpg is left out: it is no file" in notes
    assert "\\udcff.jpg is left out: its name is not in UTF-8" in notes
    (folder / "linked" / "judge.jpg").symlink_to(kept_out["judge"][0])
    with pytest.raises(UserError, match=r"1 image also in judge .*linked/judge.jpg"):
        accept_pool(folder, kept_out, folder / "results")


def test_a_folder_within_the_one_of_results_is_taken_as_it_was_asked_for(
    folder: Path, kept_out: dict[str, list[Path]]
) -> None:
    assert len(accept_pool(folder / "more", kept_out, folder).images) == 3


def test_a_list_may_have_other_line_ends_and_is_never_a_traceback(
    folder: Path, kept_out: dict[str, list[Path]], tmp_path: Path
) -> None:
    listed = folder / "list.txt"
    listed.write_bytes(b"0.jpg\r\n\r\n./more/1.jpg\r\nmore/../0.jpg\r\n")
    assert [image.name for image in accept_pool(listed, kept_out).images] == ["0.jpg", "more/1.jpg"]
    listed.write_text('{"images": "' + 9999 * "x" + '"}')
    with pytest.raises(UserError, match=r"is not there, the first of 1; correct the list") as caught:
        accept_pool(listed, kept_out)
    assert len(str(caught.value)) < 600
