"""Runs of a study on the nodes of a Ray cluster: `slots.Slots` for many machines.

Only `--ray` imports this module, and this module alone imports ray. A run stays what it is on one machine, a process
that reads a spec and writes into its folder, hence the one demand: project, data and weights lie on storage that every
node sees at the same path. A run whose worker or node dies is started again elsewhere and goes on from its snapshot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from coco1k_kd.errors import UserError
from coco1k_kd.files import NO_LOCKS
from coco1k_kd.runs.code import installed
from coco1k_kd.runs.devices import read_devices
from coco1k_kd.runs.launch import RunFailed, RunKilled, launch
from coco1k_kd.runs.spec import Outcome, Spec

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what a study does is nobody else's business
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise UserError("--ray: Ray is not installed: pip install -r requirements-ray.txt, here and on the nodes") from None

GIB = 2**30
MEMORY_GIB = 4.0  # of a run, unless it is said; docs/lab/coco-five-epochs.md has what some took
_PROBE = ".ray_"  # begins the name of a file that shows that a node shares the driver's storage
_RETRIES = 5
_CONNECT_SECONDS = 5
_CHECK_SECONDS = 300  # a node's first task also fetches this package
_SAME = ("torch", "ultralytics", "numpy")  # packages whose versions the audit compares


class Cluster:
    """Starts every run as a Ray task that reserves its share of a node. A context manager: left, it ends the runs.

    Args:
        address: as of `ray.init`; "" for the cluster that RAY_ADDRESS or this machine has, else one of this machine.
        gpus: cards per run, also parts of one; None for as many as `check` is told, or one where the cluster has any.
        cpus: cores per run; None for the run's part of its node, by cards, or for as many as a CPU run has threads.
        memory: GiB per run.

    Raises:
        UserError: no cluster there.
    """

    grows = True

    def __init__(
        self, address: str, gpus: float | None = None, cpus: float | None = None, memory: float = MEMORY_GIB
    ) -> None:
        for flag, value in (("--gpus-per-run", gpus), ("--cpus-per-run", cpus), ("--memory-per-run", memory)):
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"{flag} {value}: must be a number, 0 or more")
        if gpus and gpus > 1 and gpus != int(gpus):
            raise UserError(f"--gpus-per-run {gpus}: must be a part of one card, or whole cards")
        self.address, self.gpus, self.cpus, self.memory = address, gpus, cpus, memory
        self.number = 0
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Cluster:
        _connect(self.address)
        self._open.callback(ray.shutdown)  # ends this job's workers, and they their runs
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def check(self, device: str, project: Path, files: Sequence[Path]) -> None:
        """UserError unless some node has room for a run, and every such node sees what the driver sees.

        Args:
            device: "", "cpu", or "0,1" for two cards a run, and so on: which ones they are is Ray's business.
            project: where the runs will lie; a file in it, locked while the study lasts, shows that a node shares it.
            files: what runs read.
        """
        cards = len(read_devices(device))
        if device not in ("", "cpu") and (cards == 1 or device != _first(cards)):
            raise UserError(
                f"--device {device}: with --ray it is Ray that chooses cards; give cpu, nothing, or 0,1 for two a run"
            )
        if self.gpus is not None and max(self.gpus, cards) > 1 and self.gpus != cards:
            takes = f"on --device {device} takes {cards}" if cards > 1 else "takes 1"
            other = f", or {self.gpus:g} with --device {_first(int(self.gpus))}" if self.gpus > 1 else ""
            raise UserError(f"--gpus-per-run {self.gpus:g}: a run {takes}{other}")
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._fill_in(device, [node["Resources"] for node in nodes])
        room = {node["NodeID"]: self._room(node["Resources"]) for node in nodes}
        self.number = sum(room.values())
        if not self.number:
            raise UserError(
                f"--ray: no node has room for a run of {self.gpus:g} GPUs, {self.cpus:g} CPUs and {self.memory:g} GiB; "
                "take less with --gpus-per-run, --cpus-per-run or --memory-per-run"
            )
        kinds = sorted({kind for node in nodes for kind in node["Resources"] if kind.startswith("accelerator_type:")})
        if self.gpus and len(kinds) > 1:
            raise UserError(f"--ray: the cluster has {' and '.join(kinds)}: runs on unequal cards cannot be compared")
        try:
            project.mkdir(parents=True, exist_ok=True)
            _sweep(project)
            handle, probe = tempfile.mkstemp(dir=project, prefix=_PROBE)
            self._open.callback(os.close, handle)
            self._open.callback(Path(probe).unlink)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise UserError(f"--ray: {_without_locks(project, error)}") from None
            raise UserError(f"cannot write to --project {project}: {error.strerror}") from None
        self._needs = (Path(probe), [path.absolute() for path in files], installed(_SAME))
        task = ray.remote(num_cpus=0, max_retries=0)(unfit)
        asked = [
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*self._needs)
            for node in room
            if room[node]
        ]
        try:
            faults = ray.get(asked, timeout=_CHECK_SECONDS)
        except RayError as error:
            raise UserError(f"--ray: a node does not answer ({_line(error)})") from None
        if found := [fault for fault in faults if fault]:
            raise UserError(f"--ray: {found[0]}")

    def shares_a_gpu(self, device: str) -> bool:
        """As of `Slots`: whether a run is given a part of a card."""
        return bool(self.gpus) and self.gpus < 1

    def submit(self, spec: Spec, label: str) -> Future[Outcome]:
        """Start `spec` as soon as a node has room; the future raises what `launch` does."""
        task = ray.remote(
            num_gpus=self.gpus,
            num_cpus=self.cpus,
            memory=int(self.memory * GIB) or None,
            max_retries=_RETRIES,
            retry_exceptions=[RunKilled],
            scheduling_strategy="SPREAD",
        )(_run)
        threads = os.environ.get("OMP_NUM_THREADS")
        answer: Future[Outcome] = Future()
        sent = task.options(name=label).remote(spec, label, bool(self.gpus), threads, self._needs)
        sent.future().add_done_callback(partial(_hand_over, answer, label))
        return answer

    def _fill_in(self, device: str, nodes: Sequence[dict[str, float]]) -> None:
        """What was not said of a run's share, from what the nodes have."""
        if self.gpus is None:
            several = len(read_devices(device))
            self.gpus = float(several * (device != "cpu" and (several > 1 or any(node.get("GPU") for node in nodes))))
        if self.cpus is not None:
            return
        if self.gpus:
            parts = [int(node.get("CPU", 0) * self.gpus / node["GPU"]) for node in nodes if node.get("GPU")]
            self.cpus = float(max(1, min(parts, default=1)))
        else:
            from ultralytics.utils import NUM_THREADS

            self.cpus = float(NUM_THREADS)

    def _room(self, node: dict[str, float]) -> int:
        """How many runs fit on a node."""
        wants = {"GPU": self.gpus, "CPU": self.cpus, "memory": self.memory * GIB}
        return min((int(node.get(name, 0) / want + 1e-6) for name, want in wants.items() if want), default=1)


def _first(cards: int) -> str:
    """`--device` of a run that has so many cards to itself."""
    return ",".join(map(str, range(cards)))


def _sweep(project: Path) -> None:
    """Remove what drivers left behind that were killed: their locks went with them."""
    for path in project.glob(f"{_PROBE}*"):
        with path.open() as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


def _without_locks(folder: Path, error: OSError) -> str:
    return (
        f"{folder} has no file locks ({error.strerror}), by which nodes and driver know that they see the same folder: "
        "mount it with them (Lustre: -o flock), or choose another --project"
    )


def unfit(probe: Path, files: Sequence[Path], versions: dict[str, str]) -> str:
    """Why the node on which this runs cannot take part in the study, in a line; "" if it can."""
    here = socket.gethostname()
    try:
        with probe.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return (
            f"{here} does not see the driver's lock in {probe.parent}: mount it with file locks, or the driver is gone"
        )
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno in NO_LOCKS:
            return f"{here}: {_without_locks(probe.parent, error)}"
        return f"{here} does not see {probe.parent}: put --project on storage that all nodes share, at the same path"
    if missing := [path for path in files if not path.exists()]:
        return f"{here} does not see {missing[0]}: data and weights must lie on storage that all nodes share"
    own = installed(versions)
    for name, expected in versions.items():
        if own.get(name) != expected:
            return f"{here} has {name} {own.get(name)}, the driver {expected}: the runs would not be comparable"
    return ""


def _run(
    spec: Spec, label: str, gpu: bool, threads: str | None, needs: tuple[Path, list[Path], dict[str, str]]
) -> Outcome:
    """The task: a late node has not been looked at yet, and Ray's settings for its workers are not the run's."""
    if fault := unfit(*needs):
        raise UserError(f"--ray: {fault}")
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ |= {"OMP_NUM_THREADS": threads} if threads else {}
    os.environ |= {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return launch(spec, label)


def _hand_over(answer: Future[Outcome], label: str, sent: Future[Outcome]) -> None:
    try:
        answer.set_result(sent.result())
    except RayTaskError as error:
        answer.set_exception(error.cause)
    except RayError as error:
        answer.set_exception(RunFailed(f"{label} failed: its worker died {_RETRIES + 1} times ({_line(error)})"))
    except Exception as error:
        answer.set_exception(error)


def _connect(address: str) -> None:
    if ":" in address:  # Ray itself would try for minutes
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            raise UserError(
                f"--ray {address}: no cluster answers ({error}); start one with: ray start --head"
            ) from None
    package = str(Path(__file__).resolve().parents[1])
    try:
        ray.init(
            address or None,
            runtime_env={"py_modules": [package], "excludes": ["__pycache__"]},  # the same program on all nodes
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=False if not address else None,
        )
    except Exception as error:  # Ray raises whatever its layers raised
        raise UserError(f"--ray {address}: cannot connect ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
