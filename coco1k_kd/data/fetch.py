"""Bodies from the network: tried again, and never from another host, longer or slower than they may be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from urllib3.util import Retry

from coco1k_kd.errors import UserError

ATTEMPTS = 6
BACKOFF_SECONDS = 0.5  # doubled after every failed attempt but the first: about 15 s of waiting in all
LONGEST_WAIT = 30  # seconds, also where a server asks for more
PATIENCE_SECONDS = 30  # to connect and between bytes, and before a transfer may be called too slow
SLOWEST = 10_000  # bytes per second on average: a body of n bytes ends within PATIENCE_SECONDS + n / SLOWEST
_PROGRESS = 1 << 20  # bytes; an attempt that brought as many does not count
_REDIRECTS = 5
_BLOCK = 1 << 16
_PASSING = {408, 425, 429, *range(500, 600)}  # answers that may be another one later

T = TypeVar("T")


class Again(Exception):
    """A failure that may pass: worth another attempt, after as many seconds as the server asks for."""

    def __init__(self, fault: str, seconds: float = 0) -> None:
        super().__init__(fault)
        self.seconds = seconds


class Unreachable(UserError):
    """The server cannot be reached at all: trying the next address would only take longer."""


def get(url: str, begin: int = 0) -> requests.Response:
    """Ask for the body from byte `begin` on; redirects are followed on the same host alone.

    Raises UserError where the server's answer is final, Again where it may change.
    """
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    place = url
    for _ in range(_REDIRECTS):
        response = _answer(place, headers)
        if not response.is_redirect:
            break
        response.close()
        place = _moved(place, response.headers["Location"])
    else:
        raise UserError(f"cannot fetch {url}: the server redirects again and again")
    if response.status_code in (200, 206) or (begin and response.status_code == 416):
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise UserError(f"cannot fetch {url}: the server sends it compressed, which was not asked for")
        return response
    answer, retry = f"the server answers {response.status_code} {response.reason}", _retry()
    response.close()
    if retry.is_retry("GET", response.status_code):
        raise Again(answer, retry.get_retry_after(response.raw) or 0)
    raise UserError(f"cannot fetch {url}: {answer}")


_local = threading.local()


def _answer(place: str, headers: dict[str, str]) -> requests.Response:
    """The response without its body. `requests.Timeout` where it is not whole in time, and not just its next byte."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()  # keeps connections alive; not shared between threads
    session, came = _local.session, SimpleQueue[requests.Response | Exception]()

    def ask() -> None:
        try:
            came.put(session.get(place, headers=headers, stream=True, timeout=PATIENCE_SECONDS, allow_redirects=False))
        except Exception as error:
            came.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = came.get(timeout=2 * PATIENCE_SECONDS)  # to connect, and to answer
    except Empty:
        del _local.session  # whose thread may never end
        raise requests.Timeout from None
    if isinstance(answer, ValueError) and not isinstance(answer, requests.RequestException):
        raise UserError(f"cannot fetch {place}: it redirects to what is no address ({answer})")
    if isinstance(answer, Exception):
        raise answer
    return answer


def _moved(url: str, location: str) -> str:
    """The address that a redirect leads to. UserError where that is another host, or no longer encrypted."""
    there = urljoin(url, location)
    old, new = urlsplit(url), urlsplit(there)
    if new.hostname != old.hostname or (new.scheme != old.scheme and new.scheme != "https"):
        raise UserError(
            f"cannot fetch {url}: it redirects to {new.scheme}://{new.hostname}, which is another host; if you trust "
            "it, name it in COCO_URL_BASE or COCO_ANNOTATIONS_URL"
        )
    return there


def blocks(response: requests.Response, most: int, stop: threading.Event | None = None) -> Iterator[bytes]:
    """The body of a response, as it comes, of at most `most` bytes.

    Raises Again when it breaks off or is too slow, UserError when it is longer or must stop.
    """
    if response.status_code == 416:
        return
    size, ended, slow = 0, threading.Event(), threading.Event()

    def watch() -> None:
        """Stop reading a body that is too slow, also where its next byte comes and its next block does not."""
        begun = time.monotonic()
        while not ended.wait(PATIENCE_SECONDS / 10):
            seconds = time.monotonic() - begun
            if seconds > PATIENCE_SECONDS and size < SLOWEST * seconds:
                slow.set()
                with suppress(RuntimeError, ValueError, OSError):  # it has just ended
                    response.raw.shutdown()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        while block := response.raw.read1(_BLOCK):
            size += len(block)
            if size > most:
                raise UserError(f"cannot fetch {response.url}: it is longer than the {most:,} bytes that it may have")
            if stop and stop.is_set():
                raise UserError("stopped")
            yield block
    except urllib3.exceptions.HTTPError:
        if not slow.is_set():
            raise
    finally:
        ended.set()
    if slow.is_set():
        raise Again(f"too slow: {size:,} bytes in {PATIENCE_SECONDS:g} s and more")


def retrying(
    url: str, attempt: Callable[[], T], stop: threading.Event | None = None, gained: Callable[[], int] = int
) -> T:
    """Call `attempt` until it returns, with waits that grow; UserError when it fails for good.

    `gained`: the bytes that are there; where an attempt brought many, the next one is a first one again.
    """
    retry, most = _retry(), gained()
    while True:
        kind, seconds = UserError, 0.0
        try:
            return attempt()
        except Again as error:
            fault, seconds = str(error), error.seconds
        except urllib3.exceptions.HTTPError as error:  # while the body comes
            slow = isinstance(error, urllib3.exceptions.TimeoutError)
            fault = "no answer in time" if slow else "the connection broke off"
        except requests.RequestException as error:
            if isinstance(error, ValueError):
                raise UserError(f"{url} is not an address: {error}") from None
            fault = _plain(error)
            kind = Unreachable if isinstance(error, (requests.ConnectionError, requests.Timeout)) else UserError
        if gained() >= most + _PROGRESS:
            retry, most = _retry(), gained()
        try:
            retry = retry.increment("GET", url, error=Exception(fault))
        except urllib3.exceptions.MaxRetryError:
            raise kind(f"cannot fetch {url}: {fault} ({len(retry.history) + 1} attempts)") from None
        (stop or threading.Event()).wait(min(max(retry.get_backoff_time(), seconds), LONGEST_WAIT))
        if stop and stop.is_set():
            raise kind(f"cannot fetch {url}: {fault} ({len(retry.history)} attempts)")


def _retry() -> Retry:
    return Retry(
        ATTEMPTS - 1, status_forcelist=_PASSING, backoff_factor=BACKOFF_SECONDS, backoff_jitter=BACKOFF_SECONDS
    )


def _plain(error: requests.RequestException) -> str:
    """The kind of a network failure in words; the library's own texts are nested objects."""
    for kind, text in (
        (requests.Timeout, "no answer in time"),
        (requests.ConnectionError, "no connection; check the network or the proxy"),
    ):
        if isinstance(error, kind):
            return text
    return type(error).__name__
