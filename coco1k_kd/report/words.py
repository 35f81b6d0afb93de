"""The sentences of the report, made from the figures of a comparison in English or Korean.

The comparison keeps figures only, so that `--report-only` words an old one anew. `texts/` holds the texts, a file a
language; this module says which of them apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePath

import yaml
from msgspec import structs

from coco1k_kd.names import BASELINE, TEACHER
from coco1k_kd.report.comparison import Comparison, Headline, Power
from coco1k_kd.report.headline import answer, beaten_at_equal_time, given_and_best, is_control
from coco1k_kd.verdict.entry import BLIND, Entry, Last, Needed, Times, Variance
from coco1k_kd.verdict.intervals import BAND, MAX_IMAGES, MAX_SEEDS, MIN_SEEDS

Told = tuple[str, list[str], list[list[str]], str]  # title, head and rows of a table, and its note
_TEXTS = Path(__file__).parent / "texts"
_NAMED = 3  # arms that the opening names


def languages() -> list[str]:
    """The languages that have a file of texts."""
    return sorted(file.stem for file in _TEXTS.glob("*.yaml"))


@cache
def texts(language: str) -> dict[str, str]:
    """All texts of a language, by key."""
    return yaml.safe_load((_TEXTS / f"{language}.yaml").read_text(encoding="utf-8"))


class Words:
    """The texts of one language, and the sentences that are made of them."""

    def __init__(self, language: str = "en") -> None:
        self.language, self._texts = language, texts(language)

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with its placeholders filled."""
        return self._texts[key].format(**values)

    def text(self, key: str, english: str) -> str:
        """The text of `key`; `english` in a language that has none yet."""
        return self._texts.get(key, english)

    def count(self, noun: str, number: int) -> str:
        """`3 seeds`: `noun` is a key whose text has a form for one and a form for many."""
        one, _, many = self._texts[noun].partition("|")
        return (one if number == 1 or not many else many).format(n=f"{number:,}")

    def listed(self, parts: Sequence[str]) -> str:
        """`a, b and c`."""
        *first, last = parts
        return self("and", first=", ".join(first), last=last) if first else last

    def interval(self, low: float, high: float) -> str:
        """An interval of AP fractions in signed AP points."""
        return self("interval", low=points(low), high=points(high))

    def role(self, role: str, comparison: Comparison) -> str:
        """Student or teacher; where there are several teachers, each with its file."""
        name, _, file = role.partition("=")
        if name == TEACHER and any("=" in other for other in comparison.references):
            return f"{self(name)} {PurePath(file or comparison.settings['teacher']).name}"
        return self(name)

    def pair(self, entry: Entry) -> str:
        """Which arms are compared."""
        return self.unequal(entry, self("pair", arm=entry.arm, against=entry.against))

    def unequal(self, entry: Entry, pair: str) -> str:
        """The names of a pair, with a word where `baseline_same_time` had more or less time than the arm."""
        if not entry.times or entry.times.equal:
            return pair
        return self("had_more" if entry.times.less else "had_less", pair=pair)

    def result(self, entry: Entry | Last) -> str:
        """Verdict, difference and interval, short enough for a headline."""
        figures = f"{points(entry.d_ap.mean)} ({self.interval(*entry.d_ap.interval)})"
        wordless = getattr(entry, "reason", None) in ("gate", "more_time")
        return figures if wordless else f"{self(entry.verdict)}, {figures}"

    def seen(self, entry: Entry) -> str:
        """Difference and interval, at the confidence that the verdict is held to."""
        return self(
            "with_interval",
            mean=points(entry.d_ap.mean),
            confidence=f"{round(100 * (1 - entry.level), 1):g}%",
            interval=self.interval(*entry.d_ap.interval),
        )

    def judged_on(self, entry: Entry) -> str:
        """The images that the verdict was taken on, and whether they chose the epoch."""
        return self(f"judge_{entry.judge}", images=self.images(entry))

    def images(self, entry: Entry) -> str:
        """How many images there are, and in how many groups."""
        images = self.count("image", entry.images)
        return self("in_groups", images=images, groups=self.count("group", entry.groups)) if entry.groups else images

    def val(self, comparison: Comparison) -> str:
        """The images that choose the epochs, and that AP of single runs is of."""
        return self.count("image", comparison.dataset["val_images"])

    def elsewhere(self, comparison: Comparison) -> str:
        """The images that judge, where these are others than those that choose the epochs."""
        compared = comparison.comparisons
        return self.judged_on(compared[0]) if compared and compared[0].judge != "val" else ""

    def sample(self, entry: Entry) -> str:
        """Seeds, draws and images of a comparison."""
        units = self._repeats(len(entry.draws), entry.seeds_each, "each_draw")
        return self("sample", units=units, where=self.judged_on(entry))

    def _repeats(self, draws: int, seeds: int, several: str) -> str:
        """Draws of the train images and seeds of each, as the text `several` puts them; of one draw the seeds."""
        if draws == 1:
            return self.count("seed", seeds)
        text = "draws_alone" if seeds == 1 else several
        return self(text, seeds=self.count("seed", seeds), draws=self.count("draw", draws))

    def sentence(self, entry: Entry) -> str:
        """The verdict as a careful colleague words it, with what would settle an open question.

        Where `baseline_same_time` had another time than the arm, with both.
        """
        said = self._said(entry)
        if entry.times and not entry.times.equal:
            said += f" {self('says_times', **minutes(entry.times))}"
        return said

    def _said(self, entry: Entry) -> str:
        if _all_equal(entry):
            return self("says_zero", design=self.sample(entry))
        if entry.reason in BLIND:
            images, mean = self.images(entry), points(entry.d_ap.mean)
            return self(f"says_{entry.reason}", images=images, mean=mean, band=f"{100 * BAND:.1f}")
        if entry.units == 1:
            more = self.count("more_seed", MIN_SEEDS - 1)
            return self("says_one_seed", seen=self.seen(entry), images=self.judged_on(entry), more=more)
        figures = {"seen": self.seen(entry), "design": self.sample(entry)}
        if entry.reason in ("gate", "more_time"):
            return self(f"says_{entry.reason}", **figures)
        if entry.verdict == "inconclusive":
            told = self("says_inconclusive", **figures, mde=f"{100 * entry.mde:.1f}", advice=self._advice(entry))
            return f"{told} {self._holm(entry)}".strip()
        return self(f"says_{entry.verdict}", **figures, band=f"{100 * BAND:.1f}")

    def _holm(self, entry: Entry) -> str:
        """Why a difference whose plain interval leaves out zero is not settled."""
        (low, high), p = entry.d_ap.ci95, entry.p_holm
        return self("holm_decides", p=f"{p:.3f}") if p is not None and low * high > 0 else ""

    def _advice(self, entry: Entry) -> str:
        if is_control(entry.arm):  # nobody runs more of what must not help
            return ""
        plan, ways = entry.needed or Needed(), []
        several = len(entry.draws) > 1
        unit, now, units = ("draw", entry.draws, plan.draws) if several else ("seed", entry.seeds, plan.seeds)
        if units:
            ways.append(self("advice_units", more=self.count(f"more_{unit}", units - len(now))))
        if plan.images:
            ways.append(self("advice_images", images=self.count("image", plan.images)))
        if not ways:
            return self("advice_none", units=self.count(unit, MAX_SEEDS), images=self.count("image", MAX_IMAGES))
        return self("advice_ways", ways=ways[0] if len(ways) == 1 else self("advice_or", first=ways[0], last=ways[1]))

    def headline(self, comparison: Comparison) -> Headline:
        """What to do (`headline.answer`), with a sentence that says it."""
        given, told = answer(comparison)
        if not told:
            return Headline(given, None, self("one_arm"))
        path = PurePath(comparison.settings.get("student") or self("student"))
        of_a_run = path.stem in ("best", "last") and len(path.parts) > 2  # RUN/weights/last.pt has its run's name
        names = {"arm": told.arm, "student": path.parents[1].name if of_a_run else path.stem}
        if given == "keep_student":
            names |= {
                name: f"{100 * ap:.1f}" for name, ap in zip(("given", "best"), given_and_best(comparison), strict=True)
            }
        said = self(f"answer_{given}", seen=self.seen(told), design=self.sample(told), **names)
        if given == "not_known" and _all_equal(told):
            said = f"{self.pair(told)}: {self('says_zero', design=self.sample(told))}"
        if str(comparison.dataset.get("description", "")).startswith("GENERATED"):
            said = self("on_generated", said=said)
        if comparison.design and comparison.design.changed:
            what = self.listed([self(f"changed_{change}") for change in comparison.design.changed])
            said = f"{self('unplanned', what=what)} {said}"
        return Headline(given, told.arm, said)

    def opening(self, comparison: Comparison) -> str:
        """The headline, then the verdicts of the other arms."""
        headline = self.headline(comparison)
        by_verdict: dict[str, list[str]] = {}
        for entry in comparison.comparisons:
            if entry.against == BASELINE and entry.arm != headline.arm:
                by_verdict.setdefault(entry.verdict, []).append(entry.arm)
        parts = []
        for word, arms in by_verdict.items():
            named = self.listed(arms) if len(arms) <= _NAMED else self.count("arm", len(arms))
            parts.append(self("open_part", arms=named, word=self(word)))
        longer = [entry for entry in comparison.comparisons if beaten_at_equal_time(entry)]
        told = [headline.text, *([self("open_others", parts="; ".join(parts))] if parts else [])]
        told += [self("open_longer", arm=e.arm, seen=self.seen(e)) for e in longer if headline.answer != "train_longer"]
        return " ".join(told)

    def last(self, entry: Entry) -> str:
        """A sentence where the last epoch leads to another verdict, else nothing."""
        if not entry.at_odds:
            return ""
        why = "why_last" if entry.judge == "val" else "why_last_judge"
        return f"{self('last_disagrees', result=self.result(entry.last))} {self(why)}"

    def design(self, comparison: Comparison) -> list[str]:
        """How many seeds were planned, which look this is, why the study stopped, and what more hours would buy."""
        design = comparison.design
        if not design:
            return []
        of_draws = [self("design_draws")] if design.unit == "draw" and design.seeds == "auto" else []
        overlap = max((overlap_of(entry) for entry in comparison.comparisons), default=0.0)
        of_draws += [self("design_overlap", share=f"{overlap:.0%}")] if overlap else []
        look, looks, stopped = design.look, ", ".join(map(str, design.looks)), design.stopped
        level = f"{100 * design.levels[look - 1]:.2f}%"
        if design.seeds == "auto" and not look:
            head = self("design_before", looks=looks)
        elif design.seeds == "auto":
            head = self("design_auto", looks=looks, look=look, of=len(design.looks), level=level)
        elif design.unplanned:  # a fixed list that grew after its verdict
            head = self("design_unplanned", level=level)
        else:
            head = self("design_fixed", seeds=self.repeated(comparison))
        ends = [self("interim")] if stopped is None else [] if stopped == "fixed" else [self(f"stopped_{stopped}")]
        more = self._more_hours(comparison) if stopped in ("hours", None) else ""
        return [head, *of_draws, *self.power(comparison), *ends, *([more] if more else []), *self._grouped(comparison)]

    def power(self, comparison: Comparison) -> list[str]:
        """What the study can find, and what would help most per hour."""
        compared = comparison.comparisons
        return self.foreseen(comparison.power, compared[0].images) if compared else []

    def foreseen(self, power: Power | None, images: int) -> list[str]:
        """The same of figures, where so many `images` judge."""
        if not power:
            return []
        hours = self("power_hours", hours=f"{power.hours:.1f}") if power.hours is not None else ""
        counted = {"units": self.count(power.unit, power.units), "images": self.count("image", images)}
        source = self("power_prior" if power.prior else "power_seen")
        told = [self("power", finds=f"{100 * power.finds:.1f}", source=source, hours=hours, **counted)]
        for way in power.ways:
            if way.what == power.best:
                figures = {"number": f"{way.number:,}", "finds": f"{100 * way.finds:.1f}", "hours": f"{way.hours:.1f}"}
                told.append(self(f"power_{way.what}", **figures))
        return [" ".join(told)]

    def _grouped(self, comparison: Comparison) -> list[str]:
        """Which images count as one sample."""
        groups = comparison.groups
        if not groups:
            return []
        counted = {"groups": self.count("group", groups.groups), "largest": self.count("image", groups.largest)}
        return [self("grouped", pattern=groups.pattern, **counted)]

    def _more_hours(self, comparison: Comparison) -> str:
        """What the next look costs and how far it would narrow the widest open interval.

        Seeds narrow the part of the variance that is between seeds; the images' part stays.
        """
        design, (draws, seeds) = comparison.design, repeats(comparison)
        seeds = draws if draws > 1 else seeds
        open_entries = [entry for entry in comparison.comparisons if entry.verdict == "inconclusive"]
        further = [number for number in design.looks if number > seeds]
        if not further or not open_entries or seeds < 2 or design.hours_next is None:
            return ""
        wide = max(open_entries, key=lambda entry: entry.d_ap.ci95[1] - entry.d_ap.ci95[0])
        variance = wide.d_ap.variance
        between, image = (variance.seed or 0.0) + (variance.draw or 0.0), variance.image
        low, high = wide.d_ap.interval
        shrink = ((between * seeds / further[0] + image) / ((between + image) or 1.0)) ** 0.5
        return self(
            "more_hours",
            seeds=self.count(design.unit, further[0]),
            hours=f"{design.hours_next:.1f}",
            arm=wide.arm,
            now=f"{50 * (high - low):.1f}",
            half=f"{50 * (high - low) * shrink:.1f}",
        )

    def sources(self, variance: Variance) -> str:
        """Where the variance of a difference comes from, in shares of its known parts; empty where there is none."""
        known = {name: part for name, part in structs.asdict(variance).items() if part is not None}
        total = sum(known.values())
        if not total:
            return ""
        if len(known) == 1:
            return self("only_images")
        of_draws = "from_draw_seed" if variance.seed is None else "from_draw"
        keys = {"seed": "from_seed", "draw": of_draws, "image": "from_image"}
        return ", ".join(self(keys[name], share=f"{part / total:.0%}") for name, part in known.items())

    def repeated(self, comparison: Comparison) -> str:
        """What figures are means over: `3 seeds`, or `2 draws of 3 seeds`."""
        return self._repeats(*repeats(comparison), "draws_of_seeds")


def repeats(comparison: Comparison) -> tuple[int, int]:
    """How many draws of the train images, and how many seeds of each."""
    runs = max((arm.runs for arm in comparison.arms.values()), key=len)  # an arm may lack runs that failed
    draws = len({run.draw for run in runs})
    return draws, len(runs) // draws


def _all_equal(entry: Entry) -> bool:
    """Whether both arms find the same in all of several runs, so that there is no difference to be unsure of."""
    parts = entry.d_ap.components
    same = len(entry.per_run) > 1 and not any(run.d_ap for run in entry.per_run)
    return same and parts is not None and not parts.shared + parts.single + parts.spread


def overlap_of(entry: Entry) -> float:
    """The share of the train images that two draws of a comparison have in common, on average."""
    return entry.d_ap.components.overlap if entry.d_ap.components else 0.0


def minutes(times: Times) -> dict[str, str]:
    """The times of an `arm` and of the arm that it is compared `against`, in minutes."""
    return {name: f"{seconds / 60:.1f}" for name, seconds in structs.asdict(times).items()}


def points(fraction: float, digits: int = 1) -> str:
    """An AP difference in signed AP points."""
    return f"{round(100 * fraction, digits) + 0:+.{digits}f}"  # + 0: no "-0.0"
