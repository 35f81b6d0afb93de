"""download.py against a real HTTP server on this machine that does all that servers do wrong."""

from __future__ import annotations

import errno
import hashlib
import re
from pathlib import Path

import pytest
import ultralytics  # noqa: F401  patches PIL, and what follows must hold with that too
from servers import annotations_zip

from coco1k_kd.data import download, fetch
from coco1k_kd.errors import UserError


def test_images_arrive_whole_and_are_not_fetched_twice(server, images, capsys):
    wanted = images(20)
    download.fetch_images(wanted, workers=4)
    assert [path.read_bytes() for _, path in wanted] == [server.files[f"/train2017/{i}.jpg"] for i in range(20)]
    assert sorted(path for path, _ in server.requests) == sorted(server.files)
    assert re.search(r"20/20 images, 0\.\d MB, 00:00 to go", capsys.readouterr().err)
    download.fetch_images(wanted, workers=4)
    assert len(server.requests) == 20


def test_an_image_that_the_disk_does_not_take_is_not_there_in_part(images, monkeypatch):
    ((url, path),) = images(1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=f"cannot write {path}: No space left on device"):
        download.fetch_images([(url, path)], workers=1)
    assert not list(path.parent.iterdir())


def test_a_dead_mirror_is_given_up_early(server, images):
    wanted = images(200)
    server.files.clear()
    with pytest.raises(UserError, match="200 of 200 images are still missing"):
        download.fetch_images(wanted, workers=2)
    assert len(server.requests) < 3 * download.GIVE_UP_AFTER


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1"])
def test_a_size_that_is_none_is_passed_over(number):
    assert download._number(number) is None


def test_images_without_an_address_are_named(images, tmp_path):
    (url, path), other = images(2)
    with pytest.raises(UserError, match=r"1 of 2 images are not on disk and have no coco_url .*1\.jpg"):
        download.fetch_images([(url, path), (None, tmp_path / "1.jpg")], workers=1)
    path.parent.mkdir(parents=True)
    other[1].write_bytes(b"there")
    download.fetch_images([(None, other[1])], workers=1)


def test_no_room_is_said(server, images, tmp_path):
    wanted = images(1)
    (tmp_path / "한 글").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot write"):
        download.fetch_images(wanted, workers=1)


ARCHIVE = "/annotations_trainval2017.zip"


def _check_annotations(root: Path) -> None:
    for name in download.MEMBERS:
        assert (root / name).read_bytes().endswith(name.encode())
    assert sorted(path.name for path in (root / "annotations").iterdir()) == [
        "annotations_trainval2017.zip",
        "instances_train2017.json",
        "instances_val2017.json",
    ]


def test_annotations_go_on_where_they_broke_off(server, tmp_path):
    server.files[ARCHIVE] = annotations_zip()
    server.manners[ARCHIVE] = ["cut", "503", "cut"]
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)
    asked = [int(span[6:-1]) if span else 0 for _, span in server.requests]
    assert 0 == asked[0] < asked[1] == asked[2] < asked[3]
    download.fetch_annotations(tmp_path)
    (tmp_path / download.MEMBERS[0]).unlink()
    download.fetch_annotations(tmp_path)  # from the archive that was kept
    _check_annotations(tmp_path)
    assert len(server.requests) == 4


def test_annotations_where_the_server_knows_no_ranges(server, tmp_path):
    server.files[ARCHIVE] = annotations_zip()
    server.manners[ARCHIVE] = ["cut", "no ranges"]
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)


@pytest.mark.parametrize("there", [1.0, 1.5])
def test_annotations_with_a_part_that_is_complete_or_of_another_file(server, tmp_path, there):
    server.files[ARCHIVE] = annotations_zip()
    part = tmp_path / "annotations" / (ARCHIVE[1:] + ".part")
    part.parent.mkdir()
    part.write_bytes((server.files[ARCHIVE] * 2)[: int(there * len(server.files[ARCHIVE]))])
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)


@pytest.mark.parametrize("manner", ["html", "promises less"])
def test_annotations_that_are_no_archive_are_not_kept(server, tmp_path, manner):
    server.files[ARCHIVE] = annotations_zip()
    server.manners[ARCHIVE] = [manner]
    with pytest.raises(UserError, match="does not send a zip archive"):
        download.fetch_annotations(tmp_path)
    assert list((tmp_path / "annotations").iterdir()) == []
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)


def test_a_damaged_archive_is_found_by_its_crc(server, tmp_path):
    good = annotations_zip()
    damaged = bytearray(good)
    damaged[1000] ^= 1
    server.files[ARCHIVE] = bytes(damaged)
    with pytest.raises(UserError, match=r"was damaged .*CRC"):
        download.fetch_annotations(tmp_path)
    assert list((tmp_path / "annotations").iterdir()) == []
    server.files[ARCHIVE] = good
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)


def test_an_endlessly_cut_archive_ends(server, tmp_path):
    server.files[ARCHIVE] = annotations_zip()
    server.manners[ARCHIVE] = ["cut"] * 100
    with pytest.raises(UserError, match=r"the connection broke off \(6 attempts\)"):
        download.fetch_annotations(tmp_path)
    assert len(server.requests) == fetch.ATTEMPTS
    server.manners.clear()
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)
    assert server.requests[-1][1]  # went on


def test_an_archive_of_another_hash_is_not_kept(server, tmp_path, monkeypatch):
    server.files[ARCHIVE] = annotations_zip()
    monkeypatch.setattr(download, "ANNOTATIONS_SIZE", 1 << 20)
    monkeypatch.delenv("COCO_ANNOTATIONS_SHA256")
    digest = hashlib.sha256(server.files[ARCHIVE]).hexdigest()
    with pytest.raises(UserError, match=f"its SHA-256 is {digest}, not 113a836d9019"):
        download.fetch_annotations(tmp_path)
    assert list((tmp_path / "annotations").iterdir()) == []
    monkeypatch.setenv("COCO_ANNOTATIONS_SHA256", digest.upper())
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)


@pytest.mark.parametrize("manner", ["well", "endless"])
def test_an_archive_longer_than_it_may_be_stops(server, tmp_path, monkeypatch, manner):
    server.files[ARCHIVE] = annotations_zip()
    server.manners[ARCHIVE] = [manner]
    monkeypatch.delenv("COCO_ANNOTATIONS_SHA256")
    monkeypatch.setattr(download, "ANNOTATIONS_SIZE", 100_000)
    with pytest.raises(UserError, match=r"100,000 (bytes that it may have|at most are expected)"):
        download.fetch_annotations(tmp_path)
    assert sum(file.stat().st_size for file in (tmp_path / "annotations").iterdir()) <= 100_000


def test_a_member_larger_than_it_may_be_is_not_taken(server, tmp_path, monkeypatch):
    server.files[ARCHIVE] = annotations_zip()
    monkeypatch.setattr(download, "MOST_OF_A_MEMBER", 1000)
    with pytest.raises(UserError, match=r"instances_train2017.json would have 150,\d+ bytes"):
        download.fetch_annotations(tmp_path)
    assert [file.name for file in (tmp_path / "annotations").iterdir()] == [ARCHIVE[1:]]
