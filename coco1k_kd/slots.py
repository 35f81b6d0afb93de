"""Several runs at a time on this machine."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from coco1k_kd.launcher import launch


class Slots:
    """Starts up to `number` runs at a time, each in a process of its own. Left, it ends those under way first.

    `cluster.Cluster` is the same for the nodes of a Ray cluster.
    """

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(number)

    def __enter__(self) -> Slots:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown(cancel_futures=True)

    def submit(self, spec: dict[str, Any], label: str) -> Future[dict[str, Any]]:
        """Start `spec` as soon as a slot is free; the future raises what `launch` does."""
        return self._threads.submit(launch, spec, label, self._stop)
