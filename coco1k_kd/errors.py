"""One way for every script to end: a clear line and an exit code, never a traceback for bad input."""

from __future__ import annotations

import difflib
import errno
import gc
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 128 + signal.SIGPIPE  # as a shell says it of any program that `| head` has ended
# What the machine refuses: an access, room, or a place that cannot be. No defect of ours, wherever it happens.
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
_REFUSED |= {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # kinds of signs: controls, halves of signs, line ends
_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # they turn the text behind them around


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and how to fix it."""


class DistillationError(UserError):
    """The distillation is not happening, or does harm: the message names the cause."""


class RunError(Exception):
    """A training that cannot count. The message is one line that says why and what to do."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt word, to stand behind it: " (did you mean cwd?)"; "" where none of `known` is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def run_cli(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's main and exit: 0 done, 2 bad usage or input, 130 interrupted, 141 output closed before the end.

    Only `UserError`, and what the system refuses, become one-line messages; anything else is a defect of ours and
    keeps its traceback.
    """
    _open_streams()
    try:
        code = main() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        code = EXIT_UNREAD
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _REFUSED:
            raise
        text = refusal(error) if isinstance(error, OSError) else str(error)
        print(f"error: {visible(text)}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    try:
        sys.stdout.flush()
    except OSError as error:  # nobody reads any more, which is no error at the end; or what is written to is full
        if error.errno != errno.EPIPE and not code:
            print(f"error: {refusal(error)}", file=sys.stderr)
            code = EXIT_BAD_INPUT
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not complain
    leave(code)


def leave(code: int) -> NoReturn:
    """End the program at once."""
    gc.freeze()  # the interpreter's last collections would walk all of PyTorch's objects, which takes a second
    sys.exit(code)


def count(number: int, one: str, many: str = "") -> str:
    """A number of things in words: `1 box`, `2,000 boxes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def visible(text: str) -> str:
    """A name or message on one line, as it can be shown anywhere: what would steer a terminal or end a line of a table
    is written as its escape code. Text that is visible stays as it is.
    """
    if text.isprintable():
        return text

    def shown(sign: str) -> str:
        steers = unicodedata.category(sign) in _UNSEEN or unicodedata.bidirectional(sign) in _TURNING
        return sign.encode("unicode_escape").decode() if steers else sign

    return "".join(map(shown, text))


def refusal(error: OSError) -> str:
    """What the system refused, in a line: where, and why."""
    return f"{error.filename or 'the output'}: {error.strerror or error}"


def _open_streams() -> None:
    """Have an output and an error stream that take any text: one may be closed, or its encoding know no Δ or 한."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the end
        getattr(sys, name).reconfigure(errors="backslashreplace")
