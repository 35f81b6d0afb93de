"""How a study trains: what the user gives, and what Ultralytics' `auto` would choose."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any

from coco1k_kd.errors import UserError

STRIDE = 32
FIT_AUTO = "auto"
_NOMINAL_BATCH = 64  # Ultralytics' `nbs`
# Settings of Ultralytics that have flags of their own, or with which there would be nothing left to compare.
_SETTLED = (
    "task mode model data epochs time patience batch imgsz save device workers project name exist_ok pretrained seed "
    "deterministic single_cls classes fraction val split cfg resume save_dir distill_model plots profile tracker"
)


def resolve_optimizer(train_images: int, batch: int, epochs: int, classes: int) -> dict[str, Any]:
    """What Ultralytics' `optimizer="auto"` would choose, as explicit settings.

    `auto` decides by the number of iterations, and silently; pinned, it is the same for all arms and on record. The
    rule is that of `BaseTrainer.build_optimizer` in Ultralytics 8.4, and a test holds it to that.
    """
    iterations = math.ceil(train_images / max(batch, _NOMINAL_BATCH)) * epochs
    name, rate = ("MuSGD", 0.01) if iterations > 10_000 else ("AdamW", round(0.002 * 5 / (4 + classes), 6))
    return {"optimizer": name, "lr0": rate, "momentum": 0.9, "warmup_bias_lr": 0.0}


def read_train_args(pairs: Sequence[str]) -> dict[str, Any]:
    """Ultralytics' training settings from `KEY=VALUE`. UserError if it knows none such, or a study settles it."""
    from ultralytics.cfg import get_cfg, smart_value
    from ultralytics.utils import DEFAULT_CFG_DICT

    chosen: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or key not in DEFAULT_CFG_DICT:
            near = [name for name in DEFAULT_CFG_DICT if key and key in name] or difflib.get_close_matches(
                key, DEFAULT_CFG_DICT
            )
            hint = f"did you mean {' or '.join(near[:3])}?" if near else "give KEY=VALUE, a setting of Ultralytics"
            raise UserError(f"--train {pair}: {hint}")
        if key in _SETTLED.split() or key in chosen:
            raise UserError(f"--train {pair}: {'given twice' if key in chosen else 'a study settles that itself'}")
        chosen[key] = smart_value(value)
        if key == "cache" and str(chosen[key]).lower() == "disk":
            raise UserError(f"--train {pair}: it would write an array beside each of your images; take cache=ram")
        if key == "optimizer" and str(chosen[key]).lower() == "auto":
            raise UserError(f"--train {pair}: a study pins the optimizer, as auto would choose it; leave it out")
    if "optimizer" in chosen and "lr0" not in chosen:
        raise UserError(f"--train optimizer={chosen['optimizer']}: give lr0=, too; the study's own is for AdamW")
    try:
        get_cfg(overrides=chosen)
    except (TypeError, ValueError, SyntaxError) as error:
        raise UserError(f"--train: {str(error).splitlines()[0]}") from None
    return chosen


def read_fit(asked: int | str | None) -> int | str | None:
    """What --fit-teacher asks for: a number of epochs, "auto", or None for nothing. UserError if it is none of them."""
    if asked in (None, FIT_AUTO):
        return asked
    try:
        epochs = int(asked)
    except ValueError:
        epochs = 0
    if epochs < 1:
        raise UserError(f"--fit-teacher {asked}: give a number of epochs from 1 on, or {FIT_AUTO}")
    return epochs


def check_imgsz(imgsz: int | None, flag: str) -> None:
    """UserError if images cannot have this size, which `flag` gave."""
    if imgsz is not None and (imgsz < STRIDE or imgsz % STRIDE):
        raise UserError(f"{flag} {imgsz}: must be a multiple of {STRIDE}")
