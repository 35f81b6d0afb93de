"""One training on several GPUs of this machine: a process for each, as PyTorch's distributed training has it.

Ultralytics would start them itself, but with its own arguments alone and after removing the run folder. Started here,
each finds itself a rank (RANK, LOCAL_RANK, WORLD_SIZE) with all that a run of a study has, and Ultralytics does the
rest: process group, share of the batch, all-reduce. `torch.distributed.run` puts ranks into sessions of their own, out
of reach of the signals and of the run folder's lock with which a study ends its runs.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

import torch.distributed as dist
from ultralytics.utils.dist import find_free_network_port

_POLL_SECONDS = 0.2


def run_ranks(number: int, command: Sequence[str]) -> int:
    """Run `command` as `number` ranks until all have ended well, or one has not, which ends the others.

    Each rank's standard input closes when this process ends, however it does. They inherit what is inheritable, such
    as the run folder's lock.

    Returns:
        0, or the exit code of a rank that failed; negative for a signal, as subprocess has it.
    """
    group = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    threads = {"OMP_NUM_THREADS": "1"}  # as torch.distributed.run: the ranks share the cores
    ranks = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            close_fds=False,
            env={**threads, **os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(number)
    ]
    try:
        while None in (codes := [rank.poll() for rank in ranks]) and not any(codes):
            time.sleep(_POLL_SECONDS)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    failed = [code for code in codes if code]
    return min(failed, default=0)  # a signal before what the other ranks said of it


def gathered(value: object) -> list:
    """`value` of every rank, in their order; of this process alone where there are no ranks."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
