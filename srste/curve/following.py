"""The examples of a batch followed through their flips: in blocks, and on several threads."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from srste.curve.kernels.following import follow, settle, spread
from srste.curve.links import Links, rounded
from srste.curve.network import Array, Dense, Index, Network

# A block of examples is as many numbers as about stay in a core's own cache, 2 MB; but not so few
# examples that a product would take longer to read the weights than to compute.
_BLOCK = 250_000
_FEWEST = 64


@dataclass(frozen=True)
class Batch:
    """The examples of a curve.

    inputs: (batch, ...), any float dtype. targets: (batch, out), float64, what the loss compares with,
    or (batch, 1) classes. share: what one term counts in the mean. end: position just after lr_max.
    """

    inputs: Tensor
    targets: Array
    share: float
    end: np.uint64

    def __len__(self) -> int:
        return len(self.targets)


class _Scratch(threading.local):
    """Memory that is kept for the next curve: fresh memory costs more in page faults than the arithmetic
    on it. What it holds lasts until the same name is asked for again."""

    _MOST_KEPT = 4_000_000  # numbers of an array, 32 MB

    def __init__(self) -> None:
        self._held: dict[str, Array] = {}

    def array(self, name: str, *shape: int) -> Array:
        """An uninitialised array of this shape."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.size < size:
            held = np.empty(size)
            if size <= self._MOST_KEPT:
                self._held[name] = held
        return held[:size].reshape(shape)


scratch = _Scratch()


def check_finite(name: str, tensor: Tensor) -> None:
    """Raises: ValueError if something in a tensor on the CPU, float32 or float64, is not finite."""
    if not np.isfinite(tensor.numpy()).all():
        raise ValueError(f"{name} holds a value that is not finite")


class Follower:
    """Follows one block of examples after another, on one thread."""

    def __init__(self, network: Network, links: Links, batch: Batch, rows: int) -> None:
        layers, hidden, widest = len(network.units), len(network.levels), max(network.units)
        self._network, self._links, self._batch = network, links, batch
        self._units = np.array(network.units)
        self._moving = scratch.array("moving", layers, rows, 2 * widest)
        self._signs = scratch.array("signs", hidden, rows, widest)
        self._flips = scratch.array("flips", hidden, rows, widest).view(np.uint64)
        self._due = scratch.array("due", hidden, rows).view(np.uint64)

    def follow(
        self, block: slice, squared: bool, at_rest: Array, counts: Index, found: int, events: Array
    ) -> tuple[int, Array]:
        """As the kernel of that name, for the examples of the block."""
        self._begin(self._batch.inputs[block])
        links = self._links
        return follow(
            self._units, links.first, links.table, links.jumps, links.starts, links.ends, links.pairs,
            self._moving, self._flips, self._signs, self._due,
            self._batch.targets[block], self._batch.share, self._batch.end, squared,
            at_rest, counts, found, events,
        )  # fmt: skip

    def _begin(self, inputs: Tensor) -> None:
        """Everything as it is at t = 0."""
        rows = len(inputs)
        check_finite("inputs", inputs)
        first = self._moving[0, :rows, : 2 * self._units[0]]
        beginnings = self._network.beginnings(inputs, first)
        values: list[Array] = []
        for layer, units in enumerate(self._units):
            moving = self._moving[layer, :rows, : 2 * units]
            self._add_up(layer, moving, beginnings[layer], values)
            if layer < len(self._signs):
                settle(self._moving, self._flips, self._signs, self._due, layer, rows, units)
                low, high = self._network.levels[layer]
                signs = self._signs[layer, :rows, :units]
                values.append(signs if low == -high == -1 else np.where(signs > 0, high, low))

    def _add_up(self, layer: int, moving: Array, beginning: Array | None, values: list[Array]) -> None:
        """Fills in a layer's (a, d) from its beginning and from the units that link to it."""
        into = self._links.into[layer]
        if len(into) == 1 and isinstance(into[0][1], Dense):
            np.matmul(values[into[0][0]], into[0][1].columns, out=moving)
        elif into:
            total = np.zeros(moving.shape)  # contiguous
            for source, link in into:
                if isinstance(link, Dense):
                    total += values[source] @ link.columns
                else:
                    given = np.zeros(total.shape[::-1])
                    turned = np.ascontiguousarray(values[source].T)
                    spread(turned, link.starts, link.ends, link.pairs, given)
                    total += given.T
            moving[:] = total
        if beginning is None:
            if not into:
                moving[:] = 0
        elif into:
            moving += rounded(beginning, self._links.grids[layer])
        elif beginning.base is not moving.base:  # otherwise it is there already
            moving[:] = beginning


def blocks(network: Network, batch: int) -> list[slice]:
    """The examples in blocks, all but the last of the same size."""
    numbers = (4 * len(network.levels) + 2) * max(network.units)
    most = max(_FEWEST, _BLOCK // numbers)
    rows = math.ceil(batch / math.ceil(batch / most))
    return [slice(start, min(start + rows, batch)) for start in range(0, batch, rows)]


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="loss-curve")


# A process that is forked has no threads but one, and would wait for the others for ever.
os.register_at_fork(after_in_child=_executor.cache_clear)


def in_threads(work: Callable[[int], None], parts: int) -> None:
    """work(0), ..., work(parts - 1), the first one here and the others beside it."""
    if parts == 1:
        work(0)
        return
    others = [_executor(parts - 1).submit(work, part) for part in range(1, parts)]
    try:
        work(0)
    finally:
        wait(others)  # they write into memory of the caller's
    for other in others:
        other.result()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


_limiting = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's products run on one thread each: blocks are what runs side by side, and the threads of one
    small product wait for each other, on busy cores for long."""
    if not _limiting.acquire(blocking=False):
        yield  # a curve of another thread has set it, and sets it back
        return
    try:
        with _blas().limit(limits=1):
            yield
    finally:
        _limiting.release()


def shares(parts: int, count: int) -> list[range]:
    """The numbers 0, ..., count - 1 in runs of neighbours, one for each part."""
    bounds = [count * part // parts for part in range(parts + 1)]
    return [range(*pair) for pair in pairwise(bounds)]


def threads() -> int:
    """As many as PyTorch is set to use."""
    return torch.get_num_threads()
