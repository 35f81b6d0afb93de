"""Wherever it runs, it goes on, or ends with one line that names the cause."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ODD = 'it\'s "a" 한글 $HOME [b]*? -x'  # what a shell, a glob or a YAML may take for something else


@dataclass(frozen=True)
class Case:
    """`before`: shell commands, in which {folder} is where the output goes; `site`: Python that is run at the start.

    `says`: what the one line holds that refuses; "" where the program goes on. `mounts`: it needs a mount.
    """

    before: str = ""
    site: str = ""
    says: str = ""
    folder: str = "here"
    mounts: bool = False


def _raising(function: str, number: int) -> str:
    module, name = function.rsplit(".", 1)
    imported = module.partition(".")[0]
    return (
        f"import {imported}, os\ndef broken(*_, **__): raise OSError({number}, os.strerror({number}))\n"
        f"{module}.{name} = broken\n"
    )


CASES = {
    "64 open files": Case("ulimit -n 64"),
    "no home": Case("unset HOME"),
    "home and temporary folder are not there": Case("export HOME=/nowhere TMPDIR=/nowhere"),
    "no locks, as NFS without lockd": Case(site=_raising("fcntl.flock", errno.ENOLCK)),
    "no locks, as Lustre without -o flock": Case(site=_raising("fcntl.flock", errno.ENOSYS)),
    "no hard links": Case(site=_raising("os.link", errno.EPERM)),
    "an odd path": Case(folder=ODD),
    "a leading dash": Case(folder="-d"),
    "tiny shared memory": Case("mount -t tmpfs -o size=64k tmpfs /dev/shm", mounts=True),
    "read-only": Case("mount -t tmpfs -o ro tmpfs {folder}", says="Read-only file system", mounts=True),
    "full": Case("mount -t tmpfs -o size=64k tmpfs {folder}", says="MB free", mounts=True),
    "full in the middle": Case(site=_raising("pathlib.Path.write_bytes", errno.ENOSPC), says="No space left on device"),
    "a quota": Case(site=_raising("pathlib.Path.write_bytes", errno.EDQUOT), says="quota exceeded"),
}


def _can_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize("name", CASES)
def test_it_goes_on_or_ends_with_one_line(name: str, coco_root: Path, tmp_path: Path) -> None:
    case, folder, site = CASES[name], tmp_path / CASES[name].folder, tmp_path / "site"
    if case.mounts and not _can_mount():
        pytest.skip("nothing can be mounted here")
    folder.mkdir()
    site.mkdir()
    (site / "sitecustomize.py").write_text(case.site)
    create = [sys.executable, str(PROJECT / "create_coco1k.py"), "--coco-root", str(coco_root)]
    create += ["--target-size", "12", "--val-size", "6", f"--output-dir={case.folder}/sub", "--link=copy"]
    check = [sys.executable, str(PROJECT / "test_coco1k_kd.py"), "--check", f"--data={case.folder}/sub/coco1k.yaml"]
    programs = [create, check] if case.folder != "here" else [create]
    script = " && ".join(
        [*filter(None, [case.before.format(folder=shlex.quote(str(folder)))]), *map(shlex.join, programs)]
    )
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script] if case.mounts else ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == (2 if case.says else 0), done.stdout + done.stderr
    assert len(said) == bool(case.says) and case.says in "".join(said)
    assert (folder / "sub/coco1k.yaml").exists() != bool(case.says)
    assert not list(folder.glob(".*"))
