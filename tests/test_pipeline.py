"""run_coco1k_kd.sh as its users run it: real bash, real processes, real signals.

Most tests run the real script in a small project whose programs only record how they were called, so that stages,
stamps, locks and signals are tested in seconds; the last one runs the real programs from data to report.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from studies import with_signal

PROJECT = Path(__file__).resolve().parents[1]
SCRIPT = "run_coco1k_kd.sh"

# Each program appends its name and arguments to calls.txt in the current folder, then leaves what its stage leaves.
CREATE = """
import sys, json; from pathlib import Path
args = sys.argv[1:]
with open("calls.txt", "a") as file: file.write(json.dumps(["create", *args]) + "\\n")
out = Path(args[args.index("--output-dir") + 1]); out.mkdir(exist_ok=True)
(out / "manifest.json").write_text(args[args.index("--target-size") + 1])
(out / "coco1k.yaml").write_text("names: []")
"""
STUDY = """
import os, subprocess, sys, json, time; from pathlib import Path
args = sys.argv[1:]
with open("calls.txt", "a") as file: file.write(json.dumps(["study", *args]) + "\\n")
if "--report-only" in args:
    print("# head\\n- **cwd against baseline**: fine\\nwrote it"); sys.exit()
project = Path(args[args.index("--project") + 1]); project.mkdir(exist_ok=True)
(project / f"study_{time.time_ns()}.json").write_text("{}")
if os.environ.get("HANG"):
    child = subprocess.Popen(["sleep", "600"])
    Path("pids.txt").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
if code := int(os.environ.get("FAIL", 0)): print("error: it went wrong"); sys.exit(code)
stamp = time.time_ns()
(project / f"comparison_{stamp}.json").write_text("{}"); (project / f"kd_comparison_{stamp}.png").write_text("")
(project / f"report_{stamp}.html").write_text("")
"""
TORCH = "class cuda:\n    is_available = staticmethod(lambda: False)\n"
WEIGHTS = """
from pathlib import Path
def read_weights(path, role): Path(path).touch()
"""


class Pipeline:
    """A project with the real script, and a folder to run it in."""

    def __init__(self, project: Path, folder: Path, coco_root: Path) -> None:
        self.script, self.folder = project / SCRIPT, folder
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("COCO", "PYTHONPATH"))}
        self.env |= {"VENV": str(project / ".venv"), "COCO_ROOT": str(coco_root), "TEACHER": str(folder / "t.pt")}
        self.env |= {"STUDENT": str(folder / "s.pt"), "PIP_NO_INDEX": "1", "LC_ALL": "C.UTF-8"}

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        return subprocess.Popen([str(self.script), *args], cwd=self.folder, env=self.env | env, **pipes)

    def run(self, *args: str, code: int = 0, **env: str) -> str:
        """Run to the end, check the exit code, return all output."""
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=600)
        assert process.returncode == code, out + err
        return out + err

    def calls(self) -> list[list[str]]:
        """Calls of the programs since the last look."""
        path = self.folder / "calls.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def made(self, *args: str, **env: str) -> list[str]:
        """Run, and say which stages did something."""
        self.run(*args, **env)
        return ["report" if "--report-only" in call else call[0] for call in self.calls()]

    def hanging(self, *args: str) -> tuple[subprocess.Popen[str], list[int]]:
        """Start a run whose study hangs; return it with the process ids of the study and its child."""
        process = self.start(*args, HANG="1")
        pids = self.folder / "pids.txt"
        _until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        found = [int(pid) for pid in pids.read_text().split()]
        pids.unlink()
        return process, found


def _until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def small_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    venv = tmp_path_factory.mktemp("environment") / "빈 venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    return venv


@pytest.fixture
def pipeline(tmp_path: Path, coco_root: Path, small_venv: Path) -> Iterator[Pipeline]:
    project, folder = tmp_path / "the project 한글", tmp_path / "work here 한글"
    (project / "coco1k_kd").mkdir(parents=True)
    folder.mkdir()
    shutil.copy(PROJECT / SCRIPT, project)
    shutil.copy(PROJECT / "coco1k_kd" / "errors.py", project / "coco1k_kd")
    for name, text in {
        "create_coco1k.py": CREATE,
        "test_coco1k_kd.py": STUDY,
        "torch.py": TORCH,
        "cv2.py": "",
        "coco1k_kd/distill/weights.py": WEIGHTS,
        "coco1k_kd/report/markdown.py": "",
        "coco1k_kd/study/study.py": "",
        "coco1k_kd/data/sampling.py": "",
        "requirements.txt": "",
    }.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    made = Pipeline(project, folder, coco_root)
    made.env["VENV"] = str(small_venv)
    yield made


def test_help_fits_a_screen_and_starts_with_examples(pipeline):
    lines = pipeline.run("--help").splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 120
    assert lines[0].split()[:2] == ["./run_coco1k_kd.sh", "--demo"]
    assert list(pipeline.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--frm"], "unknown argument --frm"),
        (["--epochs", "3"], "after --"),
        (["--from", "plot"], "choose one of environment data weights compare report"),
        (["--demo", "--download"], "--demo makes its own data"),
        (["--from"], "--from needs a value"),
        (["--coco-root"], "--coco-root needs"),
        (["--judge"], "--judge needs a value"),
        (["--demo", "--", "--imgsz", "64", "--project", "elsewhere"], "--project is this script's"),
        (["--coco-root", "/nowhere"], "--coco-root DIR, fetch 0.6 GB of it with --download, or try --demo"),
    ],
)
def test_bad_usage_is_one_line(pipeline, args, says):
    output = pipeline.run(*args, code=2)
    assert says in output and output.startswith("error: ") and output.count("\n") == 1
    assert list(pipeline.folder.iterdir()) == []


def test_dry_run_prints_commands_and_changes_nothing(pipeline):
    venv = pipeline.folder.parent / "no venv yet"
    output = pipeline.run("--dry-run", "--", "--imgsz", "64", VENV=str(venv), SEEDS="4 5", FIT_TEACHER="auto")
    commands = [line for line in output.splitlines() if line.startswith("+ ")]
    assert "-m venv" in commands[0] and "pip install" in commands[1]
    assert "create_coco1k.py" in commands[2] and "--target-size 1500 --val-size 400" in commands[2]
    assert "--seeds 4 5 --fit-teacher auto --coco-root" in commands[4] and commands[4].endswith("--resume --imgsz 64")
    plain = pipeline.run("--dry-run", VENV=str(venv))
    assert "--seeds auto" in plain and "--fit-teacher" not in plain
    assert "--unlabelled photos" in pipeline.run("--dry-run", VENV=str(venv), UNLABELLED="photos")
    assert list(pipeline.folder.iterdir()) == [] and not venv.exists()
    demo = pipeline.run("--demo", "--dry-run")
    assert "coco1k_kd.demo" in demo and "name=teacher" in demo and "--seeds auto" in demo and "--start weights" in demo
    assert "--old" in demo and "--fit-teacher 25" in demo
    assert demo.index("name=student") < demo.index("name=teacher"), "a part of the stage's key: in one order"
    assert list(pipeline.folder.iterdir()) == []


def test_each_stage_is_done_once_and_again_when_what_it_depends_on_changes(pipeline):
    everything = ["create", "study", "report"]
    assert pipeline.made() == everything
    assert pipeline.made() == []
    assert pipeline.made(LOSS="mgd") == ["study", "report"]
    assert pipeline.made(LOSS="mgd", TARGET_SIZE="9") == everything
    assert pipeline.made(LOSS="mgd", TARGET_SIZE="9") == []
    assert pipeline.made("--download", LOSS="mgd", TARGET_SIZE="9") == []
    assert pipeline.made("--", "--imgsz", "64") == everything
    assert pipeline.made("--from", "report", "--", "--imgsz", "64") == ["report"]
    assert pipeline.made("--from=compare", "--", "--imgsz", "64") == ["study", "report"]
    assert pipeline.made("--from", "environment", "--", "--imgsz", "64") == everything
    code = pipeline.script.parent / "coco1k_kd"
    (code / "data" / "sampling.py").write_text("# changed")
    assert pipeline.made("--", "--imgsz", "64") == ["create"]
    (code / "report" / "markdown.py").write_text("# changed")
    assert pipeline.made("--", "--imgsz", "64") == ["report"]
    (code / "study" / "study.py").write_text("# changed")
    assert pipeline.made("--", "--imgsz", "64") == ["study", "report"]
    (pipeline.folder / "t.pt").write_text("another teacher")
    assert pipeline.made("--", "--imgsz", "64") == ["study", "report"]
    shutil.rmtree(pipeline.folder / "coco1k")
    assert pipeline.made("--", "--imgsz", "64") == ["create"]


def test_flags_reach_the_programs_and_results_are_named(pipeline):
    output = pipeline.run("--", "--controls", EPOCHS="3", BATCH="2", LOSS="mgd", SEEDS="0 7", DEVICE="cpu")
    study = " ".join(pipeline.calls()[1])
    for flags in ("--epochs 3", "--batch 2", "--loss mgd", "--seeds 0 7", "--device cpu", "--controls"):
        assert flags in study
    assert "--resume" in study and "--seeds 0 7" in study
    assert "CPU, no GPU found" in output
    assert "**cwd against baseline**" in output and "# head" not in output
    assert "results: " + str(pipeline.folder / "coco1k_kd_experiments" / "comparison_") in output
    rows = [line.split()[:2] for line in output.splitlines()[-5:]]
    assert [row[0] for row in rows] == ["environment", "data", "weights", "compare", "report"]
    assert all(state == "done" for _, state in rows[1:])
    logs = pipeline.folder / "logs"
    assert {path.name for path in logs.glob("*.log")} >= {"data.log", "weights.log", "compare.log", "report.log"}
    assert "--epochs 3" in (logs / "compare.log").read_text()


def test_setup_only_and_download(pipeline, tmp_path):
    output = pipeline.run("--setup-only", COCO_ROOT=str(tmp_path / "none"))
    assert output.splitlines()[-1].startswith("environment") and pipeline.calls() == []
    pipeline.run("--download", COCO_ROOT=str(tmp_path / "none"))
    (create, *_) = pipeline.calls()
    assert "--download" in create and create[create.index("--coco-root") + 1] == str(tmp_path / "none")


def test_a_failed_stage_is_named_and_the_next_run_goes_on(pipeline):
    output = pipeline.run(code=1, FAIL="1")
    assert "compare      failed (1)" in output and "error: it went wrong" in output
    assert f"(log: {pipeline.folder}/logs/compare.log); the same command goes on" in output
    pipeline.calls()
    assert pipeline.made() == ["study", "report"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_ends_its_children_and_the_next_run_resumes(pipeline, number, code):
    process, pids = pipeline.hanging()
    process.send_signal(number)
    output = process.communicate(timeout=30)
    assert process.returncode == code, output
    assert not any(map(_alive, pids))
    assert "the same command goes on from here" in output[1] and "compare      interrupted" in output[0]
    pipeline.calls()
    pipeline.run()
    assert ["--report-only" in call for call in pipeline.calls()] == [False, True]


def test_it_always_resumes_but_for_a_comparison_that_is_asked_for_anew(pipeline):
    def resumed(*args: str, **env: str) -> list[bool]:
        pipeline.run(*args, **env)
        return ["--resume" in call for call in pipeline.calls() if call[0] == "study" and "--report-only" not in call]

    assert resumed() == [True] and resumed(EPOCHS="3") == [True], "other settings are another study by themselves"
    assert resumed("--from", "compare", EPOCHS="3") == [False] and resumed("--from", "data", EPOCHS="3") == [True]


def test_the_judge_is_fetched_and_handed_on(pipeline):
    pipeline.run("--download", "--judge", "full")
    create, study, _ = pipeline.calls()
    assert create[create.index("--judge") + 1] == study[study.index("--judge") + 1] == "full"
    assert study[study.index("--coco-root") + 1] == pipeline.env["COCO_ROOT"]
    pipeline.run("--download", "--judge=val")
    create, study, _ = pipeline.calls()
    assert "--judge" not in create and study[study.index("--judge") + 1] == "val"
    pipeline.run("--download")
    assert not any("--judge" in call for call in pipeline.calls())


def test_a_second_run_on_one_folder_is_told_who_holds_it(pipeline):
    process, _ = pipeline.hanging()
    output = pipeline.run(code=2)
    assert f"is in use by another run (process {process.pid})" in output and output.count("\n") == 1
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    pipeline.run()


def test_a_subset_that_somebody_made_by_hand_is_not_replaced_unasked(pipeline):
    (pipeline.folder / "coco1k").mkdir()
    assert "--from data replaces it" in pipeline.run(code=2)
    assert pipeline.made("--from", "data") == ["create", "study", "report"]


def test_through_a_symbolic_link(pipeline, tmp_path):
    link = tmp_path / "kd"
    link.symlink_to(os.path.relpath(pipeline.script, tmp_path))
    pipeline.script = link
    assert pipeline.made() == ["create", "study", "report"]
    assert (pipeline.folder / "coco1k" / "manifest.json").exists()


def test_old_python_missing_venv_and_no_network_say_what_to_do(pipeline, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("python3", *(f"python3.{minor}" for minor in range(10, 15))):
        (tools / name).write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.18\nexit 1\n')
    for fake in tools.iterdir():
        fake.chmod(0o755)
    env = {"VENV": str(tmp_path / "new"), "PATH": f"{tools}:/usr/bin:/bin"}
    assert pipeline.run(code=2, **env).startswith(
        "error: Python 3.10 or newer is needed, found Python 3.8.18: sudo apt"
    )
    (tools / "python3").write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\n')
    assert pipeline.run(code=2, **env).startswith("error: python3-venv is missing: sudo apt install python3-venv")
    (pipeline.script.parent / "requirements.txt").write_text("a-package-that-is-not-there==1\n")
    network = {"PIP_NO_INDEX": "", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": ""}
    output = pipeline.run(code=1, PIP_RETRIES="0", PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull, **network)
    assert "error: no network: check the connection or the proxy" in output


def test_a_bare_server_gets_opencv_without_a_desktop(pipeline, tmp_path):
    (pipeline.script.parent / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    output = pipeline.run("--setup-only", code=1, VENV=str(tmp_path / "bare"))  # no index: the package cannot be had
    assert "pip uninstall -q -y opencv-python" in output
    assert "pip install opencv-python-headless" in output


def test_a_full_disk_is_foreseen(pipeline, tmp_path):
    df = tmp_path / "bin" / "df"
    df.parent.mkdir()
    df.write_text("#!/bin/sh\necho Filesystem\necho /dev/x 9 9 6999999 50% /\n")
    df.chmod(0o755)
    output = pipeline.run(code=2, PATH=f"{df.parent}:{os.environ['PATH']}", VENV=str(tmp_path / "new"))
    assert "needs 7 GB" in output and output.count("\n") == 1


def test_read_only_coco_and_real_programs_from_data_to_report(coco_root, tmp_path):
    from ultralytics import YOLO

    root, folder = tmp_path / "coco 원본", tmp_path / "실험 1"
    shutil.copytree(coco_root, root)
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = sorted(str(path) for path in root.rglob("*"))
    folder.mkdir()
    teacher = with_signal(YOLO("yolo11n.yaml"))
    teacher.save(folder / "teacher.pt")
    pipeline = Pipeline(PROJECT, folder, root)
    sizes = {"TARGET_SIZE": "24", "VAL_SIZE": "16", "EPOCHS": "1", "BATCH": "8", "DEVICE": "cpu", "SEEDS": "0"}
    models = {"STUDENT": "yolo11n.yaml", "TEACHER": "teacher.pt", "VENV": sys.prefix, "PIP_NO_INDEX": ""}
    flags = ("--imgsz", "64", "--distillation-weight", "0.05")  # random weights of both: a gradient of any size
    output = pipeline.run("--", *flags, **sizes, **models)
    (found,) = (folder / "coco1k_kd_experiments").glob("comparison_*.json")
    comparison = json.loads(found.read_text())
    assert set(comparison["arms"]) == {"baseline", "cwd"}
    assert list(found.parent.glob("kd_comparison_*.png")) and "cwd against baseline" in output
    (report,) = found.parent.glob("report_*.html")
    assert f"report:  {report}" in output
    assert sorted(str(path) for path in root.rglob("*")) == before
    again = pipeline.run("--", *flags, **sizes, **models)
    assert [line.split()[1] for line in again.splitlines()[-5:]] == ["stands"] * 5
