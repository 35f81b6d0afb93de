"""The time that a study may take: nothing is begun that would not end within it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from coco1k_kd.runs.spec import Result
from coco1k_kd.study.arms import Arm, Key

SECONDS = 3600.0


class Hours:
    """A clock that counts what finished runs have taken, and then the time since.

    Args:
        limit: hours that the study may take; infinite for no limit.
        spent: seconds that were spent before, by earlier commands for the same study.
        clock: seconds from any start.
    """

    def __init__(self, limit: float, spent: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self._clock = limit * SECONDS, clock
        self._start = clock() - spent

    @property
    def spent(self) -> float:
        """Seconds."""
        return self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds; infinite without a limit."""
        return self.limit - self.spent

    def hold(self, seconds: float) -> bool:
        """Whether what takes so long would end in time."""
        return seconds <= self.left


def run_seconds(results: Mapping[Key, Result], arm: Arm) -> float:
    """What a run of `arm` takes, by those that are finished: of the arm, else of others by the cost of their steps.

    Validation and evaluation cost all arms the same.
    """
    same = [result.seconds for key, result in results.items() if key[0] == arm]
    if same:
        return sum(same) / len(same)
    guesses = [
        result.seconds + result.train_seconds * (arm.cost / other.cost - 1) for (other, _), result in results.items()
    ]
    return max(guesses, default=0.0)


def unit_seconds(results: Mapping[Key, Result], keys: Iterable[Key], at_once: int) -> float:
    """What the runs `keys` take together, their evaluation included, where `at_once` run side by side."""
    each = [run_seconds(results, arm) for arm, _ in keys]
    return max(sum(each) / at_once, max(each, default=0.0))
