"""Response distillation: formulas in float64 against loops over single numbers, and trainings for real."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
import ultralytics
from studies import with_signal
from torchvision.ops import generalized_box_iou
from trainings import criterion_of, final_weights, rows, tiny_detector, train

from coco1k_kd import YOLO, UserError
from coco1k_kd.distill.criterion import TARGET
from coco1k_kd.distill.response import LEAST, Response, ResponseLoss, localisation_distance, of_levels, shared_classes
from coco1k_kd.distill.seams import branch_gains, branches_of, detect_head, student_answer
from coco1k_kd.distill.teacher import Teacher

SIZES = [(4, 6), (2, 3)]  # of two levels: 30 anchors
LEVELS = [torch.empty(2, 1, h, w) for h, w in SIZES]


def response(seed: int, classes: int, bins: int) -> Response:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.randn(2, 4 * bins, 30, dtype=torch.float64, generator=generator) * 2
    scores = torch.randn(2, classes, 30, dtype=torch.float64, generator=generator) * 3 - 3
    return Response(boxes + 4 if bins == 1 else boxes, scores)


def softmax(logits: list[float]) -> list[float]:
    exponentials = [math.exp(x) for x in logits]
    return [x / sum(exponentials) for x in exponentials]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def reference(student: Response, teacher: Response, classes: list[tuple[int, int]]) -> tuple[float, float]:
    """The two sums, one number at a time: arXiv 2308.14286 and 2102.12252 as `ResponseLoss` states them."""
    centres = [(x + 0.5, y + 0.5) for h, w in SIZES for y in range(h) for x in range(w)]
    classification = localisation = confidences = 0.0
    theirs = [t for _, t in classes] or range(teacher.scores.shape[1])
    for n in range(2):
        for a in range(30):
            confidence = max(sigmoid(float(teacher.scores[n, t, a])) for t in theirs)
            confidences += confidence
            for s, t in classes:
                p, q = sigmoid(float(student.scores[n, s, a])), sigmoid(float(teacher.scores[n, t, a]))
                classification += abs(q - p) * -(q * math.log(p) + (1 - q) * math.log(1 - p))
            sides = [boxes[n, :, a].reshape(4, -1).tolist() for boxes in (student.boxes, teacher.boxes)]
            if len(sides[0][0]) == len(sides[1][0]) > 1:
                pairs = [(softmax(ours), softmax(their)) for ours, their in zip(*sides, strict=True)]
                distance = (
                    sum(t * math.log(t / s) for ours, their in pairs for s, t in zip(ours, their, strict=True)) / 4
                )
            else:
                x, y = centres[a]
                boxes = []
                for side in sides:
                    left, top, right, bottom = (
                        max(s[0], LEAST) if len(s) == 1 else sum(i * share for i, share in enumerate(softmax(s)))
                        for s in side
                    )
                    boxes.append(torch.tensor([[x - left, y - top, x + right, y + bottom]], dtype=torch.float64))
                distance = 1 - float(generalized_box_iou(*boxes))
            localisation += confidence * distance
    return classification / max(confidences, 1), localisation / max(confidences, 1)


@pytest.mark.parametrize(
    ("bins", "classes"),
    [
        ((16, 16), [(i, i) for i in range(5)]),
        ((16, 16), [(0, 3), (2, 1), (4, 0)]),
        ((16, 16), []),
        ((1, 1), [(1, 1)]),
        ((16, 1), [(0, 0)]),
        ((8, 16), [(0, 0), (1, 1)]),
    ],
)
def test_the_loss_is_the_papers_formula(bins, classes):
    student, teacher = response(1, 5, bins[0]), response(2, 7, bins[1])
    values = ResponseLoss(classes)(student, teacher, LEVELS)
    expected = reference(student, teacher, classes)
    assert [float(value) for value in values] == pytest.approx(expected, rel=1e-6)
    assert (expected[0] == 0) == (not classes) and expected[1] > 0
    half = [Response(*(part.float() for part in side)) for side in (student, teacher)]
    assert [float(v) for v in ResponseLoss(classes)(*half, LEVELS)] == pytest.approx(expected, rel=1e-4)


def test_boxes_turned_inside_out_have_no_negative_loss():
    """As a fresh head without distributions says them: 1 - GIoU of such boxes would have no lower end."""
    student, teacher = torch.randn(2, 2, 4, 30, generator=torch.Generator().manual_seed(0))
    distance = localisation_distance(student, teacher, LEVELS)
    assert float(distance.min()) > -1e-4 and float(distance.max()) <= 2


def test_gradients_are_those_of_the_formula():
    teacher, loss = response(2, 5, 4), ResponseLoss([(0, 1), (3, 2)])
    boxes, scores = (part.requires_grad_() for part in response(1, 5, 4))
    assert torch.autograd.gradcheck(lambda b, s: loss(Response(b, s), teacher, LEVELS), (boxes, scores))


def test_equal_heads_are_not_drawn_anywhere_and_the_teacher_takes_no_gradient():
    student, teacher = (Response(*(part.requires_grad_() for part in response(1, 5, 16))) for _ in range(2))
    classification, localisation = ResponseLoss([(i, i) for i in range(5)])(student, teacher, LEVELS)
    assert float(classification.detach()) == pytest.approx(0, abs=1e-9)
    assert float(localisation.detach()) == pytest.approx(0, abs=1e-9)
    (classification + localisation).backward()
    assert teacher.boxes.grad is None and teacher.scores.grad is None
    assert student.boxes.grad.abs().max() < 1e-9


def test_images_without_anything_on_them_do_not_weigh_like_others():
    """The sum of confidences is a mean over what the teacher finds; where it finds nothing it must not blow up."""
    student, teacher = response(1, 5, 16), response(2, 5, 16)
    nothing = teacher._replace(scores=torch.full_like(teacher.scores, -20.0))
    value = sum(ResponseLoss([(i, i) for i in range(5)])(student._replace(scores=nothing.scores), nothing, LEVELS))
    assert float(value) < 1e-4


def test_classes_are_those_of_equal_name():
    assert shared_classes({0: "person", 1: "Dog "}, {0: "dog", 1: "cat", 2: "person"}) == [(0, 2), (1, 0)]
    assert shared_classes({0: "a"}, {0: "b"}) == []


def test_a_teacher_with_permuted_classes_teaches_the_same():
    student, teacher = response(1, 5, 16), response(2, 5, 16)
    names = dict(enumerate("abcde"))
    order = [3, 0, 4, 1, 2]
    permuted = teacher._replace(scores=teacher.scores[:, order])
    values = [
        ResponseLoss(shared_classes(names, theirs))(student, answer, LEVELS)
        for theirs, answer in ((names, teacher), ({i: names[j] for i, j in enumerate(order)}, permuted))
    ]
    torch.testing.assert_close(*values)


def test_the_anchors_of_chosen_levels_are_taken():
    whole = response(1, 5, 16)
    part = of_levels(whole, [24, 6], [1])
    assert torch.equal(part.boxes, whole.boxes[..., 24:]) and torch.equal(part.scores, whole.scores[..., 24:])
    assert of_levels(whole, [24, 6], [0, 1]) is whole


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n", "yolov10n", "yolov8n"])
def test_the_teacher_answers_what_its_head_says(name):
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{name}.yaml", verbose=False).model.eval()
    branches = branches_of(detect_head(model, "teacher"))
    assert branches == (["one2many", "one2one"] if name in ("yolo26n", "yolov10n") else ["one2many"])
    images = torch.rand(1, 3, 64, 96)
    answer = Teacher(model, torch.device("cpu"), torch.float32, False, branches)(images)
    with torch.no_grad():
        raw = model(images)[1]
    expected = student_answer(raw)
    assert list(answer.responses) == list(expected.responses) == branches
    for branch in branches:
        for mine, theirs in zip(answer.responses[branch], expected.responses[branch], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
    plain = Teacher(model, torch.device("cpu"), torch.float32, False)
    assert not [part for part in plain.network.state_dict() if part.startswith(f"model.{len(model.model) - 1}.")]


def test_gradients_reach_head_and_body_and_nothing_else():
    torch.manual_seed(0)
    student, teacher = tiny_detector(8), tiny_detector(16)
    criterion, batch = criterion_of(student, teacher, "response", ["one2many"])
    losses, items = criterion(student(batch["img"]), batch)
    losses[-1].backward()
    assert float(items["kd_loss"]) == pytest.approx(float(items["kd_cls"] + items["kd_box"]), rel=1e-6)
    without = [n for n, p in student.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not without
    assert not list(criterion.distiller.parameters())
    assert all(p.grad is None for p in criterion.teacher.network.parameters())


@pytest.mark.parametrize("loss", ["cwd", "response", "cwd+response"])
@pytest.mark.parametrize("make", [lambda: tiny_detector(8), lambda: end_to_end(0)])
def test_the_gradients_that_enter_the_head_keep_the_layout_of_a_baseline(loss, make):
    # Layers sum their bias's gradient in the order in which it lies in memory: another layout rounds otherwise.
    torch.manual_seed(0)
    student, teacher = make(), make()
    criterion, batch = criterion_of(student, teacher, loss, branches_of(student.model[-1]), weight=0.0)
    found = []
    for of_loss in (student.init_criterion(), criterion):
        preds = student.train()(batch["img"])
        parts = [part for branch in student_answer(preds).responses.values() for part in branch]
        gradients = torch.autograd.grad(of_loss(preds, batch)[0].sum(), [*parts, *student_answer(preds).features])
        found.append(gradients)
    for plain, distilled in zip(*found, strict=True):
        assert plain.stride() == distilled.stride() and torch.equal(plain, distilled)


def end_to_end(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = ultralytics.YOLO("yolo26n.yaml", verbose=False).model
    model.args = ultralytics.utils.DEFAULT_CFG
    return model


def test_each_branch_of_an_end_to_end_head_learns_from_its_own():
    student, teacher = end_to_end(0), end_to_end(1)
    criterion, batch = criterion_of(student, teacher, "response", ["one2many", "one2one"])
    preds = student.train()(batch["img"])
    terms, _ = criterion.distiller(student_answer(preds), batch[TARGET])
    assert [(term.loss, term.branch) for term in terms] == [("response", "one2many"), ("response", "one2one")]
    head = student.model[-1]
    for term in terms:
        student.zero_grad()
        term.value.backward(retain_graph=True)
        one2one = any(p.grad is not None for p in head.one2one_cv3.parameters())
        one2many = any(p.grad is not None for p in head.cv3.parameters())
        body = any(p.grad is not None for p in student.model[:-1].parameters())
        is_one2one = term.branch == "one2one"
        assert (one2one, one2many, body) == (is_one2one, not is_one2one, not is_one2one)


@pytest.mark.parametrize("loss", ["cwd", "mgd", "cwd+response"])
def test_the_balance_of_an_end_to_end_head_follows_the_schedule_alone(loss):
    """Ultralytics lowers the weight of the one-to-many branch, through which all of the body's gradient comes."""
    student, teacher = end_to_end(0), end_to_end(1)
    criterion, batch = criterion_of(student, teacher, loss, ["one2many", "one2one"] if "response" in loss else ())
    task, ratios = criterion.task, []
    preds = student.train()(batch["img"])
    for epoch, factor in ((0, 1.0), (90, 1.0), (90, 0.1)):
        criterion.start_epoch(1, factor)
        task.updates = epoch - 1
        task.update()
        for part in (part for losses in criterion.distiller.losses.values() for part in losses):
            part.calls = 0  # the same masks
        criterion(preds, batch)
        ratios.append((task.o2m, float(criterion.take_measurements()[0])))
    (start, first), (end, late), (_, low) = ratios
    assert start == pytest.approx(0.8) and end < 0.2, "Ultralytics has changed what it does with the branches"
    assert late == pytest.approx(first, rel=1e-3) and low == pytest.approx(0.1 * first, rel=1e-3) and first > 0


def test_the_gains_of_the_branches_are_read_from_ultralytics_criterion():
    criterion = end_to_end(0).init_criterion()
    assert branch_gains(criterion) == {"one2many": pytest.approx(0.8), "one2one": pytest.approx(0.2)}
    assert branch_gains(tiny_detector(8).init_criterion()) == {"one2many": 1.0, "one2one": 1.0}


def test_the_ratio_of_a_sum_is_that_of_the_summed_gradients():
    torch.manual_seed(0)
    student, teacher = tiny_detector(8), tiny_detector(16)
    weights = (2.0, 3.0)
    criterion, batch = criterion_of(student, teacher, "cwd+response", ["one2many"], weight=weights)
    criterion.start_epoch(1, 0.5)
    criterion(student(batch["img"]), batch)
    total, *parts = criterion.take_measurements()[:3].tolist()

    cut = [level.detach().requires_grad_() for level in student_answer(student(batch["img"])).features]
    preds = deepcopy(student.model[-1])(list(cut))
    terms, _ = criterion.distiller(student_answer(preds)._replace(features=cut), batch[TARGET])
    task = torch.autograd.grad(student.init_criterion()(preds, batch)[0].sum(), cut, retain_graph=True)
    norm = torch.cat([g.flatten() for g in task]).norm()
    each = [0.5 * w * 4 * t.value for w, t in zip(weights, terms, strict=True)]
    for value, expected in ((total, sum(each)), *zip(parts, each, strict=True)):
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(expected, cut, retain_graph=True)])
        assert value == pytest.approx(float(gradient.norm() / norm), rel=0.01)


def test_auto_weight_gives_each_part_its_share():
    torch.manual_seed(0)
    student, teacher = tiny_detector(8), tiny_detector(16)
    criterion, batch = criterion_of(student, teacher, "cwd+response", ["one2many"], weight="auto", target_ratio=0.4)
    preds = student(batch["img"])
    criterion(preds, batch)
    criterion.take_measurements()
    criterion.calibrating = False
    criterion.start_epoch(1, 1.0)
    criterion(preds, batch)
    total, *parts = criterion.take_measurements()[:3].tolist()
    assert parts == pytest.approx([0.2, 0.2], rel=0.02) and 0 < total <= 0.41


@pytest.fixture(scope="module")
def teacher_file(models):
    """Its classes are those of the data."""
    return models / "teacher.pt"


@pytest.fixture(scope="module")
def plain(subset, tmp_path_factory):
    """The weights of the baseline after an epoch."""
    weights: dict[str, torch.Tensor] = {}
    train(subset, tmp_path_factory.mktemp("plain"), final_weights(weights))
    return weights


@pytest.mark.parametrize("loss", ["response", "cwd+response"])
def test_weight_0_is_the_baseline(loss, plain, subset, teacher_file, tmp_path):
    distilled = {}
    train(
        subset, tmp_path, final_weights(distilled), teacher=teacher_file, distillation_loss=loss, distillation_weight=0
    )
    assert plain.keys() == distilled.keys()
    assert all(torch.equal(plain[k], distilled[k]) for k in plain)


def test_a_sum_is_in_the_log_with_its_parts(subset, teacher_file, tmp_path):
    trainer = train(
        subset, tmp_path, teacher=teacher_file, distillation_loss="cwd+Response", distillation_weight=(1, 3), epochs=2,
        plots=True,
    ).trainer  # fmt: skip
    first, last = rows(trainer.save_dir)
    for row in (first, last):
        figures = {name: float(value) for name, value in row.items()}
        assert figures["train/kd_loss"] == pytest.approx(
            figures["train/kd_cwd"] + figures["train/kd_response"], rel=1e-4
        )
        assert figures["train/kd_response"] == pytest.approx(
            figures["train/kd_cls"] + figures["train/kd_box"], rel=1e-4
        )
        assert min(figures[f"train/kd_{part}"] for part in ("cwd", "cls", "box")) > 0
        assert all(figures[f"kd/gradient_ratio{part}"] > 1e-4 for part in ("", "_cwd", "_response"))
    assert [float(first[f"kd/weight_{part}"]) for part in ("cwd", "response")] == [1, 3]
    assert [float(last[f"kd/weight_{part}"]) for part in ("cwd", "response")] == pytest.approx([0.1, 0.3])
    assert not [name for name in first if name.startswith("val/kd")]
    assert (trainer.save_dir / "distillation.png").stat().st_size > 10_000


def test_a_run_of_responses_is_resumed(subset, teacher_file, tmp_path):
    class Cut(Exception):
        pass

    def cut(trainer) -> None:
        if trainer.epoch == 0:
            raise Cut

    with pytest.raises(Cut):
        train(
            subset, tmp_path, {"on_fit_epoch_end": cut}, epochs=2, teacher=str(teacher_file),
            distillation_loss="response", distillation_weight="auto",
        )  # fmt: skip
    last = next(tmp_path.rglob("last.pt"))
    with pytest.raises(UserError, match="distillation_loss differs"):
        YOLO(last).train(resume=True, distillation_loss="cwd")
    trainer = YOLO(last)
    trainer.train(resume=True)
    assert trainer.trainer.settings.loss == "response" and trainer.trainer.calibration
    assert float(rows(trainer.trainer.save_dir)[-1]["train/kd_loss"]) > 0


def test_responses_teach_a_head_over_a_frozen_body(subset, teacher_file, tmp_path):
    trainer = train(subset, tmp_path, teacher=teacher_file, distillation_loss="response", freeze=23).trainer
    (row,) = rows(trainer.save_dir)
    assert float(row["train/kd_loss"]) > 0 and float(row["kd/gradient_ratio"]) > 1e-4


def test_a_teacher_of_other_classes_teaches_boxes_alone_and_the_log_says_so(subset, tmp_path, caplog, capsys):
    trainer = train(subset, tmp_path, teacher=with_signal(YOLO("yolov8n.yaml")), distillation_loss="response").trainer
    (row,) = rows(trainer.save_dir)
    assert float(row["train/kd_cls"]) == 0 < float(row["train/kd_box"]) == float(row["train/kd_loss"])
    assert "its responses teach boxes alone" in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(("student", "teacher"), [("yolo26n.yaml", "yolo26s.yaml"), ("yolo11n.yaml", "yolo26s.yaml")])
def test_families(student, teacher, subset, tmp_path):
    trainer = train(
        subset, tmp_path, student=student, teacher=with_signal(YOLO(teacher)), distillation_loss="cwd+response"
    ).trainer
    assert float(rows(trainer.save_dir)[0]["train/kd_response"]) > 0
    assert len(trainer.teacher.network.model[-1].branches) == (2 if "26" in student else 1)


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16")])
def test_autocast(dtype, precision, subset, teacher_file, tmp_path, monkeypatch):
    monkeypatch.setattr("ultralytics.engine.trainer.autocast", lambda *_, **__: torch.autocast("cpu", dtype))
    scaler = torch.amp.GradScaler
    enabled = dtype == torch.float16
    monkeypatch.setattr("torch.amp.GradScaler", lambda *_, **__: scaler("cpu", enabled=enabled, init_scale=2.0**4))
    trainer = train(
        subset, tmp_path, teacher=teacher_file, distillation_loss="response", distillation_precision=precision
    ).trainer
    (row,) = rows(trainer.save_dir)
    assert float(row["train/kd_loss"]) > 0 and 1e-4 < float(row["kd/gradient_ratio"]) < 10
