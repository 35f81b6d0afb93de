"""The losses that a teacher can teach by: one entry for each. Everything that names a loss asks here; no torch.

A sum of losses is named with plus signs, as "cwd+response". A loss of this package has its row above its class, in any
file of this folder: `built_in`. A loss of your own joins by `register_loss`, from a file of your own:
docs/adding-a-loss.md.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from coco1k_kd import names as reserved
from coco1k_kd.errors import UserError, nearest

# What a loss compares: the neck's levels, or what the head makes of them. Labels are nothing to compare: what goes by
# them changes the images and boxes that the student is fed.
FEATURES, RESPONSES, LABELS = "features", "responses", "labels"
_FRESH = 3.0  # default weight under a fresh head, over the other: docs/method.md, "Weights"

_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes:
        name: as users type it.
        made_by: its class, or "module:class" of it, imported once it is needed.
        weight: its default weight.
        fresh_weight: its default weight under a fresh head.
        cost: seconds of its training step over those of a plain one; it orders runs and estimates their time.
        help: what it does, in a few words.
        compares: `FEATURES`, `RESPONSES` or `LABELS`.
        file: the user's file that it was registered in; "" for those of this package.
    """

    name: str
    made_by: str | type
    weight: float
    fresh_weight: float
    cost: float
    help: str = ""
    compares: str = FEATURES
    file: str = ""

    def make(self, **settings: Any) -> Any:
        """The loss as a module. Of `settings`, its constructor gets those that it names."""
        return self._class()(**{key: value for key, value in settings.items() if self.takes(key)})

    def takes(self, setting: str) -> bool:
        """Whether the loss's constructor names `setting`."""
        return setting in inspect.signature(self._class()).parameters

    def _class(self) -> Any:
        if not isinstance(self.made_by, str):
            return self.made_by
        module, _, name = self.made_by.partition(":")
        return getattr(import_module(module), name)


def built_in(**row: Any) -> Callable[[_Class], _Class]:
    """Class decorator: the row of a loss of this package, fields of `Loss` as plain literals, which `_rows` reads.

    `fresh_weight` is three times `weight` where it is not given: under a fresh head, which knows nothing, the task's
    gradient says little, and a stronger teacher pays.
    """
    return lambda made_by: made_by


def _rows(folder: Path) -> Iterator[Loss]:
    """The rows of this package's losses. They are read and not run, since importing torch takes seconds."""
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body if f"@{built_in.__name__}(" in text else ():
            for call in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == built_in.__name__:
                    row = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
                    row.setdefault("fresh_weight", _FRESH * row["weight"])
                    yield Loss(made_by=f"{__package__}.{path.stem}:{node.name}", **row)


# Arms, rows of a report, and Ultralytics' columns of results.csv without their "_loss": they name no loss.
_COLUMNS = ("box", "cls", "dfl", "loss", "kd", "dis", "seg", "sem", "pose", "kobj", "rle", "angle")
RESERVED = frozenset((*reserved.NAMED, reserved.STUDENT, reserved.TEACHER, *_COLUMNS))
# Losses of features first, those of labels last, each kind by name.
_in_order = sorted(
    _rows(Path(__file__).parent), key=lambda loss: ((FEATURES, RESPONSES, LABELS).index(loss.compares), loss.name)
)
_known = {loss.name: loss for loss in _in_order}
_loaded: dict[Path, bytes] = {}  # users' files as they were run


def register_loss(
    name: str, *, weight: float, fresh_weight: float | None = None, cost: float = 2.0
) -> Callable[[_Class], _Class]:
    """Class decorator: make a loss of features known by `name`.

    The class is a `torch.nn.Module`. Called with student and teacher, (N, C, H, W) each, aligned and standardised, it
    gives a scalar. Its constructor may name `channels` (C), `seed` and settings of `Distillation`, as `tau`.

    Args:
        name: how the loss is named from now on: letters, digits and underscores.
        weight: its default weight.
        fresh_weight: its default weight under a fresh head; three times `weight` if it is not given.
        cost: seconds of its training step over those of a plain one.

    Raises:
        UserError: the name is unfit, or another loss has it.
    """

    written_in = sys._getframe(1).f_globals.get("__file__")  # None in a notebook, whose losses its process alone knows
    file = str(Path(written_in).resolve()) if written_in else ""
    key = name.lower()

    def add(made_by: _Class) -> _Class:
        if not key.isidentifier():
            raise UserError(f"{name!r} cannot name a loss: take letters, digits and underscores")
        if key.removesuffix("_loss") in RESERVED:
            raise UserError(
                f"{key} cannot name a loss: an arm, a row or a column of results has that name; take another"
            )
        if key in _known and _known[key].file != file:
            raise UserError(f"there is a loss {key} already ({_known[key].file or 'built in'}): choose another name")
        fresh = _FRESH * weight if fresh_weight is None else fresh_weight
        _known[key] = Loss(key, made_by, weight, fresh, cost, file=file)
        return made_by

    return add


def load(file: str | Path) -> None:
    """Run the Python file that registers a user's losses, once, and again if it has changed.

    UserError if it cannot be run or registers none.
    """
    path = Path(file).resolve()
    content = path.read_bytes() if path.is_file() else b""
    if _loaded.get(path) == content and any(loss.file == str(path) for loss in _known.values()):
        return
    for loss in [loss.name for loss in _known.values() if loss.file == str(path)]:
        del _known[loss]  # of the file as it was
    name = f"coco1k_kd_losses_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise UserError(f"{file} is not a Python file: give the one that registers your loss")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if (folder := str(path.parent)) not in sys.path:
        sys.path.append(folder)  # what it imports may lie beside it, also where that is asked for only in training
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    if not any(loss.file == str(path) for loss in _known.values()):
        raise UserError(f"{file} registers no loss: put @coco1k_kd.register_loss above its class")
    _loaded[path] = content


def names() -> list[str]:
    """Of all losses, in the order of the table."""
    return list(_known)


def told() -> str:
    """What each loss goes by, in a line."""
    return "; ".join(f"{loss.name}, {loss.help}" if loss.help else loss.name for loss in _known.values())


def parts(name: str) -> tuple[Loss, ...]:
    """The losses whose sum `name` is, one for most. UserError if one is unknown or named twice."""
    chosen = name.lower().split("+")
    for part in chosen:
        if part not in _known:
            raise UserError(
                f"unknown loss {part!r}{nearest(part, _known)}: choose of {', '.join(_known)}, or a sum of them, as "
                f"{'+'.join(names()[:2])}"
            )
        if chosen.count(part) > 1:
            raise UserError(f"the loss {name} names {part} twice")
    return tuple(_known[part] for part in chosen)


def default_weight(summed: Sequence[Loss], fresh: bool = False) -> float | tuple[float, ...]:
    """The weight of a sum where none is given, one for each part that compares; `fresh`: for a fresh head."""
    compared = [loss for loss in summed if loss.compares != LABELS]
    weights = tuple(loss.fresh_weight if fresh else loss.weight for loss in compared) or (1.0,)
    return weights[0] if len(weights) == 1 else weights


def cost(summed: Sequence[Loss]) -> float:
    """Seconds of a training step with a sum over those of a plain one, about: the teacher is paid for once."""
    costs = [loss.cost for loss in summed if loss.compares != LABELS]
    return max(costs) + 0.1 * (len(costs) - 1) if costs else 1.0
