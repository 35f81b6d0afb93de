"""Alive or stop: what is measured of an epoch is noted, and a training that does not distil ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coco1k_kd.distill.settings import RATIO_LIMITS
from coco1k_kd.errors import DistillationError

if TYPE_CHECKING:
    from coco1k_kd.distill.trainer import DistillationTrainer

PATIENCE = 10  # optimizer steps that may leave the aligner where it is: float16 scaling skips the first few
NO_SIGNAL = 1e-5  # variance of features that vanish when they are standardised: batch norm's epsilon


def end_epoch(trainer: DistillationTrainer) -> None:
    """Alive or stop: raise `DistillationError` if the epoch that has just ended did not distil."""
    criterion = trainer.criterion
    names = list(criterion.loss_weights)
    if trainer.settings.every > 1:  # Ultralytics' mean is over all steps
        trainer.tloss.update(criterion.mean_items())
    columns = {"kd_loss"} if len(names) == 1 else {f"kd_{name}" for name in names}
    values = {column: float(trainer.tloss[column]) for column in sorted(columns)}
    measured = criterion.take_measurements().tolist()
    ratio, ratios, cosines = measured[0], measured[1 : 1 + len(names)], measured[1 + len(names) :]
    weights = {name: weight * criterion.factor for name, weight in criterion.loss_weights.items()}
    strides = [trainer.teacher.strides[theirs] for _, theirs in trainer.distiller.levels]
    trainer.distillation_metrics = {
        **_by_part("kd/weight", weights),
        "kd/gradient_ratio": ratio,
        **(_by_part("kd/gradient_ratio", dict(zip(names, ratios, strict=True))) if len(names) > 1 else {}),
        **{f"kd/cosine_stride{s}": c for s, c in zip(strides, cosines, strict=False)},  # none of responses
    }
    if not criterion.step:
        return  # cut short before its first taught step
    broken = criterion.broken
    if not broken and not trainer.loss.isfinite():
        return  # the task's loss was the first to diverge: Ultralytics has its own recovery for that
    for column, value in values.items():
        if broken or value <= 0:
            raise DistillationError(
                f"the distillation loss is {value:g} ({column}) in epoch {trainer.epoch + 1}: nothing is distilled"
            )
    if not trainer.teacher.unchanged():
        raise DistillationError(f"the teacher's weights changed in epoch {trainer.epoch + 1}: it must stay frozen")
    if not any(criterion.loss_weights.values()):
        return  # the control that must equal the baseline
    aligned = any(criterion.loss_weights[name] for name in trainer.distiller.losses)  # else no gradient moves them
    if aligned and trainer.tried_steps >= PATIENCE and not trainer.moved:
        raise DistillationError(f"an aligner has not moved in {trainer.tried_steps} steps: it gets no gradient")
    if trainer.epoch == trainer.start_epoch and (signal := _teacher_signal(trainer)) < NO_SIGNAL:
        raise DistillationError(
            f"the teacher has no signal: its features hardly differ from place to place (variance {signal:.1g}), as "
            "those of untrained weights do; give a trained checkpoint"
        )
    low, high = RATIO_LIMITS
    warm = trainer.epoch >= warmup_epochs(trainer)
    if warm and not low <= ratio <= high and ratio == ratio:
        raise DistillationError(_out_of_balance(trainer, ratio))


def _teacher_signal(trainer: DistillationTrainer) -> float:
    """How much the teacher's features differ from place to place: the variance of the liveliest level's channels."""
    return max(float(level.float().var((0, 2, 3)).median()) for level in trainer.teacher(trainer.sample).features)


def _out_of_balance(trainer: DistillationTrainer, ratio: float) -> str:
    """Why the gradients are out of balance, and what the user can type."""
    low, high = RATIO_LIMITS
    loss, weights = trainer.settings.loss, trainer.criterion.loss_weights.values()
    return (
        f"the distillation's gradient is {ratio:.3g} of the task's, outside {low:g} to {high:g}: "
        f"{'lower' if ratio > high else 'raise'} distillation_weight, now {', '.join(f'{w:g}' for w in weights)}; "
        f"distillation_weight='auto' finds it (in a comparison: --arms {loss}:weight=auto)"
    )


def _by_part(column: str, values: dict[str, float]) -> dict[str, float]:
    """A column for each part of a sum; for a single loss `column` itself."""
    return {column if len(values) == 1 else f"{column}_{name}": value for name, value in values.items()}


def warmup_epochs(trainer: DistillationTrainer) -> float:
    """As Ultralytics has it: the last epoch is never warm-up."""
    return min(trainer.args.warmup_epochs, max(trainer.epochs - 1, 0))
