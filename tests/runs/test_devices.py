"""The devices that a run is given."""

from __future__ import annotations

import pytest
import torch
from ultralytics.utils.torch_utils import select_device

from coco1k_kd.errors import UserError
from coco1k_kd.runs.devices import check_device, machine, processor, read_devices


def test_a_gpu_that_is_not_there_is_refused() -> None:
    check_device("cpu")
    with pytest.raises(UserError, match="--device 99"):
        check_device("99")
    with pytest.raises(UserError, match="--device 98,99: there are "):
        check_device("98,99")
    with pytest.raises(UserError, match="--device tpu"):
        check_device("tpu")


@pytest.mark.parametrize(
    ("device", "parts"), [("", [""]), ("cpu", ["cpu"]), ("0,1", ["0", "1"]), ("cuda:1", ["cuda:1"])]
)
def test_a_device_is_one_or_several_numbers(device: str, parts: list[str]) -> None:
    assert read_devices(device) == parts


@pytest.mark.parametrize("device", ["0,0", "0,x", "cpu,0", "0,", "0,1,1"])
def test_several_that_are_not_numbers_each_once_are_refused(device: str) -> None:
    with pytest.raises(UserError, match=f"--device {device}: several GPUs are given by their numbers, each once: 0,1"):
        read_devices(device)


def test_what_computes_is_said_of_the_device_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(machine("cpu")) == {"processor", "threads"} and machine("cpu")["processor"] == processor() != ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    for device, card in (("", "card 0"), ("cuda", "card 0"), ("cuda:1", "card 1"), ("1,0", "card 1")):
        assert machine(device) == {"GPU": card}
    assert machine("7") == {}, "a card that is not there has no name"


@pytest.mark.parametrize("given", [1, 3])
def test_the_threads_are_those_that_ultralytics_trains_with_whatever_this_process_has(
    given: int, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(given))
    torch.set_num_threads(given)
    told = machine("cpu")["threads"]
    select_device("cpu", verbose=False)
    assert told == str(torch.get_num_threads())
