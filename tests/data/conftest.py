"""What these tests may spoil: a copy of the generated COCO root, a subset of it, and a server of images."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Server, jpeg
from subsets import make

from coco1k_kd.data import fetch


@pytest.fixture
def copy(coco_root: Path, tmp_path: Path) -> Path:
    """A COCO root that a test may harm; its files share nothing with the session's."""
    return Path(shutil.copytree(coco_root, tmp_path / "coco"))


@pytest.fixture
def made(copy: Path, tmp_path: Path) -> Path:
    return make(copy, tmp_path / "made")


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
        server.files |= {f"/train2017/{i}.jpg": jpeg(i) for i in range(n)}
        names = [f"train2017/{i}.jpg" for i in range(n)]
        return [(f"http://images.cocodataset.org/{name}", tmp_path / "한 글" / name) for name in names]

    return make
