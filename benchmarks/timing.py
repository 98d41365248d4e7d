"""How the benchmarks of the loss curve take times on a machine that does other things too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

_IN_A_ROW = 3  # so that one of them finds its data in the cache, not another's


def times_of(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    threads: int = 1,
    in_a_row: int = _IN_A_ROW,
) -> dict[str, list[float]]:
    """The seconds of each, so many times in a row; the ways take turns, so that they meet the same
    machine.

    On one thread it is the time that this thread had a core, which it may have to share; on several,
    PyTorch being set to so many, that of the clock.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    torch.set_num_threads(threads)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            for _ in range(in_a_row):
                started = clock()
                way()
                seconds[name].append(clock() - started)
    torch.set_num_threads(1)
    return seconds


def least_seconds(
    ways: Mapping[str, Callable[[], object]], repeats: int, threads: int = 1
) -> dict[str, float]:
    """The least time of each: what else the machine does only ever adds to a time."""
    return {name: min(times) for name, times in times_of(ways, repeats, threads).items()}
