"""The command line: commands by the name that was typed, and flags whose faults are one line with the nearest name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import field
from pathlib import PurePath
from typing import Any, NoReturn

from coco1k_kd.errors import UserError, nearest

INSTALLED = "coco1k-kd"
DATA, WHAT, HOW, JUDGED, WHERE = (  # groups of flags
    "the data",
    "what is compared",
    "how it is trained, the same for all arms",
    "how it is judged",
    "what is written, and where",
)
SCRIPTS = {"create": "create_coco1k.py", "compare": "test_coco1k_kd.py"}


def typed(command: str) -> str:
    """How a user types one of `SCRIPTS` here: as a command of the installed package, or as the script."""
    program = PurePath(sys.argv[0].split()[0] if sys.argv and sys.argv[0] else "").name
    return f"{INSTALLED} {command}" if program == INSTALLED else SCRIPTS[command]


def command_line(command: str) -> str:
    """The same as a whole line of a shell begins: a script has Python before it."""
    name = typed(command)
    return f"python {name}" if name == SCRIPTS[command] else name


def flag(default: Any, text: str, group: str = WHAT, **options: Any) -> Any:
    """A setting that is a flag of its name, too; `options` are those of argparse's `add_argument`."""
    given = {"default_factory": lambda: list(default)} if isinstance(default, list) else {"default": default}
    return field(**given, metadata={"group": group, "help": text, **options})


class Parser(argparse.ArgumentParser):
    """A parser whose help says the commands as they are typed here, and whose faults are one line."""

    def __init__(self, text: str | None) -> None:
        for command, script in SCRIPTS.items():
            text = (text or "").replace(f"python {script}", command_line(command))
        super().__init__(
            description=text, usage="%(prog)s [FLAGS]", formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """The flags' values. UserError names a flag that there is not, and the nearest that there is."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
            raise UserError(f"unknown flag {flag}{nearest(flag, self.flags())}: --help lists them")
        return found

    def flags(self) -> list[str]:
        """All flags by their long names."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]

    def error(self, message: str) -> NoReturn:
        """Argparse's own faults, without the list of all flags that it would print."""
        raise UserError(message.removeprefix("argument "))
