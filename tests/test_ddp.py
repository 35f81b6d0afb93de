"""Two processes over gloo, each with half of the batch, must take the step of one process with both halves."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import ultralytics

WORKER = Path(__file__).with_name("ddp_worker.py")


@pytest.fixture(scope="module")
def steps(subset, tmp_path_factory) -> Path:
    """The first steps of all cases, by two ranks and by the one process that they must equal."""
    folder = tmp_path_factory.mktemp("ddp")
    for name in ("yolo11n", "yolov8n"):
        torch.manual_seed(0)
        ultralytics.YOLO(f"{name}.yaml", verbose=False).save(folder / f"{name}.pt")
    arguments = [str(subset / "coco1k.yaml"), str(folder / "yolo11n.pt"), str(folder / "yolov8n.pt"), str(folder)]
    run([0, 1], arguments)
    run([-1], arguments)
    return folder


def run(ranks: list[int], arguments: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    base = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[1])}
    processes = []
    for rank in ranks:
        group = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        command = [sys.executable, str(WORKER), *arguments]
        environment = {**base, **(group if rank >= 0 else {})}
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    for process in processes:
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, output[-3000:]


@pytest.mark.parametrize("loss", ["cwd", "mgd"])
def test_two_processes_take_the_step_of_one(loss, steps):
    first, second, one = (torch.load(steps / f"{loss}_step{rank}.pt") for rank in (0, 1, -1))
    images = [torch.load(steps / f"{loss}_batch{rank}.pt", weights_only=False)["img"] for rank in (0, 1)]
    assert len(images[0]) == len(images[1]) == 4 and not torch.equal(*images)
    for part in ("student", "distiller"):
        assert one[part]
        for name, expected in one[part].items():
            assert torch.equal(first[part][name], second[part][name]), name
            torch.testing.assert_close(first[part][name], expected, rtol=1e-3, atol=1e-5)
    assert sum(float(g.abs().sum()) for g in first["distiller"].values()) > 0


def test_ranks_start_from_the_same_fitted_aligners_and_calibrated_weight(steps):
    first, second = (torch.load(steps / f"pooled_step{rank}.pt") for rank in (0, 1))
    assert first["aligners"] and all(torch.equal(v, second["aligners"][k]) for k, v in first["aligners"].items())
    assert first["weight"] == second["weight"] != 1
