"""The lessons of a study: what a teacher finds once, in images without labels and in those that are labelled.

All boxes are kept in the project's folder `labels`, by teacher, resolution and image; a lesson is made of them anew, to
the same bytes, so that an interrupted pass goes on and a further arm labels nothing again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path, PurePosixPath

import numpy as np
from msgspec import structs

from coco1k_kd.data.annotations import read
from coco1k_kd.data.dataset import Data, Split
from coco1k_kd.data.images import Seen, size_fault
from coco1k_kd.data.lesson import Found, Lesson, Sealed, digest, unsealed
from coco1k_kd.data.pool import Pool, PoolImage, readable
from coco1k_kd.distill.weights import Weights, read_weights
from coco1k_kd.errors import UserError, count
from coco1k_kd.files import sha256
from coco1k_kd.report.comparison import Labelling
from coco1k_kd.runs.devices import read_devices
from coco1k_kd.runs.slots import Slots
from coco1k_kd.runs.spec import checkpoints
from coco1k_kd.study.arms import BASELINE, POOL_PLACEBO, POOL_SELF, POOL_TRUTH, Key
from coco1k_kd.study.plan import LESSONS, Study
from coco1k_kd.study.teaching import Labeller, best_imgsz, classes_of_labels
from coco1k_kd.verdict.coco import read_truth

_NAMED = 5  # classes of a kind that are named


@dataclass(frozen=True)
class Source:
    """What a teacher looks at, and how.

    Attributes:
        drawn: the labelled data, a draw each; the val images choose resolution and thresholds.
        pool: the images without labels; None where only the labels' gaps are filled.
        fill: whether the teacher looks at the labelled images, too.
        imgsz: pixels; None for the resolution of the best AP on the val images.
        class_map: the teacher's classes that have another name in the data, as FROM=TO.
    """

    drawn: Sequence[Data]
    pool: Pool | None
    fill: bool
    project: Path
    imgsz: int | None = None
    class_map: Sequence[str] = ()
    device: str = ""
    batch: int = 16

    @cached_property
    def train(self) -> list[PoolImage]:
        """The labelled images that are looked at."""
        files = dict.fromkeys(file for data in self.drawn for file in data.train.files) if self.fill else {}
        return readable(files)


def teach_once(source: Source, teacher: Weights, slots: Slots | None = None) -> Lesson:
    """The lesson of a teacher. What is left out, and what was found, is printed.

    `slots`: where processes go that share the work. UserError if the teacher does not know the classes.
    """
    data = source.drawn[0]
    classes, numbers = classes_of_labels(teacher, data.classes, source.class_map)
    folder = source.project / LESSONS / teacher.sha256[:16]
    labeller = Labeller(teacher, numbers, folder, source.device, source.batch, slots)
    imgsz = source.imgsz or best_imgsz(labeller.aps(data.val))
    thresholds = labeller.thresholds(data.val, imgsz)
    pool = source.pool.images if source.pool else ()
    unread = labeller.detect([*pool, *source.train], imgsz)
    for line in source.pool.notes(unread) if source.pool else ():
        print(f"note: {line}", flush=True)
    if pool and (unknown := [name for number, name in enumerate(classes) if number not in numbers]):
        what = f"{len(unknown)} of {count(len(classes), 'class', 'classes')}, {_some(unknown)}"
        print(f"note: the teacher does not know {what}: in the unlabelled images these are background", flush=True)

    def found(images: Iterable[PoolImage]) -> dict[str, Found]:
        kept = [image for image in images if image.file not in unread]
        return {str(image.file.resolve()): found_in(image, labeller.boxes(image.sha256, imgsz)) for image in kept}

    return Lesson(
        teacher=teacher.sha256,
        classes=classes,
        thresholds=thresholds.tolist(),
        imgsz=imgsz,
        pool=found(pool),
        labelled=found(source.train),
        cost=labeller.store(imgsz).cost,
    )


def found_in(image: PoolImage, table: np.ndarray) -> Found:
    """The boxes of an image, as a lesson has them."""
    return Found(image.width, image.height, table.tolist(), image.sha256)


def labels_of(found: dict[str, Found], lesson: Lesson) -> int:
    """How many boxes reach the threshold of their class."""
    thresholds = np.array(lesson.thresholds)
    tables = (one.table for one in found.values())
    return sum(int((table[:, 1] >= thresholds[table[:, 0].astype(int)]).sum()) for table in tables)


def keep(lesson: Lesson, project: Path, name: str) -> Path:
    """Write a lesson into the project, by what it holds. UserError if something else lies there in its place."""
    content = Sealed.of(lesson)
    path = project / LESSONS / f"{name}_{content.sha256[:12]}.json"
    if not path.exists():
        content.write(path)
    elif digest(unsealed(path)) != content.sha256:
        raise UserError(f"{path} is another lesson than the one of that name: remove it, and it is made again")
    return path


def part_of(lesson: Lesson, taught: Collection[str], train: Split) -> Lesson:
    """What an arm with these losses learns from: the same whatever other arms and draws a study has."""
    own = {str(file.resolve()) for file in train.files} if "fill" in taught else ()
    labelled = {file: found for file, found in lesson.labelled.items() if file in own}
    return structs.replace(lesson, pool=lesson.pool if "pool" in taught else {}, labelled=labelled)


def placebo(lesson: Lesson) -> Lesson:
    """The same boxes, each image's in another image: a lesson that must not help. UserError if there is no other."""
    files = sorted(lesson.pool)
    if len(files) == 1:
        raise UserError(f"arm {POOL_PLACEBO}: --unlabelled has one image, and its boxes no other to be put into")
    order = np.random.default_rng(0).permutation(len(files))
    pool = {}
    for place, other in zip(order, np.roll(order, 1), strict=True):
        own, theirs = lesson.pool[files[place]], lesson.pool[files[other]]
        scale = np.array([1, 1, *2 * [own.width / theirs.width, own.height / theirs.height]])
        pool[files[place]] = structs.replace(own, rows=(theirs.table * scale).tolist())
    return structs.replace(lesson, pool=dict(sorted(pool.items())))


def truth(lesson: Lesson, file: Path, images: Pool) -> Lesson:
    """What a person has labelled in the images of the lesson: COCO annotations, which know images and classes by name.

    Where folders are called otherwise, an image is known by the end of its path, if no other ends so. What casts doubt
    on the labels is printed.

    UserError if an image is not in the file or has another size there, a class of the file is none of the data, or no
    image has a box.
    """
    flag, content, known = f"--pool-truth {file}", read(file), read_truth(file)
    if strange := [name for name in known.names if name not in lesson.classes]:
        raise UserError(f"{flag}: the data have no class {strange[0]!r}")
    numbers = np.array([lesson.classes.index(name) for name in known.names])
    entries = {image.name: image for image in content.images()}
    places = {name: number for number, name in enumerate(known.files)}
    ends = [Counter(Path(name).name for name in names) for names in (places, (one.name for one in images.images))]
    names = {image.name for image in images.images}
    by_end = {end: name for name in places if ends[0][end := Path(name).name] == ends[1][end] == 1}
    pool = {}
    for image in images.images:
        if (path := str(image.file.resolve())) not in lesson.pool:  # it cannot be decoded
            continue
        name = image.name if image.name in places else by_end.get(image.file.name)
        if other := next((longer for longer in _longer(image) if longer in places and longer not in names), None):
            raise UserError(
                f"{flag}: {image.file} may be {image.name} of it, or {other}; give --unlabelled the folder that its "
                "names begin in"
            )
        if name is None or not _one_ends_as_the_other(name, image.name):
            raise UserError(f"{flag}: {image.name} is not in it, an image of --unlabelled")
        if fault := size_fault(Seen(image.width, image.height, 1), entries[name]):
            raise UserError(f"{flag}: {image.name} {fault}")
        own = (known.image == places[name]) & ~known.crowd & (known.box[:, 2:] > 0).all(1)
        table = np.column_stack((numbers[known.category[own]], np.ones(own.sum()), known.box[own]))
        pool[path] = found_in(image, table)
    if not any(found.rows for found in pool.values()):
        raise UserError(f"{flag}: it has no box in the images of --unlabelled")
    if missing := [name for name in lesson.classes if name not in known.names]:
        print(f"note: {flag} has no class {_some(missing)}: pool_truth takes their objects for background", flush=True)
    if b'"score"' in content.raw:
        print(
            f"note: {flag} has scores, as a model gives them: pool_truth is a bound only by what a person has labelled"
        )
    return Lesson(teacher=sha256(file), classes=lesson.classes, thresholds=lesson.thresholds, pool=pool)


def _longer(image: PoolImage) -> list[str]:
    """The ends of an image's path that are longer than its name."""
    parts, own = image.file.absolute().parts[1:], len(PurePosixPath(image.name).parts)
    return ["/".join(parts[-number:]) for number in range(own + 1, len(parts) + 1)]


def _one_ends_as_the_other(*names: str) -> bool:
    """Whether the shorter of two paths is the end of the longer: what both say of the folder is then the same."""
    short, long = sorted((PurePosixPath(name).parts for name in names), key=len)
    return long[len(long) - len(short) :] == short


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + "…" * (len(names) > _NAMED)


def prepare(study: Study, slots: Slots) -> Study:
    """The study with the lessons of its arms, but for those of `pool_self`. UserError if the teacher cannot give them.

    What has been found before is not looked for again. Processes in the slots share the work.
    """
    arms = [arm for arm in study.arms if arm.taught and arm.row != POOL_SELF.row]
    fill = any("fill" in arm.taught for arm in arms)
    source = source_of(study, fill)
    made: dict[str | None, Lesson] = {}  # by the teacher's weights: a fitted one differs from draw to draw
    kept: dict[tuple[str, str, str, int], Path] = {}
    teachers = {key: study.taught_by(*key) for key in product(arms, range(len(study.drawn)))}
    with nullcontext(slots) if slots.grows else Slots(slots.number * len(read_devices(source.device))) as places:
        for teacher in teachers.values():
            if teacher.sha256 not in made:
                made[teacher.sha256] = teach_once(source, teacher, places)
                _say(made[teacher.sha256], teacher)
    for (arm, draw), teacher in teachers.items():
        lesson = made[teacher.sha256]
        if arm.row == POOL_PLACEBO.row:
            lesson = placebo(lesson)
        elif arm.row == POOL_TRUTH.row:
            lesson = truth(lesson, study.settings.pool_truth, study.pool)
        lesson = part_of(lesson, arm.taught, study.drawn[draw].train)
        kept[(*arm.lesson, draw)] = keep(lesson, study.project, arm.row.name or arm.lesson[-1])
    return replace(study, lessons=kept)


def _say(lesson: Lesson, teacher: Weights) -> None:
    """Print what a teacher has found. UserError if that is nothing."""
    images, labels = len(lesson.pool) + len(lesson.labelled), labels_of(lesson.pool | lesson.labelled, lesson)
    if lesson.pool and not labels_of(lesson.pool, lesson):
        raise UserError(f"the teacher {teacher.path} finds nothing in --unlabelled that could be a label")
    print(
        f"{Path(teacher.path).name} has looked at {count(images, 'image')} at {lesson.imgsz} px and found "
        f"{count(labels, 'label')} ({lesson.cost.elapsed:.0f} s)",
        flush=True,
    )


def prepare_run(study: Study, key: Key, slots: Slots) -> None:
    """Have the baseline's own student of the same replicate label the pool, for a run of `pool_self`.

    This process does so, or a cluster's nodes.
    """
    arm, replicate = key
    if arm.row != POOL_SELF.row:
        return
    student = read_weights(checkpoints(study.folder(BASELINE, replicate))["best"], "teacher")
    source = replace(source_of(study, fill=False), imgsz=study.settings.imgsz, class_map=())
    lesson = teach_once(source, student, slots if slots.grows else None)
    Sealed.of(lesson).write(study.lesson(arm, replicate))


def labelling(study: Study) -> Labelling | None:
    """What the teacher has found for the study, and how long that took; None where no arm learns by it."""
    lessons = [unsealed(path) for path in study.teachers_lessons]  # `prepare` has just checked them
    if not lessons:
        return None
    main, *others = lessons
    pool, labelled = dict(main.pool), dict(main.labelled)
    for lesson in others:  # of other arms
        if lesson.teacher == main.teacher:
            pool, labelled = pool | lesson.pool, labelled | lesson.labelled
    boxes = labels_of(pool | labelled, main)
    return Labelling(main.cost.seconds, len(pool) + len(labelled), boxes, main.imgsz, len(labelled))


def labelling_seconds(study: Study) -> float:
    """What all teachers of the study have taken to label by the clock, each once, whichever command it was."""
    lessons = [unsealed(path) for path in study.teachers_lessons]  # `prepare` has just checked them
    return sum({lesson.teacher: lesson.cost.elapsed for lesson in lessons}.values())


def source_of(study: Study, fill: bool) -> Source:
    """What the teachers of a study look at."""
    s = study.settings
    return Source(study.drawn, study.pool, fill, study.project, s.teacher_imgsz, s.class_map, s.device, s.batch)
