"""Several runs at a time on this machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from coco1k_kd.runs.devices import check_device, on_cpu
from coco1k_kd.runs.launch import launch
from coco1k_kd.runs.spec import Outcome, Spec


class Slots:
    """Starts up to `number` runs at a time, each in a process of its own. Left, it ends those under way first.

    `cluster.Cluster` is the same for the nodes of a Ray cluster.
    """

    grows = False  # whether there may be more slots later

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(number)

    def __enter__(self) -> Slots:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown(cancel_futures=True)

    def check(self, device: str, project: Path, files: Sequence[Path]) -> None:
        """UserError if the device is not there. `Cluster` also looks whether its nodes see the files."""
        check_device(device)

    def shares_a_gpu(self, device: str) -> bool:
        """Whether two runs under way at once slow each other down in a way that no clock of theirs tells apart."""
        return not on_cpu(device)

    def submit(self, spec: Spec, label: str) -> Future[Outcome]:
        """Start `spec` as soon as a slot is free; the future raises what `launch` does."""
        return self._threads.submit(launch, spec, label, self._stop)
