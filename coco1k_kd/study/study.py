"""A study from its settings to its report: runs, looks at their result, and the end.

The state on disk is `study_<stamp>.json` (the settings) and the run folders; a run is finished when its `result.json`
is there. Each run is a function of a plain spec, and each look one of the finished runs, so that a study goes on after
any kind of end and comes to the same looks.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import get_args

from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import Change, Comparison, Power, Progress, Reference
from coco1k_kd.report.loggers import log_study
from coco1k_kd.report.markdown import markdown
from coco1k_kd.report.words import Words
from coco1k_kd.report.write import write_report
from coco1k_kd.runs.launch import RunFailed
from coco1k_kd.runs.results import finished
from coco1k_kd.runs.slots import Slots
from coco1k_kd.study import collect, comparing, shipping, store
from coco1k_kd.study.arms import BASELINE, SAME_TIME, WEIGHT0, Key
from coco1k_kd.study.audit import audit
from coco1k_kd.study.changed import changed, more_hours
from coco1k_kd.study.comparing import Pair
from coco1k_kd.study.config import write_config
from coco1k_kd.study.doubts import review_of_study
from coco1k_kd.study.equal_time import times
from coco1k_kd.study.fitting import fit
from coco1k_kd.study.foresight import power_of
from coco1k_kd.study.hours import SECONDS, Hours
from coco1k_kd.study.judge import Judge
from coco1k_kd.study.lessons import labelling_seconds, prepare
from coco1k_kd.study.opening import open_study
from coco1k_kd.study.plan import Study
from coco1k_kd.study.references import Evaluator
from coco1k_kd.study.settings import Settings
from coco1k_kd.study.training import Training, untaught
from coco1k_kd.verdict.compare import has_effect
from coco1k_kd.verdict.entry import Entry
from coco1k_kd.verdict.futility import futile
from coco1k_kd.verdict.looks import ALPHA, settled

_AFTER_A_FAILURE = "finished runs are kept: give the same command with --resume"


def run(
    settings: Settings,
    resume: bool,
    command: str,
    slots: Slots | None = None,
    language: str = "en",
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Do the study, or what is left of it, and write and print the comparison.

    Args:
        settings: what is compared, and how it is trained.
        resume: go on with a study that is there.
        command: what was typed, for the record.
        slots: where runs go, and how many at a time; one at a time on this machine by default.
        language: of the report, of `report.words.languages`.
        clock: seconds, for --hours.

    Returns:
        Exit code: 0, or 1 when a run or a control failed; finished runs are kept either way.

    Raises:
        UserError: bad input, or arms that did not do the same work.
    """
    given, settings = settings, settings.checked()
    with slots or Slots() as slots:
        study, judge = open_study(settings, resume, slots)
        with store.locked(study):
            write_config(given, study.project)
            try:
                evaluator = Evaluator(study, slots, judge)
                if settings.fit_teacher:
                    study = fit(study, slots, evaluator.of_teacher, untaught(study, slots, evaluator.of_run))
                study = prepare(study, slots)
                review_of_study(study, language)
                course = Course(study, slots, judge, command, language, clock)
                content = course.run()
            except RunFailed as failure:
                print(f"error: {failure}\n  {_AFTER_A_FAILURE}", file=sys.stderr)
                return 1
    if failures := course.training.failures:
        names = ", ".join(dict.fromkeys(arm.name for arm, _ in failures))
        print(f"error: runs of {names} failed, see above; {_AFTER_A_FAILURE}", file=sys.stderr)
    if course.unexported:
        print(f"error: not exported: {', '.join(course.unexported)}; {_AFTER_A_FAILURE}", file=sys.stderr)
    weight0 = content.controls.weight0 if content else None
    failed = weight0 is not None and not weight0.passed
    if failed:
        print(f"error: the control {WEIGHT0} failed: {weight0.sentence}", file=sys.stderr)
    return 1 if failed or failures or course.unexported or not content else 0


class Course:
    """The looks of a study, one after the other, until all is settled, or no look or no time is left.

    With a fixed list of seeds there is one look, after all of them.
    """

    def __init__(
        self,
        study: Study,
        slots: Slots,
        judge: Judge | None,
        command: str,
        language: str,
        clock: Callable[[], float],
    ) -> None:
        self.study, self.command, self.language = study, command, language
        self.design, self.unplanned, self.changed = comparing.looks_of(study)
        done = [result for key in study.plan() if (result := finished(study.folder(*key)))]
        done += [teacher.result for teacher in study.fitted.values()]
        spent = sum(result.seconds / result.at_once for result in done) + labelling_seconds(study)
        self.hours = Hours(study.settings.hours or math.inf, spent, clock)
        self.evaluator = Evaluator(study, slots, judge)
        self.training = Training(study, slots, self.hours, self.evaluator.of_run)
        self.references: Callable[[], dict[str, Reference]]
        self.entries: dict[Pair, Entry] = {}  # of the newest look
        self.settled: dict[Pair, Entry] = {}
        self.futile: set[Pair] = set()  # those that further seeds would hardly settle
        self.earlier = [report for part in (study, *study.history) if (report := part.earlier)]
        self.keys: list[Key] = []  # the runs that count so far
        self.looked = 0
        self.unexported: list[str] = []  # exports that failed

    def run(self) -> Comparison | None:
        """Train and judge to the end; None where not even one baseline has a result."""
        study, settings = self.study, self.study.settings
        self.references = cache(self.evaluator.references())  # begun before the runs, behind which they would wait
        looks = settings.looks if settings.auto else [len(study.seeds)]
        print("\n".join(Words(self.language).foreseen(self._power(), self.evaluator.split.size)), flush=True)
        for look, following in zip(looks, [*looks[1:], None], strict=True):
            first = self._wanted(1) if settings.auto and look == looks[0] > 1 else []
            self.keys = list(dict.fromkeys([*self.keys, *first, *self._wanted(look)]))
            in_time = self.training.finish(self.keys, self._note, first, partial(self._first, first, look))
            if not any(arm == BASELINE for arm, _ in self.training.results):
                return None
            content = self._judged(self.keys)
            if in_time and not (self.training.failed and self._broken()):
                units = look if settings.auto else study.units
                self.looked = sum(planned <= units for planned in self.design.looks) or 1
                self.settled |= {pair: self.entries[pair] for pair in self._asked() if settled(self.entries[pair])}
                if following:
                    made = [pair for pair in self._open() if pair in self.entries]
                    self.futile |= {pair for pair in made if futile(self.entries[pair], self.design)}
            self._say_where_it_stands(content, in_time, following)
            stopped = content.design.stopped or self._broken()
            if stopped:
                content.models = shipping.models(study)
                content.exports, self.unexported = shipping.exports(study, self.evaluator, content.arms)
            self._write(content, last=bool(stopped))
            if stopped:
                break
        return content

    def _first(self, keys: list[Key], look: int) -> bool:
        """Report the first runs, without a verdict, while others go on; False if there is nothing to go on with."""
        if self._broken():
            return False
        content = self._judged(keys)
        self._say_where_it_stands(content, True, look)
        self._write(content, last=False)
        return True

    def _say_where_it_stands(self, content: Comparison, in_time: bool, following: int | None) -> None:
        content.design = self._design(in_time, following)
        content.power = self._power()
        content.headline = Words().headline(content)

    @property
    def _reached(self) -> int:
        """Seeds, or draws, of the comparison that has most."""
        return max((entry.units for entry in self.entries.values()), default=0)

    def _asked(self) -> list[Pair]:
        """The comparisons that were asked for, as far as there are runs for them."""
        return [pair for pair in comparing.asked_for(self.study) if pair in self.entries]

    def _open(self) -> list[Pair]:
        """The comparisons that were asked for and can still be settled."""
        failed = self.training.failed
        asked = comparing.asked_for(self.study)
        ended = self.futile | self.settled.keys()
        return [pair for pair in asked if pair not in ended and not failed & set(pair)]

    def _wanted(self, seeds: int) -> list[Key]:
        """The runs up to a look that open comparisons need, and controls."""
        plan = self.study.plan(seeds)
        some_end = self.settled or self.futile
        arms = comparing.still_running(self.study, self._open()) if some_end else {arm for arm, _ in plan}
        return [key for key in plan if key[0] in arms and self.study.needs(key) <= set(plan)]

    def _broken(self) -> bool:
        """Whether failed runs leave nothing to go on with."""
        return BASELINE in self.training.failed or not self._open()

    def _judged(self, keys: Sequence[Key]) -> Comparison:
        """The comparison of those of the runs that are there, without its design."""
        study, found = self.study, self.training.results
        results = {key: found[key] for key in keys if key in found and (BASELINE, key[1]) in found}
        counted = [key for key in results if key[0] != WEIGHT0]
        self.evaluator.evaluate({key: results[key] for key in counted})
        reads = {key: study.read_by(key) for key in results}
        checked = audit(results, study.data.train.size, study.data.val.size, reads)
        print("comparing…", flush=True)
        judge, groups = sha256(self.evaluator.truth), study.settings.groups
        self.changed |= changed(self.earlier, judge, groups)
        self.changed |= more_hours(study.earlier, [arm for arm, _ in counted], self.design.looks)
        unplanned = bool(self.changed)
        timed = times(study, results)
        self.entries = comparing.judge_all(study, counted, self.evaluator, self.settled, self.design, unplanned, timed)
        slower = {arm.name: of for arm, of in timed.items() if of.more and (arm, SAME_TIME) not in self.entries}
        effect = any(has_effect(self.entries[pair]) for pair in self._asked())
        return collect.build(
            study,
            results,
            self.references(),
            list(self.entries.values()),
            checked,
            self.command,
            self.evaluator,
            self.training.failures,
            comparing.judge_given(counted, self.evaluator, self.references(), self.design, unplanned, effect),
            slower,
        )

    def _design(self, in_time: bool, following: int | None) -> Progress:
        """Where the study stands after a look; `stopped` says why it ends, if it does."""
        auto, seeds = self.study.settings.auto, self.study.seeds
        if not in_time:
            stopped = "hours"
        elif not auto:
            stopped = "fixed"
        elif (self.settled or self.futile) and not self._open():
            stopped = "futility" if self.futile else "settled"
        else:
            stopped = None if following else "looks"
        missing = self.training.seconds(self._wanted(following)) if following and not stopped else None
        if stopped == "hours":
            missing = self.training.seconds(self._wanted(self.design.next_look(self._reached) or len(seeds)))
        return Progress(
            seeds="auto" if auto else "fixed",
            looks=list(self.design.looks) or [self.study.units],
            levels=list(self.design.levels) or [ALPHA],
            look=self.looked,
            stopped=stopped,
            unplanned=self.unplanned,
            changed=[change for change in get_args(Change) if change in self.changed],  # in the order of a report
            unit=self.study.unit_name,
            hours_spent=self.hours.spent / SECONDS,
            hours_next=None if missing is None else missing / SECONDS,
        )

    def _power(self) -> Power | None:
        """What the study can find: before its first run by the spreads of others, then by its own."""
        entries = [self.entries[pair] for pair in self._asked()]
        hours = self.hours.spent + self.training.seconds(self._wanted(len(self.study.seeds)))
        results, images = self.training.results, self.evaluator.split.size
        return power_of(self.study, self.design, images, entries, results, hours / SECONDS)

    def _note(self) -> str:
        """What stands above the table of runs: which look comes, what is known so far, and how long all of it takes."""
        settings = self.study.settings
        if not settings.auto:
            return ""
        so_far = "; ".join(map(_told, (self.entries[pair] for pair in self._asked()))) or "no verdict yet"
        rest = self.training.seconds(self._wanted(settings.looks[-1])) / SECONDS
        left = f", {self.hours.left / SECONDS:.1f} h left" if self.hours.left < math.inf else ""
        look = f"look {min(self.looked + 1, len(settings.looks))} of {len(settings.looks)}"
        return f"{look}; so far: {so_far}; {rest:.1f} h to the last look{left}"

    def _write(self, content: Comparison, last: bool) -> None:
        """Write the report; between two looks the console has its verdicts alone."""
        content.language = self.language
        words, earlier = Words(self.language), self.study.earlier
        kept = not last and earlier is not None and earlier.units > self._reached  # it tells what this one cannot know
        paths = () if kept else write_report(content, self.study.project, self.study.stamp)
        told = [_told(self.entries[pair]) for pair in self._asked()]
        said = [markdown(content, words)] if last else [*told, *words.power(content)]
        print("\n".join([*said, *(f"wrote {path}" for path in paths)]), flush=True)
        if last and (logged := log_study(content, paths, words)):
            print("\n".join(logged), flush=True)


def _told(entry: Entry) -> str:
    """A comparison in a line."""
    low, high = (100 * x for x in entry.d_ap.interval)
    word = entry.verdict.replace("_", " ")
    runs = f"{entry.units} {'draw' if len(entry.draws) > 1 else 'seed'}{'s' * (entry.units > 1)}"
    return f"{entry.arm} {word} after {runs}, {100 * entry.d_ap.mean:+.1f} AP ({low:+.1f} to {high:+.1f})"
