"""The scripts as one command: `coco1k-kd create|compare|label|review|verify`, also `python -m coco1k_kd`.

But for --help and --version there are no flags here: each name runs its script, whose parser and messages it has.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

from coco1k_kd import __version__
from coco1k_kd.errors import EXIT_BAD_INPUT, run_cli

COMMANDS = {  # name: (script, flags before the user's own, what it does)
    "create": ("create_coco1k", [], "draw a small, balanced subset of COCO"),
    "compare": ("test_coco1k_kd", [], "train a student with and without a teacher, and compare"),
    "label": ("coco1k_kd.study.label", [], "have a teacher label images that have no labels"),
    "review": ("coco1k_kd.study.review", [], "have a teacher find labels that are likely missing or wrong"),
    "verify": ("create_coco1k", ["--verify"], "check that a subset is what its manifest says"),
}


def main() -> NoReturn:
    """Run the script that the first argument names with the rest of them."""
    name, rest = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name == "--version":
        print(f"coco1k-kd {__version__}")
        sys.exit(0)
    if name not in COMMANDS:
        print("usage: coco1k-kd COMMAND [FLAGS], with --help for the flags of a command\n")
        print(*(f"  {command:8} {does}" for command, (*_, does) in COMMANDS.items()), sep="\n")
        if name in ("-h", "--help"):
            sys.exit(0)
        print(f"\nerror: {name!r} is not a command" if name else "\nerror: no command is given", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    script, before, _ = COMMANDS[name]
    sys.argv = [f"coco1k-kd {name}", *before, *rest]
    run_cli(import_module(script).main)


if __name__ == "__main__":
    main()
