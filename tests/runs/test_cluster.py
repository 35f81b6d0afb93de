"""Studies on a Ray cluster: a real one of several nodes on loopback, whose workers and nodes are killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from programs import Program, call
from ray.cluster_utils import Cluster as Nodes
from studies import PROGRAM, alive, assert_same_study, children_of, environment, run, wait_for

from coco1k_kd.data.dataset import read_data
from coco1k_kd.data.lesson import digest
from coco1k_kd.data.pool import read_pool
from coco1k_kd.distill.weights import read_weights
from coco1k_kd.errors import UserError
from coco1k_kd.files import NO_LOCKS
from coco1k_kd.runs import taught
from coco1k_kd.runs.cluster import Cluster, _sweep, unfit
from coco1k_kd.runs.launch import holder
from coco1k_kd.study.lessons import Source, keep, labels_of, teach_once

STORE = 80_000_000  # bytes of each node's object store, which nothing is put into


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head without room for runs and two nodes with room for one each."""
    with pytest.MonkeyPatch.context() as patch:
        # A node that does not answer for 100 seconds is dead, since a loaded machine is slow; one that refuses, in 3.
        patch.setenv("RAY_health_check_failure_threshold", "10")
        patch.setenv("RAY_health_check_period_ms", "300")
        head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
        cluster = Nodes(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
        yield cluster
        for node in reversed(cluster.list_all_nodes()):  # `shutdown` gives each of their processes a second
            cluster.remove_node(node, allow_graceful=False)


def snapshots(folder: Path) -> int:
    """Changes with every snapshot; 0 for none."""
    path = folder / "weights" / "resume.pt"
    return path.stat().st_mtime_ns if path.exists() else 0


def pid_of(folder: Path) -> int:
    """The Ray worker that watches the run in `folder`; 0 while there is none."""
    return int((holder(folder) or "0").split()[0])


def test_whatever_dies_the_study_is_the_same(
    nodes: Nodes, whole: SimpleNamespace, command: list[str], tmp_path: Path
) -> None:
    """The driver is killed, then a worker, then a node; a node joins. Each run loses its process twice."""
    shutil.copytree(whole.project / "references", tmp_path / "references")
    on_ray = [*command[:-1], str(tmp_path), "--ray", nodes.address, "--cpus-per-run", "1", "--memory-per-run", "1"]
    driver = Program(on_ray, env=environment())
    folders = [wait_for(lambda name=name: next(tmp_path.glob(name), None)) for name in ("baseline_*", "kd_cwd_*")]
    baseline, cwd = folders
    wait_for(lambda: all(map(snapshots, folders)))  # both in mid-training, on a node each
    runs = [children_of(pid_of(folder))[0] for folder in folders]
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(map(alive, runs)))
    assert not list(tmp_path.glob("*/result.json")), "killed too late to show anything"

    before = {folder: snapshots(folder) for folder in folders}
    driver = Program([*on_ray, "--resume"], env=environment())
    victim = wait_for(lambda: pid_of(baseline) if snapshots(baseline) != before[baseline] else 0)
    os.kill(victim, signal.SIGKILL)
    worker = wait_for(lambda: pid_of(cwd) if snapshots(cwd) != before[cwd] else 0)
    (lost,) = [node for node in nodes.worker_nodes if is_parent(node, worker)]
    nodes.remove_node(lost, allow_graceful=False)
    wait_for(lambda: not alive(worker))
    nodes.add_node(num_cpus=1, object_store_memory=STORE)
    said, errors = driver.communicate(timeout=600)
    assert driver.returncode == 0, said + errors
    content = json.loads(next(tmp_path.glob("comparison_*.json")).read_bytes())
    assert [arm["runs"][0]["resumed_after_epochs"] for arm in content["arms"].values()] == [[1, 2], [1, 2]]
    assert_same_study(content, whole.content)
    assert content["at_once"] == 2 and "2/2" in said
    assert not list(tmp_path.glob(".ray_*"))


def test_a_teacher_looks_at_a_pool_on_the_nodes_and_finds_what_it_finds_here(
    nodes: Nodes, subset: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(taught, "WORTH", 1)
    data, teacher = read_data(subset / "coco1k.yaml"), models / "teacher.pt"
    shutil.copytree(subset / "images" / "train2017", tmp_path / "pool")
    pool = read_pool(tmp_path / "pool")
    source = Source([data], replace(pool, images=pool.images[:8]), False, tmp_path / "here", 64, device="cpu", batch=4)
    weights = read_weights(str(teacher), "teacher")
    teach_once(replace(source, pool=None), weights)
    shutil.copytree(tmp_path / "here", tmp_path / "there")  # the boxes of the val images, which a further pass finds
    here = teach_once(source, weights)
    monkeypatch.setattr(taught, "look", lambda *_: pytest.fail("this machine may have no card"))
    with Cluster(nodes.address, cpus=1, memory=1) as cluster:
        cluster.check("cpu", tmp_path, [teacher])
        there = teach_once(replace(source, project=tmp_path / "there"), weights, cluster)
    assert labels_of(here.pool, here) and digest(there) == digest(here) and there.cost.seconds > 0
    assert keep(there, tmp_path / "there", "pool").name == keep(here, tmp_path / "here", "pool").name
    found = [
        {sha: rows for file in (tmp_path / place).rglob("boxes_*") for sha, rows in images_of(file).items()}
        for place in ("here", "there")
    ]
    assert found[0] == found[1] and len(found[0]) == 8 + data.val.size
    assert len(list((tmp_path / "there").rglob("boxes_*"))) == 2, "a process each"


def images_of(file: Path) -> dict[str, Any]:
    """The boxes in a teacher's file, by the SHA-256 of the image."""
    return json.loads(file.read_bytes())["images"]


def is_parent(node: Any, worker: int) -> bool:
    """Whether a worker belongs to a node."""
    (raylet,) = node.all_processes["raylet"]
    return worker in children_of(raylet.process.pid)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--gpus-per-run", "1"], "no node has room for a run of 1 GPUs"),
        (["--project", "/proc/self/cwd/runs"], "does not see /proc/self/cwd/runs: put --project on storage that all"),
    ],
)
def test_a_cluster_that_cannot_serve_is_refused(
    nodes: Nodes, command: list[str], tmp_path: Path, flags: list[str], named: str
) -> None:
    # What is under /proc/self/cwd is another folder for each process: storage that is not shared.
    done = call([*command[:-1], str(tmp_path), "--ray", nodes.address, *flags], cwd=tmp_path, env=environment())
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and named in done.stderr, done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "it left something behind"


@pytest.mark.parametrize("number", NO_LOCKS)
def test_a_file_system_without_locks_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "probe").touch()
    monkeypatch.setattr(fcntl, "flock", none)
    assert f"{tmp_path} has no file locks ({os.strerror(number)})" in unfit(tmp_path / "probe", [], {})


def test_a_node_is_unfit_for_a_reason(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    assert "does not see" in unfit(probe, [], {})
    with probe.open("w") as driver:
        assert "does not see the driver's lock" in unfit(probe, [], {})
        fcntl.flock(driver, fcntl.LOCK_EX)
        assert unfit(probe, [probe], {}) == ""
        assert "does not see /nowhere/teacher.pt" in unfit(probe, [probe, Path("/nowhere/teacher.pt")], {})
        assert "the driver 1.0: the runs would not be comparable" in unfit(probe, [], {"torch": "1.0"})


def test_what_a_killed_driver_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path: Path) -> None:
    left, held = (tmp_path / f".ray_{name}" for name in ("left", "held"))
    left.touch()
    with held.open("w") as driver:
        fcntl.flock(driver, fcntl.LOCK_EX)
        _sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [held]


def test_a_run_takes_its_share_of_the_smallest_node() -> None:
    nodes = [{"GPU": 8.0, "CPU": 64.0, "memory": 2.0**36}, {"GPU": 4.0, "CPU": 16.0, "memory": 2.0**34}, {"CPU": 4.0}]
    quarter = Cluster("", gpus=0.25)
    quarter._fill_in("", nodes)
    assert (quarter.gpus, quarter.cpus) == (0.25, 1.0) and [quarter._room(node) for node in nodes] == [16, 4, 0]
    whole_card = Cluster("", memory=1)
    whole_card._fill_in("", nodes)
    assert (whole_card.gpus, whole_card.cpus) == (1.0, 4.0) and [whole_card._room(node) for node in nodes] == [8, 4, 0]
    without = Cluster("", cpus=2, memory=0)
    without._fill_in("cpu", nodes)
    assert without.gpus == 0 and [without._room(node) for node in nodes] == [32, 8, 2]


def test_a_run_on_two_cards_takes_two_of_a_node() -> None:
    nodes = [{"GPU": 8.0, "CPU": 64.0, "memory": 2.0**36}, {"GPU": 3.0, "CPU": 12.0, "memory": 2.0**34}]
    pair = Cluster("")
    pair._fill_in("0,1", nodes)
    assert (pair.gpus, pair.cpus) == (2.0, 8.0) and [pair._room(node) for node in nodes] == [4, 1]


@pytest.mark.parametrize(
    ("device", "gpus", "named"),
    [
        ("1", None, "--device 1: with --ray it is Ray that chooses"),
        ("1,2", None, "--device 1,2: with --ray it is Ray that chooses"),
        ("0,1", 1, "--gpus-per-run 1: a run on --device 0,1 takes 2"),
        ("0,1", 0.5, "--gpus-per-run 0.5: a run on --device 0,1 takes 2"),
        ("", 2, "--gpus-per-run 2: a run takes 1, or 2 with --device 0,1"),
    ],
)
def test_cards_that_a_run_would_not_use_are_refused(device: str, gpus: float | None, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Cluster("", gpus).check(device, Path("nowhere"), [])


@pytest.mark.parametrize("share", [{"gpus": 1.5}, {"gpus": -1.0}, {"cpus": float("nan")}, {"memory": float("inf")}])
def test_a_share_that_cannot_be_is_refused(share: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(share))}-per-run"):
        Cluster("", **share)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--ray", "127.0.0.1:1"], "--ray 127.0.0.1:1: no cluster answers"),
        (["--ray", "--parallel", "2"], "--parallel is for one machine"),
        (["--gpus-per-run", "0.5"], "give --ray, too"),
    ],
)
def test_what_cannot_be_is_one_line(command: list[str], tmp_path: Path, flags: list[str], named: str) -> None:
    done = run([*command[:-1], str(tmp_path / "runs")], *flags)
    assert done.returncode == 2 and named in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "runs").exists()


def test_without_ray_installed_it_says_how_to_get_it_and_nothing_else_needs_it(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('not installed')")
    without = {**environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROGRAM.parent}"}
    done = subprocess.run([sys.executable, str(PROGRAM), "--ray"], capture_output=True, text=True, env=without)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "pip install -r requirements-ray.txt" in done.stderr
    code = "import sys, coco1k_kd.study.study, coco1k_kd.runs.train; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=without).returncode == 0
