"""What a user gives for a setting of a distillation, from Python or as text of a command line, as the value it means.

A reader takes the setting's name and what was given. It raises UserError where that means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from coco1k_kd.errors import UserError

Reader = Callable[[str, Any], Any]


def one_of(choices: Collection[str]) -> Reader:
    """One of these words, in any case."""

    def read(name: str, given: Any) -> str:
        value = str(given).lower()
        if value not in choices:
            raise UserError(f"unknown {name} {value!r} for distillation: choose one of {', '.join(choices)}")
        return value

    return read


def number(fits: Callable[[float], bool], must_be: str, kind: Callable[[float], Any] = float) -> Reader:
    """A number that `fits`, as a `kind`; `must_be` says in words which do."""

    def read(name: str, given: Any) -> Any:
        try:
            value = float(given)
        except (TypeError, ValueError):
            value = math.nan
        if not fits(value):
            raise UserError(f"distillation_{name}={given!r} must be {must_be}")
        return kind(value)

    return read


def lower(name: str, given: Any) -> str:
    """Text, in any case."""
    return str(given).lower()


def text(name: str, given: Any) -> str:
    """Text as it stands."""
    return str(given)


def strides(name: str, given: Any) -> tuple[int, ...] | None:
    """Strides from text or a sequence, in ascending order; None is all of them."""
    if given is None:
        return None
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, Iterable) else [given]
    try:
        found = sorted(int(str(part)) for part in parts)
    except ValueError:
        found = []
    if not found or found[0] < 1 or len(set(found)) < len(found):
        raise UserError(f"distillation_{name}={given!r} must be strides, as 16,32")
    return tuple(found)


def weight(given: Any, parts: Sequence[str]) -> float | tuple[float, ...] | str:
    """The weight of a sum of the losses `parts`: one number, one for each, or "auto"."""
    if given == "auto":
        return "auto"
    words = given.split(",") if isinstance(given, str) else given
    each = list(words) if isinstance(words, Iterable) else [words]
    try:
        numbers = tuple(float(word) for word in each)
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(0 <= one < math.inf for one in numbers):
        raise UserError(f"distillation_weight={given!r} must be a number >= 0, or 'auto'")
    if len(numbers) not in (1, len(parts)):
        raise UserError(f"distillation_weight={given!r} must be one number, or one for each of {', '.join(parts)}")
    return numbers[0] if len(numbers) == 1 else numbers
