"""What is given for a setting, from Python or as text, means the same or is refused in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from coco1k_kd.distill.reading import lower, number, one_of, strides, text, weight
from coco1k_kd.errors import UserError


def whole(value: float) -> bool:
    return value >= 1 and value % 1 == 0


@pytest.mark.parametrize(
    ("read", "given", "value"),
    [
        (one_of(("cwd", "mgd")), "MGD", "mgd"),
        (number(whole, "whole", int), "4", 4),
        (number(whole, "whole", int), 4.0, 4),
        (number(lambda value: value > 0, "above 0"), "0.5", 0.5),
        (lower, "CWD+Response", "cwd+response"),
        (text, "My.pt", "My.pt"),
        (strides, None, None),
        (strides, "32,8", (8, 32)),
        (strides, 16, (16,)),
        (strides, ["16", 8], (8, 16)),
    ],
)
def test_what_means_something_is_read(read: Callable[[str, Any], Any], given: Any, value: Any) -> None:
    found = read("name", given)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("read", "given", "says"),
    [
        (one_of(("cwd", "mgd")), "cw", "unknown name 'cw' for distillation: choose one of cwd, mgd"),
        *((number(whole, "whole", int), given, "must be whole") for given in ("x", None, math.nan, 0.5, (1, 2))),
        *((strides, given, "must be strides, as 16,32") for given in ("", "8,x", [8, 8], 0, [-8], "1.5")),
    ],
)
def test_what_means_nothing_is_refused(read: Callable[[str, Any], Any], given: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read("name", given)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_weight_is_one_number_or_one_for_each_loss() -> None:
    parts = ("cwd", "response")
    assert weight("auto", parts) == "auto"
    assert weight("2", parts) == weight(2, parts) == weight([2], parts) == 2.0
    assert weight("1,0.5", parts) == weight((1, 0.5), parts) == (1.0, 0.5)
    for given in ("much", -1, math.inf, math.nan, "1,-1", None):
        with pytest.raises(UserError, match="must be a number >= 0, or 'auto'"):
            weight(given, parts)
    for given in ("1,2,3", ()):
        with pytest.raises(UserError, match="one number, or one for each of cwd, response"):
            weight(given, parts)
