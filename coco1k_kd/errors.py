"""One way for every script to end: a clear line and an exit code, never a traceback for bad input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and how to fix it."""


def run_cli(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's main and exit: 0 done, 2 bad usage or input, 130 interrupted.

    Only `UserError` becomes a one-line message; anything else is a defect of ours and keeps its traceback.
    """
    try:
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # `script | head` closed the pipe: not an error, and the flush at exit must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
