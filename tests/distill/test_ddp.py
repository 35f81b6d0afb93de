"""Two ranks over gloo on the CPU: the step they take, the studies they train, and what happens when one dies."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest
import torch
import ultralytics
import yaml
from msgspec import structs
from programs import Program, forking
from studies import PROGRAM, alive, environment, run, wait_for

from coco1k_kd.runs.launch import LOG, RunFailed, RunKilled, launch
from coco1k_kd.runs.results import finished
from coco1k_kd.runs.spec import read_spec
from coco1k_kd.study.collect import state_difference

WORKER = Path(__file__).parents[1] / "ddp_worker.py"
SEAM = os.pathsep.join([str(WORKER.with_name("cpu_ranks")), str(PROGRAM.parent)])


@pytest.fixture(scope="module")
def two_gpus() -> Iterator[None]:
    """Programs that are started see two GPUs, which are the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SEAM)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def steps(two_gpus: None, subset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first steps of all cases, by two ranks and by the one process that they must equal."""
    folder = tmp_path_factory.mktemp("ddp")
    for name in ("yolo11n", "yolov8n"):
        torch.manual_seed(0)
        ultralytics.YOLO(f"{name}.yaml", verbose=False).save(folder / f"{name}.pt")
    arguments = [str(subset / "coco1k.yaml"), str(folder / "yolo11n.pt"), str(folder / "yolov8n.pt"), str(folder)]
    work([0, 1], arguments)
    work([-1], arguments)
    return folder


def work(ranks: list[int], arguments: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
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
        processes.append(Program(command, env={**os.environ, **(group if rank >= 0 else {})}))
    for process in processes:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, output[-3000:] + errors[-3000:]


@pytest.mark.parametrize("loss", ["cwd", "mgd", "cwd+response"])
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
    assert first["weight"] == second["weight"] != {"cwd": 1}


def test_ranks_step_together_where_no_batch_was_taught(steps):
    first, second = (torch.load(steps / f"every_step{rank}.pt") for rank in (0, 1))
    assert first["student"] and all(torch.equal(g, second["student"][n]) for n, g in first["student"].items())
    for rank in (first, second):
        assert rank["distiller"] and all(gradient is None for gradient in rank["distiller"].values())
    assert all(torch.equal(v, second["aligners"][k]) for k, v in first["aligners"].items())


def processes(folder: Path) -> list[int]:
    """Those of the run in `folder`: the one that the study has started, then its ranks."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "fd" / "1").readlink() == folder / LOG:
                found.append(int(place.name))
    return sorted(found)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "time"} for row in csv.DictReader(file)]


def test_a_study_on_two_gpus_is_killed_and_ends_as_if_it_had_not_been(
    two_gpus: None, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock distillation too; with mosaics, and a gradient that waits for its step when the run is killed."""
    flags = ["--device", "0,1", "--arms", "baseline", "cwd", "ultralytics", "--epochs", "2"]
    asked = [*command[:-1], str(tmp_path), *flags, "--train", "nbs=16", "close_mosaic=0"]
    doing = Program(asked, env=environment())
    cwd = wait_for(lambda: next(tmp_path.glob("kd_cwd_*"), None))
    wait_for((cwd / "weights" / "resume.pt").exists)
    own = processes(cwd)
    doing.kill()
    doing.wait()
    assert len(own) == 3
    wait_for(lambda: not any(map(alive, own)))
    assert not (cwd / "result.json").exists(), "killed too late to show anything"
    waiting = torch.load(cwd / "weights" / "resume.pt", weights_only=False)["gradients"]
    assert waiting[-1] is not None and float(waiting[-1].abs().sum()) > 0, "the aligner's has just been used"

    done = run(asked, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(next(tmp_path.glob("comparison_*.json")).read_bytes())
    jsonschema.validate(content, json.loads((PROGRAM.parent / "docs" / "comparison.schema.json").read_bytes()))
    runs = {arm: entry["runs"][0] for arm, entry in content["arms"].items()}
    assert content["audit"]["passed"] and "world_size" in content["audit"]["compared"]
    assert [(entry["world_size"], entry["effective_batch"]) for entry in runs.values()] == [(2, 8)] * 3
    assert runs["cwd"]["resumed_after_epochs"] == [1] and min(runs["cwd"]["curves"]["kd_loss"]) > 0
    assert runs["cwd"]["images_per_second"] * runs["cwd"]["train_seconds"] == pytest.approx(2 * 48)

    undisturbed = tmp_path / "undisturbed"
    spec = structs.replace(read_spec(cwd), folder=str(undisturbed))
    args = spec.train_args | {"data": "gone.yaml"}
    broken = structs.replace(spec, folder=str(tmp_path / "broken"), train_args=args)
    with monkeypatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr("coco1k_kd.runs.launch.subprocess", forking())
        loses_a_rank = pool.submit(launch, spec, "cwd, seed 0")
        own = wait_for(lambda: found if len(found := processes(undisturbed)) == 3 else None)
        os.kill(own[2], signal.SIGKILL)
        with pytest.raises(RunKilled, match=r"cwd, seed 0 was killed \(SIGKILL\)"):
            loses_a_rank.result()
        assert not any(map(alive, own)), "the other rank goes on"
        with pytest.raises(RunFailed, match=r"broken failed: rank \d: RuntimeError: Dataset .*gone\.yaml.*\n  log: .*"):
            launch(broken, "broken")
    result = launch(spec, "cwd, seed 0")  # in processes that are no forks
    assert result.resumed_after_epochs == []
    resumed = finished(cwd)
    for key in ("init_hash", "batch_hash", "stream_hash", "images", "epochs", "effective_batch"):
        assert getattr(result, key) == getattr(resumed, key)
    assert rows(undisturbed) == rows(cwd) and len(rows(cwd)) == 2
    assert state_difference(undisturbed / "weights" / "last.pt", cwd / "weights" / "last.pt") == 0
    assert state_difference(cwd / "weights" / "last.pt", Path(runs["baseline"]["dir"]) / "weights" / "last.pt") > 0
    for file in ("predictions_last.json", "predictions_best.json"):
        assert (undisturbed / file).read_bytes() == (cwd / file).read_bytes()


def test_yolo_distils_on_two_gpus_that_ultralytics_starts_itself(
    two_gpus: None, subset: Path, models: Path, tmp_path: Path
) -> None:
    """Its workers are given the trainer's class and rebuild it from that: the settings must come with it."""
    settings = {"teacher": str(models / "teacher.pt"), "distillation_loss": "mgd", "distillation_weight": 2.5}
    training = {"data": str(subset / "coco1k.yaml"), "epochs": 1, "batch": 8, "imgsz": 64, "device": "0,1"}
    more = {"plots": False, "project": str(tmp_path), "name": "run", "exist_ok": True}
    script = f"from coco1k_kd import YOLO; YOLO({str(models / 'student.pt')!r}).train(**{settings | training | more})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "torch.distributed.run --nproc_per_node 2" in done.stdout + done.stderr
    (row,) = rows(tmp_path / "run")
    assert float(row["train/kd_loss"]) > 0 and float(row["kd/weight"]) == 2.5
    written = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    assert written["distillation_loss"] == "mgd" and written["device"] == "0,1"
    assert type(ultralytics.YOLO(tmp_path / "run" / "weights" / "last.pt").model).__name__ == "DetectionModel"


def test_gpus_that_are_not_there_are_one_line(command: list[str], tmp_path: Path) -> None:
    done = run([*command[:-1], str(tmp_path / "runs")], "--device", "98,99")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "--device 98,99: there are" in done.stderr and not (tmp_path / "runs").exists()
