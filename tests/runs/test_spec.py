"""What a run is given and what it gives back, as files, and what its time is compared by."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from plans import key_of, made, timed

from coco1k_kd.errors import UserError
from coco1k_kd.runs.spec import (
    SPEC,
    EvaluateSpec,
    Evaluation,
    Exported,
    ExportSpec,
    Looked,
    LookSpec,
    Picture,
    Result,
    checkpoints,
    comparable_seconds,
    read_spec,
    result_type,
    write,
)

PLACES = {"annotations": "a.json", "images": "images"}


def test_each_kind_of_spec_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = {"folder": str(tmp_path), **PLACES}
    look = {
        "batches": [[Picture("a.jpg", "0", (4, 3))]],
        "store": "b.json",
        "identity": {},
        "process": 1,
        "settings": {},
    }
    specs = [
        (made(arms=["cwd"]).spec(*key_of("cwd"), 7), Result),
        (EvaluateSpec(**place, weights=checkpoints(tmp_path), val_args={"imgsz": 64}), Evaluation),
        (ExportSpec(**place, weights="best.pt", format="onnx", calibration="", val_args={}), Exported),
        (LookSpec(folder=str(tmp_path), teacher="t.pt", **look), Looked),
    ]
    for spec, kind in specs:
        write(tmp_path / SPEC, spec)
        read = read_spec(tmp_path)
        assert type(read) is type(spec) and msgspec.to_builtins(read) == msgspec.to_builtins(spec)
        assert result_type(read) is kind
    assert checkpoints("runs/x") == {"best": "runs/x/weights/best.pt", "last": "runs/x/weights/last.pt"}


@pytest.mark.parametrize("text", ["", "{}", '{"kind": "train"}', '{"kind": "other"}', "[1"])
def test_a_file_of_another_version_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / SPEC).write_text(text)
    with pytest.raises(UserError, match=r"spec\.json was not written by this version .*; remove its folder"):
        read_spec(tmp_path)


def run(clock: float, cores: float | None, at_once: int = 1) -> Result:
    return structs.replace(timed(clock), cpu_seconds=cores, at_once=at_once)


def test_the_cores_time_counts_where_runs_shared_them_and_all_have_it() -> None:
    assert comparable_seconds([]) == []
    assert comparable_seconds([run(10, 15), run(20, 25)]) == [10, 20], "alone: the clock"
    assert comparable_seconds([run(10, 15), run(20, 25, at_once=2)]) == [15, 25]
    assert comparable_seconds([run(10, 15), run(90, 25)]) == [15, 25], "one was stopped for an hour"
    assert comparable_seconds([run(10, None), run(20, 25, at_once=2)]) == [10, 20], "a GPU has nothing but the clock"


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4), st.integers(1, 3)), min_size=1, max_size=5))
def test_all_runs_are_timed_in_the_same_way(runs: list[tuple[float, float, int]]) -> None:
    results = [run(*one) for one in runs]
    found = comparable_seconds(results)
    assert found in ([one.train_seconds for one in results], [one.cpu_seconds for one in results])
    assert comparable_seconds(results[::-1]) == found[::-1]
