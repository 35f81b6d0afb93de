"""How programs end, seen from outside: what they say, and with which code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
REFUSES = "raise PermissionError(13, 'Permission denied', 'photo.jpg')"


def end(body: str, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A program whose main is `body`, started by a shell."""
    code = f"from coco1k_kd.errors import UserError, run_cli\ndef main():\n {body}\nrun_cli(main)"
    shell = ["bash", "-c", f'"$@" {redirect}', "bash", sys.executable, "-u", "-c", code]
    return subprocess.run(shell, capture_output=True, text=True, env={"PYTHONPATH": str(PROJECT), **environment})


@pytest.mark.parametrize(
    ("body", "redirect", "code", "says"),
    [
        ("return 1", "", 1, ""),
        ("raise UserError('say so')", "", 2, "error: say so\n"),
        ("raise UserError('a\\x1b[31mb\\nc\\u202e 한')", "", 2, r"error: a\x1b[31mb\nc\u202e 한" + "\n"),
        (REFUSES, "", 2, "error: photo.jpg: Permission denied\n"),
        ("open('/dev/null/below')", "", 2, "error: /dev/null/below: Not a directory\n"),
        ("open('/dev')", "", 2, "error: /dev: Is a directory\n"),
        ("import os; os.link('/' + 300 * 'a', 'b')", "", 2, f"error: /{300 * 'a'}: File name too long\n"),
        ("raise KeyboardInterrupt", "", 130, "interrupted\n"),
        ("print('some')", ">/dev/full", 2, "error: the output: No space left on device\n"),
        ("print('some')", ">&-", 0, ""),
        ("raise UserError('say so')", ">&- 2>&-", 2, ""),
        ("[print(i) for i in range(99999)]", "> >(:)", 141, ""),
        ("return 0", "> >(:)", 0, ""),
    ],
)
def test_a_program_ends_with_a_line_and_a_code(body: str, redirect: str, code: int, says: str):
    done = end(body, redirect)
    assert (done.returncode, done.stderr) == (code, says)


def test_a_defect_of_ours_keeps_its_traceback():
    done = end("open('nothing-there')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_no_locale_ends_a_program():
    done = end("print('ΔAP 한국어 ±0.3')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "\\u0394AP \\ud55c\\uad6d\\uc5b4 \\xb10.3\n")
