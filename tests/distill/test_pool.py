"""Images that a teacher labelled once: what the student is fed, how sure its labels are, and what Ultralytics keeps."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import ultralytics
from msgspec import structs
from trainings import TINY, UNCHANGED_IMAGES, final_weights
from ultralytics.cfg import get_cfg
from ultralytics.data import build_yolo_dataset
from ultralytics.utils import YAML

from coco1k_kd import YOLO, UserError
from coco1k_kd.data.dataset import read_data
from coco1k_kd.data.lesson import Cost, Found, Lesson, Sealed, read_lesson
from coco1k_kd.distill import pool
from coco1k_kd.distill.doubt import coded, weights_of
from coco1k_kd.distill.pool import Fill, Mixture, Pool
from coco1k_kd.files import sha256

pytestmark = pytest.mark.usefixtures("one_thread")
POOLED = 20  # images


@pytest.fixture(scope="module")
def lesson(coco_root: Path, subset: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    """Of 20 images outside the subset a box that is a label, one that is none and one in doubt; of the others one."""
    data, folder = read_data(subset / "coco1k.yaml"), tmp_path_factory.mktemp("pool")
    used = {Path(name).name for name in data.train.names}
    files = [file for file in sorted((coco_root / "train2017").iterdir()) if file.name not in used][:POOLED]
    for file in files:
        shutil.copy(file, folder)
    sizes = {str(folder / file.name): _size(file) for file in files}
    rows = [[1, 0.8, 10, 10, 40, 40], [2, 0.2, 60, 60, 40, 40], [3, 0.06, 30, 30, 20, 20]]
    labelled = {
        str(file.resolve()): Found(*_size(file), [[5, 0.9, 1, 1, 9, 9]], sha256(file)) for file in data.train.files
    }
    return Lesson(
        teacher=sha256(models / "teacher.pt"),
        classes=list(data.classes),
        thresholds=[0.5] * len(data.classes),
        pool={file: Found(*size, rows, sha256(Path(file))) for file, size in sizes.items()},
        labelled=labelled,
        cost=Cost(1.0),
    )


def _size(file: Path) -> tuple[int, int]:
    import cv2

    height, width = cv2.imread(str(file)).shape[:2]
    return width, height


def dataset(subset: Path, **changes: Any) -> Any:
    """Ultralytics' own train dataset, as its trainer builds it."""
    data = ultralytics.data.utils.check_det_dataset(str(subset / "coco1k.yaml"))
    args = get_cfg(overrides={"imgsz": 64, "task": "detect", **changes})
    return build_yolo_dataset(args, data["train"], 8, data)


def test_what_the_dataset_has_of_each_image_is_known(subset: Path) -> None:
    """A list that Ultralytics adds for each image would have to be lengthened, too."""
    found = {name for name, value in vars(dataset(subset)).items() if isinstance(value, list) and len(value) == 48}
    assert found == {*pool._PER_IMAGE, "label_files"}


@pytest.mark.parametrize("changes", [{"mosaic": 1.0}, {"mosaic": 1.0, "mixup": 1.0}, {"mosaic": 0.0}])
def test_the_fraction_of_a_class_is_kept_and_the_images_are_the_same(subset: Path, changes: dict[str, float]) -> None:
    plain, marked = dataset(subset, **changes), dataset(subset, **changes)
    for label in marked.labels:
        scores = np.linspace(0.3, 1, len(label["cls"]))
        label["cls"] = coded(label["cls"][:, 0], scores, np.arange(len(scores)) % 3 > 0)
    seen = 0
    for index in range(12):
        items = []
        for side in (plain, marked):
            random.seed(index)
            np.random.seed(index)
            items.append(side[index])
        assert torch.equal(items[0]["img"], items[1]["img"])
        assert torch.equal(items[0]["bboxes"], items[1]["bboxes"])
        assert torch.equal(items[0]["cls"], items[1]["cls"].floor())
        weight, doubted = weights_of(items[1]["cls"])
        assert ((weight[~doubted] >= 0.299) & (weight[~doubted] <= 1.001)).all()
        seen += len(weight)
    assert seen > 20


@pytest.mark.parametrize(
    ("labelled", "images", "batch", "share"), [(48, 20, 8, 0.5), (50, 7, 16, 0.3), (5, 90, 1, 0.5)]
)
def test_a_mixture_has_the_baselines_length_and_its_share_everywhere(
    labelled: int, images: int, batch: int, share: float
) -> None:
    one = Mixture(labelled, images, batch, share, seed=1)
    seen = np.zeros(labelled + images, int)
    for epoch in range(9):
        found = np.array(list(one))
        assert len(found) == labelled == len(one) and one.epoch == epoch + 1
        for start in range(0, labelled, batch):
            part = found[start : start + batch]
            assert abs((part >= labelled).sum() - share * len(part)) <= 1
        assert abs((found >= labelled).sum() - share * labelled) <= 0.5
        seen += np.bincount(found, minlength=len(seen))
        for kind in (seen[:labelled], seen[labelled:]):
            assert np.ptp(kind) <= 1  # none is seen twice more often
    again = Mixture(labelled, images, batch, share, seed=1)
    again.set_epoch(8)
    assert list(again) == found.tolist() != list(Mixture(labelled, images, batch, share, seed=2))
    two = [Mixture(labelled, images, batch, share, 1, rank, 2).indices(3) for rank in (0, 1)]
    assert len(two[0]) == len(two[1]) == -(-labelled // 2)
    assert np.bincount([*two[0], *two[1]], minlength=len(seen))[:labelled].max() <= 1


@pytest.fixture(scope="module")
def lesson_file(lesson: Lesson, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lesson") / "lesson.json"
    Sealed.of(lesson).write(file)
    return file


def test_pool_and_fill_give_the_dataset_what_the_teacher_found(subset: Path, lesson: Lesson) -> None:
    data = dataset(subset, mosaic=0.0)
    assert Pool().add(data, lesson) == POOLED
    assert len(data) == data.ni == 48 + POOLED and data.max_buffer_length == 64
    file, found = next(iter(lesson.pool.items()))
    image = data.get_image_and_label(48)
    assert image["im_file"] == file and image["ori_shape"] == (found.height, found.width)
    box = image["instances"].bboxes[0] * np.tile([found.width, found.height], 2)
    np.testing.assert_allclose(box, [30, 30, 40, 40], rtol=1e-5)
    np.testing.assert_allclose(image["cls"][:, 0], [1.4, 2.75])  # what scores 0.06 is background
    assert data[50]["cls"].shape[1] == 1
    hard = dataset(subset)
    Pool(soft=False, low=0.05).add(hard, lesson)
    np.testing.assert_allclose(hard.labels[48]["cls"][:, 0], [1, 2.75, 3.75])
    filled = dataset(subset)
    before = [len(label["cls"]) for label in filled.labels]
    assert Fill().add(filled, lesson) == sum(len(label["cls"]) for label in filled.labels) - sum(before) > 0
    assert not any((label["cls"] % 1)[:n].any() for label, n in zip(filled.labels, before, strict=True))
    file = next(iter(lesson.labelled))
    stale = {**lesson.labelled, file: structs.replace(lesson.labelled[file], sha256="0" * 64)}
    with pytest.raises(UserError, match=f"{Path(file).name} has changed since the teacher labelled it"):
        Fill().add(dataset(subset), structs.replace(lesson, labelled=stale))
    with pytest.raises(UserError, match="has not looked for boxes in this train image"):
        Fill().add(dataset(subset), structs.replace(lesson, labelled={}))


def test_what_a_label_overlaps_is_not_missing() -> None:
    own = {"cls": np.array([[1.0]]), "bboxes": np.array([[0.5, 0.5, 0.4, 0.4]])}
    near, far = [0.55, 0.55, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1]
    found = {"cls": np.array([[1.4], [2.4], [2.75], [1.4]]), "bboxes": np.array([near, near, own["bboxes"][0], far])}
    assert pool.overlapped(found, own).tolist() == [True, False, True, False]
    none = {"cls": np.zeros((0, 1)), "bboxes": np.zeros((0, 4))}
    assert pool.overlapped(found, none).tolist() == [False] * 4


def train(subset: Path, folder: Path, **options: Any) -> Any:
    """Train two epochs from scratch; returns the trainer, with the numbers of the images of each batch."""
    torch.manual_seed(0)
    model = YOLO("yolo11n.yaml")
    seen: list[list[str]] = []

    def watch(trainer: Any) -> None:
        step = trainer.preprocess_batch

        def watched(batch: dict[str, Any]) -> dict[str, Any]:
            seen.append([Path(file).name for file in batch["im_file"]])
            return step(batch)

        trainer.preprocess_batch = watched

    model.add_callback("on_train_start", watch)
    for event, callback in options.pop("callbacks", {}).items():
        model.add_callback(event, callback)
    base = {"data": subset / "coco1k.yaml", "project": folder, "name": "run", "epochs": 2, **TINY, **options}
    model.train(**base)
    model.trainer.seen = seen
    return model.trainer


def test_a_pool_is_trained_on_in_the_baselines_steps(
    subset: Path, lesson: Lesson, lesson_file: Path, models: Path, tmp_path: Path
) -> None:
    teacher = models / "teacher.pt"
    base = train(subset, tmp_path / "base")
    pooled = train(
        subset, tmp_path / "pool", teacher=teacher, distillation_loss="pool", distillation_lesson=lesson_file
    )
    assert len(base.seen) == len(pooled.seen) == 12 and {len(batch) for batch in pooled.seen} == {8}
    assert pooled.ema.updates == base.ema.updates
    names = {Path(file).name for file in lesson.pool}
    assert {len(names & set(batch)) for batch in pooled.seen} == {4}
    assert (pooled.pool_images, pooled.pool_boxes) == (POOLED, POOLED)
    args = YAML.load(pooled.save_dir / "args.yaml")
    assert args["distillation_loss"] == "pool" and args["distillation_lesson"] == str(lesson_file)
    heads = [(run.save_dir / "results.csv").read_text().splitlines()[0] for run in (base, pooled)]
    assert heads[0] == heads[1]
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(pooled.last)
    assert not [name for name in unsafe if name.startswith("coco1k_kd")]


def test_images_in_memory_are_the_same_images(subset: Path, lesson_file: Path, models: Path, tmp_path: Path) -> None:
    options = {"teacher": models / "teacher.pt", "distillation_loss": "pool", "distillation_lesson": lesson_file}
    weights: dict[bool, dict[str, torch.Tensor]] = {False: {}, True: {}}
    for cache, kept in weights.items():
        changes = {**UNCHANGED_IMAGES, "cache": cache, "epochs": 1, "callbacks": final_weights(kept)}
        trainer = train(subset, tmp_path / str(cache), **options, **changes)
    assert weights[True].keys() == weights[False].keys()
    assert all(torch.equal(value, weights[False][name]) for name, value in weights[True].items())
    data = trainer.train_loader.dataset
    assert trainer.args.cache and len(data.ims.shapes) == 48 + POOLED  # all of them, and of nothing else
    assert sum(index >= 48 for index in data.buffer) == len(data.buffer) / 2 and set(data.buffer) == set(range(68))


def test_mosaics_of_images_in_memory_draw_from_those_that_are_given(subset: Path, lesson: Lesson) -> None:
    data = dataset(subset, mosaic=1.0, scale=0.0, translate=0.0)
    Pool(soft=False, low=1).add(data, lesson)
    pool.keep_in_memory(data, [48])
    found = [set(data[0]["cls"][:, 0].tolist()) - set(data.labels[0]["cls"][:, 0].tolist()) for _ in range(5)]
    assert set().union(*found) == {1.0}  # of the one image that all partners are
    assert data.buffer == (48,)


class Cut(Exception):
    """The training ends here, as by a kill."""


def test_a_pool_beside_a_loss_goes_on_where_it_was(
    subset: Path, lesson_file: Path, models: Path, tmp_path: Path
) -> None:
    def cut(trainer: Any) -> None:
        if trainer.epoch == 0:
            raise Cut

    for loss in ("pool", "pool+response", "fill+cwd"):
        options = {"teacher": str(models / "teacher.pt"), "distillation_loss": loss, "distillation_lesson": lesson_file}
        folder = tmp_path / loss
        with pytest.raises(Cut):
            train(subset, folder, callbacks={"on_model_save": cut}, **options)
        whole = train(subset, tmp_path / f"{loss}_whole", **options)
        model = YOLO(folder / "run" / "weights" / "last.pt")
        model.train(resume=True)
        assert model.trainer.settings == whole.settings and model.trainer.start_epoch == 1
        assert (model.trainer.pool_images, model.trainer.pool_boxes) == (whole.pool_images, whole.pool_boxes)
        assert whole.pool_boxes > 0
        if hasattr(whole.train_loader.sampler, "indices"):
            assert model.trainer.train_loader.sampler.epoch == whole.train_loader.sampler.epoch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation_lesson": ""}, "add unlabelled=DIR"),
        ({"distillation_share": 1}, "distillation_share=1 must be above 0 and below 1"),
        ({"single_cls": True}, "single_cls= and the loss pool"),
        ({"cache": "disk"}, "would write an array beside each image"),
        ({"distillation_loss": "cwd", "distillation_share": 0.3}, "not a setting of the loss cwd"),
    ],
)
def test_what_a_pool_cannot_be_with_is_refused_in_a_line(
    subset: Path, lesson_file: Path, models: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    given = {"teacher": models / "teacher.pt", "distillation_loss": "pool", "distillation_lesson": lesson_file}
    with pytest.raises(UserError, match=message):
        train(subset, tmp_path, **{**given, **options})
    assert not list(tmp_path.rglob("*.csv"))


def test_a_task_of_other_labels_is_refused(lesson_file: Path, models: Path) -> None:
    options = {"distillation_loss": "pool", "distillation_lesson": lesson_file}
    with pytest.raises(UserError, match="this student is for segment"):
        YOLO("yolo11n-seg.yaml").train(teacher=models / "teacher.pt", **options)


def test_a_lesson_that_does_not_fit_is_refused(lesson: Lesson, lesson_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was made for the classes"):
        read_lesson(lesson_file, ["other"])
    torn = tmp_path / "torn.json"
    torn.write_bytes(lesson_file.read_bytes()[:-20])
    with pytest.raises(UserError, match="does not hold"):
        read_lesson(torn, lesson.classes)
    gone = tmp_path / "gone.json"
    Sealed.of(Lesson(teacher="", classes=["a"], thresholds=[0.5], pool={"/gone.jpg": Found(1, 1, [], "")})).write(gone)
    with pytest.raises(UserError, match=r"/gone.jpg is gone"):
        read_lesson(gone, ["a"])
    file = tmp_path / "one.jpg"
    file.write_bytes(b"another picture than the teacher has seen")
    stale = tmp_path / "stale.json"
    found = Found(1, 1, [], "0" * 64)
    Sealed.of(Lesson(teacher="", classes=["a"], thresholds=[0.5], pool={str(file): found})).write(stale)
    with pytest.raises(UserError, match=r"one.jpg has changed since the teacher labelled it"):
        read_lesson(stale, ["a"])
