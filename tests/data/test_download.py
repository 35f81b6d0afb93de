"""download.py against a real HTTP server on this machine that does all that servers do wrong."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import ultralytics  # noqa: F401  patches PIL, and what follows must hold with that too

from coco1k_kd.data import download, fetch
from coco1k_kd.errors import UserError


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def _zip() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).bytes(150_000)
    with zipfile.ZipFile(buffer, "w") as content:
        for name in download.MEMBERS:
            content.writestr(name, noise + name.encode())
        content.writestr("annotations/captions_train2017.json", "{}")
    return buffer.getvalue()


# What a server sends first, and then again and again: none of these is silent for long, and none gets anywhere.
TRICKLES = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X"),
    "one header": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: ", b"x"),
    "not yet": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the length of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b";"),
    "behind the last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"x: y\r\n"),
}


class Server:
    """Answers every path with `files[path]`, in the manner of `manners[path]`, a list used up request by request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.manners: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.ends = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers["Range"]))
                queue = outer.manners.get(self.path, [])
                outer.answer(self, queue.pop(0) if queue else "well")

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def trickle(self, to: BaseHTTPRequestHandler, begin: bytes, drop: bytes) -> None:
        """Send a beginning, then drop by drop what never ends."""
        to.close_connection = True
        with contextlib.suppress(OSError):  # until the client hangs up, or the test ends
            to.wfile.write(begin)
            while not self.ends.wait(0.1):
                to.wfile.write(drop)

    def answer(self, to: BaseHTTPRequestHandler, manner: str) -> None:
        if manner in TRICKLES:
            return self.trickle(to, *TRICKLES[manner])
        body, status, headers = self.files.get(to.path, b""), 200, {}
        if to.path not in self.files:
            status, body = 404, b"no"
        elif manner == "html":
            body = b"<html>please log in</html>"
        elif manner.startswith("to "):
            status, body, headers["Location"] = 302, b"", manner[3:].replace("PORT", str(self.http.server_port))
        elif manner == "compressed":
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        elif manner.isdigit():
            status, body = int(manner), b"busy"
        elif (asked := to.headers["Range"]) and manner != "no ranges":
            begin = int(re.match(r"bytes=(\d+)-", asked)[1])
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[begin:]
            if not body:
                status, headers["Content-Range"] = 416, f"bytes */{len(self.files[to.path])}"
        length = {"promises more": len(body) + 500, "promises less": len(body) - 500}.get(manner, len(body))
        to.send_response(status)
        for name, value in headers.items():
            to.send_header(name, value)
        if manner != "endless":
            to.send_header("Content-Length", str(length))
        to.end_headers()
        cut = manner.startswith("cut") or manner == "promises more"
        if manner == "cut":
            body = body[: len(body) // 2]
        try:
            while manner == "endless":
                to.wfile.write(body)
            step = 400 if manner == "slow" else len(body) or 1
            for at in range(0, len(body), step):
                to.wfile.write(body[at : at + step])
                if manner == "slow":
                    time.sleep(0.2)
        except OSError:
            cut = True  # the client hung up
        to.close_connection = to.close_connection or cut or manner == "promises less"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setattr(fetch, "BACKOFF_SECONDS", 0.005)
    monkeypatch.setenv("COCO_URL_BASE", made.url)
    monkeypatch.setenv("COCO_ANNOTATIONS_URL", f"{made.url}/annotations_trainval2017.zip")
    monkeypatch.setenv("COCO_ANNOTATIONS_SHA256", "any")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    yield made
    made.ends.set()
    made.http.shutdown()
    made.http.server_close()
    thread.join()


@pytest.fixture
def images(server: Server, tmp_path: Path) -> Callable[[int], list[tuple[str, Path]]]:
    """Put n images on the server; return what fetch_images takes."""

    def make(n: int) -> list[tuple[str, Path]]:
        server.files |= {f"/train2017/{i}.jpg": _jpeg(i) for i in range(n)}
        names = [f"train2017/{i}.jpg" for i in range(n)]
        return [(f"http://images.cocodataset.org/{name}", tmp_path / "한 글" / name) for name in names]

    return make


def test_images_arrive_whole_and_are_not_fetched_twice(server, images, capsys):
    wanted = images(20)
    download.fetch_images(wanted, workers=4)
    assert [path.read_bytes() for _, path in wanted] == [server.files[f"/train2017/{i}.jpg"] for i in range(20)]
    assert sorted(path for path, _ in server.requests) == sorted(server.files)
    assert re.search(r"20/20 images, 0\.\d MB, 00:00 to go", capsys.readouterr().err)
    download.fetch_images(wanted, workers=4)
    assert len(server.requests) == 20


@pytest.mark.parametrize("manner", ["cut", "503", "408", "425", "429", "html", "promises more", "promises less"])
def test_a_passing_fault_is_retried(server, images, manner):
    wanted = images(3)
    server.manners["/train2017/1.jpg"] = [manner, manner]
    download.fetch_images(wanted, workers=2)
    assert [path.read_bytes() for _, path in wanted] == [server.files[f"/train2017/{i}.jpg"] for i in range(3)]
    assert len(server.requests) == 5


def test_an_image_that_the_disk_does_not_take_is_not_there_in_part(images, monkeypatch):
    ((url, path),) = images(1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=f"cannot write {path}: No space left on device"):
        download.fetch_images([(url, path)], workers=1)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("manner", "says"),
    [
        ("html", "incomplete or another file"),
        ("cut", "the connection broke off"),
        ("promises less", "incomplete or another file"),
        ("500", "500 Internal Server Error"),
    ],
)
def test_a_lasting_fault_is_named_and_keeps_nothing_corrupt(server, images, manner, says):
    wanted = images(3)
    server.manners["/train2017/1.jpg"] = [manner] * fetch.ATTEMPTS
    with pytest.raises(UserError, match=f"1.jpg: .*({says}).*1 of 3 images are still missing") as caught:
        download.fetch_images(wanted, workers=2)
    assert "\n" not in str(caught.value)
    folder = wanted[0][1].parent
    assert sorted(path.name for path in folder.iterdir()) == ["0.jpg", "2.jpg"]
    assert [path for path, _ in server.requests].count("/train2017/1.jpg") == fetch.ATTEMPTS
    before = len(server.requests)
    download.fetch_images(wanted, workers=2)
    assert wanted[1][1].read_bytes() == server.files["/train2017/1.jpg"]
    assert len(server.requests) == before + 1


def test_not_found_is_final(server, images):
    wanted = images(2)
    del server.files["/train2017/0.jpg"]
    with pytest.raises(UserError, match="404 Not Found"):
        download.fetch_images(wanted, workers=2)
    assert [path for path, _ in server.requests].count("/train2017/0.jpg") == 1
    assert not wanted[0][1].exists() and wanted[1][1].exists()


def test_a_dead_mirror_is_given_up_early(server, images):
    wanted = images(200)
    server.files.clear()
    with pytest.raises(UserError, match="200 of 200 images are still missing"):
        download.fetch_images(wanted, workers=2)
    assert len(server.requests) < 3 * download.GIVE_UP_AFTER


def test_too_slow_is_given_up_in_time(server, images, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr(fetch, "SLOWEST", 5000)
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)
    wanted = images(1)
    server.manners["/train2017/0.jpg"] = ["slow", "slow"]
    begun = time.monotonic()
    with pytest.raises(UserError, match="too slow"):
        download.fetch_images(wanted, workers=1)
    assert not wanted[0][1].exists()
    assert time.monotonic() - begun < 3  # whatever the size of a block: the whole body would take seven seconds


@pytest.mark.parametrize("manner", TRICKLES)
def test_what_never_ends_is_given_up_in_time(server, images, monkeypatch, manner):
    monkeypatch.setattr(fetch, "PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)
    wanted = images(1)
    server.manners["/train2017/0.jpg"] = [manner, manner]
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"0\.jpg: (no answer in time|too slow: .*) \(2 attempts\)"):
        download.fetch_images(wanted, workers=1)
    assert not wanted[0][1].exists() and time.monotonic() - begun < 5


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1"])
def test_a_size_that_is_none_is_passed_over(number):
    assert download._number(number) is None


def test_redirects_are_followed_on_the_same_host_alone(server, images):
    wanted = images(3)
    server.manners["/train2017/0.jpg"] = ["to /train2017/1.jpg", "to http://127.0.0.1:PORT/train2017/1.jpg"]
    download.fetch_images(wanted[:1], workers=1)
    assert wanted[0][1].read_bytes() == server.files["/train2017/1.jpg"]
    server.manners["/train2017/1.jpg"] = ["to http://localhost:PORT/train2017/2.jpg"]
    with pytest.raises(UserError, match=r"1\.jpg: it redirects to http://localhost, which is another host"):
        download.fetch_images(wanted[:2], workers=1)
    server.manners["/train2017/1.jpg"] = ["to /train2017/1.jpg"] * 99
    with pytest.raises(UserError, match="redirects again and again"):
        download.fetch_images(wanted[:2], workers=1)
    server.manners["/train2017/1.jpg"] = ["to http://[", "to http://["]
    with pytest.raises(UserError, match="redirects to what is no address"):
        download.fetch_images(wanted[:2], workers=1)
    assert not wanted[1][1].exists() and server.manners["/train2017/1.jpg"]


@pytest.mark.parametrize(
    ("manner", "says"), [("endless", "is longer than the 100,000 bytes"), ("compressed", "compressed, which was not")]
)
def test_a_body_that_is_not_as_it_may_be_stops_at_once(server, images, monkeypatch, manner, says):
    monkeypatch.setattr(download, "MOST_OF_AN_IMAGE", 100_000)
    wanted = images(1)
    server.manners["/train2017/0.jpg"] = [manner]
    with pytest.raises(UserError, match=says):
        download.fetch_images(wanted, workers=1)
    assert len(server.requests) == 1 and not wanted[0][1].exists()


def test_no_server_and_no_address(images, monkeypatch):
    wanted = images(300)
    get, tried = fetch.get, []
    monkeypatch.setattr(download, "get", lambda url: tried.append(url) or get(url))
    monkeypatch.setenv("COCO_URL_BASE", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"no connection; check the network.*300 of 300"):
        download.fetch_images(wanted, workers=1)
    assert len(tried) <= 3 * fetch.ATTEMPTS  # and not 300 times as many
    monkeypatch.setenv("COCO_URL_BASE", "mirror.example")
    with pytest.raises(UserError, match=r"mirror\.example/train2017/0\.jpg is not an address"):
        download.fetch_images(wanted, workers=1)


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
    server.files[ARCHIVE] = _zip()
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
    server.files[ARCHIVE] = _zip()
    server.manners[ARCHIVE] = ["cut", "no ranges"]
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)


@pytest.mark.parametrize("there", [1.0, 1.5])
def test_annotations_with_a_part_that_is_complete_or_of_another_file(server, tmp_path, there):
    server.files[ARCHIVE] = _zip()
    part = tmp_path / "annotations" / (ARCHIVE[1:] + ".part")
    part.parent.mkdir()
    part.write_bytes((server.files[ARCHIVE] * 2)[: int(there * len(server.files[ARCHIVE]))])
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)


@pytest.mark.parametrize("manner", ["html", "promises less"])
def test_annotations_that_are_no_archive_are_not_kept(server, tmp_path, manner):
    server.files[ARCHIVE] = _zip()
    server.manners[ARCHIVE] = [manner]
    with pytest.raises(UserError, match="does not send a zip archive"):
        download.fetch_annotations(tmp_path)
    assert list((tmp_path / "annotations").iterdir()) == []
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)


def test_a_damaged_archive_is_found_by_its_crc(server, tmp_path):
    good = _zip()
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
    server.files[ARCHIVE] = _zip()
    server.manners[ARCHIVE] = ["cut"] * 100
    with pytest.raises(UserError, match=r"the connection broke off \(6 attempts\)"):
        download.fetch_annotations(tmp_path)
    assert len(server.requests) == fetch.ATTEMPTS
    server.manners.clear()
    download.fetch_annotations(tmp_path)
    _check_annotations(tmp_path)
    assert server.requests[-1][1]  # went on


def test_an_archive_of_another_hash_is_not_kept(server, tmp_path, monkeypatch):
    server.files[ARCHIVE] = _zip()
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
    server.files[ARCHIVE] = _zip()
    server.manners[ARCHIVE] = [manner]
    monkeypatch.delenv("COCO_ANNOTATIONS_SHA256")
    monkeypatch.setattr(download, "ANNOTATIONS_SIZE", 100_000)
    with pytest.raises(UserError, match=r"100,000 (bytes that it may have|at most are expected)"):
        download.fetch_annotations(tmp_path)
    assert sum(file.stat().st_size for file in (tmp_path / "annotations").iterdir()) <= 100_000


def test_a_member_larger_than_it_may_be_is_not_taken(server, tmp_path, monkeypatch):
    server.files[ARCHIVE] = _zip()
    monkeypatch.setattr(download, "MOST_OF_A_MEMBER", 1000)
    with pytest.raises(UserError, match=r"instances_train2017.json would have 150,\d+ bytes"):
        download.fetch_annotations(tmp_path)
    assert [file.name for file in (tmp_path / "annotations").iterdir()] == [ARCHIVE[1:]]
