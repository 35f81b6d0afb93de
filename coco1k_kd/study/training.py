"""The runs of a study, as many at a time as there are slots: seed by seed, within the hours that the study has."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterable, Sequence, Sized
from concurrent.futures import FIRST_COMPLETED, Future, wait

from msgspec import structs

from coco1k_kd.runs.board import Board
from coco1k_kd.runs.launch import RunFailed
from coco1k_kd.runs.results import finished, finished_as
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import SPEC, EvaluateSpec, Result, TrainSpec
from coco1k_kd.study.arms import BASELINE, SAME_TIME, Arm, Key, run_label
from coco1k_kd.study.equal_time import same_time_epochs
from coco1k_kd.study.hours import Hours, unit_seconds
from coco1k_kd.study.lessons import prepare_run
from coco1k_kd.study.plan import Study
from coco1k_kd.verdict.matching import coco_metrics

_POLL_SECONDS = 0.5
_GUESS = 10  # before the first pair has ended, a run is begun only where there is time for so many times its guess


Judging = Callable[[Key], EvaluateSpec | None]  # how a run's checkpoints are evaluated on the images that judge it


def untaught(study: Study, slots: Slots, judge: Judging) -> dict[str, TrainSpec]:
    """The baselines up to the first look that are left, by label: what can be trained before there is a teacher.

    None where runs share a GPU: the clock of a baseline would count the work of another run than a distilled one's
    does.
    """
    if slots.shares_a_gpu(study.settings.device):
        return {}
    first, plan = study.timed_runs(BASELINE), study.plan()
    specs = {key: _spec(study, slots, judge, key, study.settings.epochs, len(plan)) for key in plan if key in first}
    return {run_label(*key): spec for key, spec in specs.items() if not finished_as(spec)}


def _spec(study: Study, slots: Slots, judge: Judging, key: Key, epochs: int, runs: int) -> TrainSpec:
    """A run, of so many in all, and how it judges itself."""
    return structs.replace(study.spec(*key, epochs), at_once=min(slots.number, runs), judge=judge(key))


class Training:
    """What of a study's runs is done, and does the rest.

    Attributes:
        results: of all finished runs.
        failures: runs that ended without a result, and why; their arms are not begun again.
        judge: how a run's checkpoints are evaluated on the images that judge it, by the run itself.
    """

    def __init__(self, study: Study, slots: Slots, hours: Hours, judge: Judging) -> None:
        self.study, self.slots, self.hours, self.judge = study, slots, hours, judge
        self.results: dict[Key, Result] = {}
        self.failures: dict[Key, str] = {}

    def finish(
        self,
        keys: Sequence[Key],
        note: Callable[[], str] = str,
        first: Collection[Key] = (),
        tell: Callable[[], bool] = bool,
    ) -> bool:
        """Do the runs `keys` that are not finished.

        Args:
            keys: runs in the order of running.
            note: a line that stands above the table of the runs under way.
            first: those that are begun before all others.
            tell: called once, when the `first` have ended and others are left; False to begin none of these.

        Returns:
            False where time ran out. The first two runs, the first pair, are done in any case; no other unit (a run of
            the first seed, or all runs of a further seed) is begun that would not end in time.
        """
        for key in keys:
            if key not in self.results and (result := self._before(key)):
                self.results[key] = result
                print(f"finished before: {run_label(*key)}: {self._line(key)}", flush=True)
        units = [unit for unit in self._units(keys) if unit]
        in_time = True
        ready: list[Key] = []
        under_way: dict[Future[Result], Key] = {}
        left = sum(map(len, units))
        with Board(len(keys) - left, len(keys), left * self.study.settings.epochs, note=note) as board:
            while units or ready or under_way:
                while units and (self._unlimited or (not ready and self._room(under_way))):
                    if units[0][0] not in keys[:2] and not self._unlimited:
                        seconds, guessed = self.seconds(units[0]), not self._ended(keys[:2])
                        if guessed and not (seconds and self.hours.hold(_GUESS * seconds)):
                            break  # until the first pair tells what a run takes
                        if not self.hours.hold(seconds):
                            in_time, units = False, []
                            break
                    ready += units.pop(0)
                if self.slots.number > 1:  # else the last to end would be a long one, with all other slots idle
                    ready.sort(key=lambda key: (key not in first, -key[0].cost))
                ended = first and self._ended(first)
                alone = ended and self.slots.number == 1  # the clock of a run would count what is done beside it
                for key in [key for key in ready if self.study.needs(key) <= self.results.keys()]:
                    if self._room(under_way) and not alone:
                        ready.remove(key)
                        under_way[self._submit(key, board, len(keys))] = key
                if ended:
                    first = ()
                    board.wipe()
                    units, ready = (units, ready) if tell() else ([], [])
                    continue
                if not under_way:
                    ready = []  # these need runs that have failed or were not begun
                for future in wait(under_way, _POLL_SECONDS, FIRST_COMPLETED).done:
                    key = under_way.pop(future)
                    if not self._take(key, future, board):
                        units = [left for unit in units if (left := _without(key[0], unit))]
                        ready = _without(key[0], ready)
                board.refresh()
        return in_time

    def _ended(self, keys: Iterable[Key]) -> bool:
        return all(key in self.results or key[0] in self.failed for key in keys)

    def seconds(self, keys: Iterable[Key]) -> float:
        """What those of `keys` that are not finished would take, as far as finished runs tell."""
        missing = [key for key in keys if key not in self.results]
        return unit_seconds(self.results, missing, max(self.slots.number, 1))

    @property
    def failed(self) -> set[Arm]:
        """The arms of failed runs."""
        return {arm for arm, _ in self.failures}

    def _before(self, key: Key) -> Result | None:
        """The result of a run that was finished before. UserError if it is that of another run."""
        folder = self.study.folder(*key)
        if not finished(folder):
            return None
        timed = key[0] == SAME_TIME and (folder / SPEC).exists()
        epochs = same_time_epochs(self.study, self.results) if timed else self.study.settings.epochs
        return finished_as(self.study.spec(*key, epochs))

    def _room(self, under_way: Sized) -> bool:
        """Whether a run can begin now. A cluster is given all, since nodes may join it."""
        return len(under_way) < self.slots.number or (self.slots.grows and self._unlimited)

    @property
    def _unlimited(self) -> bool:
        return self.hours.limit == math.inf

    def _units(self, keys: Sequence[Key]) -> list[list[Key]]:
        """Unfinished runs that are begun together: the first pair, each other run of its seed, then seed by seed."""
        units: dict[object, list[Key]] = {}
        for position, key in enumerate(keys):
            of_first = key[1] == keys[0][1]
            name = "pair" if position < 2 else position if of_first else (key[0] == SAME_TIME, key[1])
            unit = units.setdefault(name, [])
            if key not in self.results and key[0] not in self.failed:
                unit.append(key)
        return list(units.values())

    def _submit(self, key: Key, board: Board, runs: int) -> Future[Result]:
        study = self.study
        epochs = same_time_epochs(study, self.results) if key[0] == SAME_TIME else study.settings.epochs
        board.wipe()  # the preparation may have something to say
        prepare_run(study, key, self.slots)
        board.add(run_label(*key), study.folder(*key), epochs)
        return self.slots.submit(_spec(study, self.slots, self.judge, key, epochs, runs), run_label(*key))

    def _take(self, key: Key, future: Future[Result], board: Board) -> bool:
        """Take over a run's result; False if it has none, which its arm has to bear alone."""
        label = run_label(*key)
        try:
            self.results[key] = future.result()
        except RunFailed as failure:
            board.remove(label, "failed")
            print(f"error: {failure}", file=sys.stderr, flush=True)
            self.failures[key] = str(failure).splitlines()[0]
            return False
        board.remove(label, self._line(key))
        return True

    def _line(self, key: Key) -> str:
        result = self.results[key]
        best = coco_metrics(self.study.data.val.annotations, self.study.predictions(key, "best"))
        minutes, speed = result.train_seconds / 60, result.images / result.train_seconds
        resumed = "".join(f", resumed after epoch {epoch}" for epoch in result.resumed_after_epochs)
        return (
            f"AP {100 * best['ap']:.1f}, AP50 {100 * best['ap50']:.1f}, {minutes:.1f} min of training, "
            f"{speed:.1f} images/s, {result.peak_memory_bytes / 2**30:.1f} GiB{resumed}"
        )


def _without(arm: Arm, keys: Iterable[Key]) -> list[Key]:
    """The runs that are left when an arm has failed: those of others, and none at all without a baseline."""
    return [key for key in keys if key[0] != arm and arm != BASELINE]
