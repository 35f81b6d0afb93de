"""A real HTTP server on this machine that does all that servers do wrong."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import ultralytics  # noqa: F401  patches PIL, and what follows must hold with that too

from coco1k_kd.data import download


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def annotations_zip() -> bytes:
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
