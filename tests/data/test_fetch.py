"""fetch.py against a real HTTP server on this machine that does all that servers do wrong."""

from __future__ import annotations

import time

import pytest
import ultralytics  # noqa: F401  patches PIL, and what follows must hold with that too
from servers import TRICKLES

from coco1k_kd.data import download, fetch
from coco1k_kd.errors import UserError


@pytest.mark.parametrize("manner", ["cut", "503", "408", "425", "429", "html", "promises more", "promises less"])
def test_a_passing_fault_is_retried(server, images, manner):
    wanted = images(3)
    server.manners["/train2017/1.jpg"] = [manner, manner]
    download.fetch_images(wanted, workers=2)
    assert [path.read_bytes() for _, path in wanted] == [server.files[f"/train2017/{i}.jpg"] for i in range(3)]
    assert len(server.requests) == 5


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
