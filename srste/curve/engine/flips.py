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
from threadpoolctl import LibController, ThreadpoolController
from torch import Tensor

from srste.curve.engine.kernels.adding import COLUMNS, SUMS, add_dense, add_sparse
from srste.curve.engine.kernels.follow import following, settle
from srste.curve.engine.kernels.lanes import aligned
from srste.curve.engine.kernels.turning import WORD
from srste.curve.engine.link_table import Links, padded, rounded
from srste.curve.network.base import Array, Index, Network, check_finite

# A block of examples is as many numbers as about stay near a core, 3 MB; but not so few examples that a
# product would take longer to read the weights than to compute.
_BLOCK = 400_000
_FEWEST = 64


@dataclass(frozen=True)
class CurveInputs:
    """The examples of a curve.

    inputs: (batch, ...), any dtype that NumPy knows. targets: (batch, out), float64, what the loss
    compares with, or (batch, 1) classes. share: what one term counts in the mean. end: position just
    after lr_max.
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
            held = aligned(size)
            if size <= self._MOST_KEPT:
                self._held[name] = held
        return held[:size].reshape(shape)


scratch = _Scratch()


class Follower:
    """Follows one block of examples after another, on one thread."""

    def __init__(self, network: Network, links: Links, batch: CurveInputs, rows: int) -> None:
        layers, hidden, widest = len(network.units), len(network.levels), int(links.widths.max())
        self._network, self._links, self._batch = network, links, batch
        self._kernel = following(links.is_chain)
        self._moving = scratch.array("moving", layers, rows, 2 * widest)
        self._flips = scratch.array("flips", hidden, rows, widest).view(np.uint64)
        self._up = scratch.array("up", hidden, rows, -(-widest // WORD)).view(np.uint64)
        self._due = scratch.array("due", hidden, rows).view(np.uint64)

    def follow(
        self, block: slice, squared: bool, at_rest: Array, counts: Index, found: int, events: Array
    ) -> tuple[int, Array]:
        """As the kernel of that name, for the examples of the block."""
        self._begin(self._batch.inputs[block])
        links = self._links
        return self._kernel(
            self._network.units[-1], links.widths, links.first, links.table, links.jumps,
            links.starts, links.ends, links.pairs, self._moving, self._flips, self._up, self._due,
            self._batch.targets[block], self._batch.share, self._batch.end, squared,
            at_rest, counts, found, events,
        )  # fmt: skip

    def _begin(self, inputs: Tensor) -> None:
        """Everything as it is at t = 0."""
        rows, width = len(inputs), int(self._links.widths[0])
        check_finite("inputs", inputs.numpy())
        if inputs.dtype == torch.float32:  # fresh memory for them would cost more than the copy
            doubles = scratch.array("inputs", *inputs.shape)
            doubles[:] = inputs.numpy()
            inputs = torch.from_numpy(doubles)
        first = self._moving[0, :rows, : 2 * width] if width == self._network.units[0] else None
        beginnings = self._network.beginnings(inputs, first)
        for layer, beginning in enumerate(beginnings):
            self._add_up(layer, beginning, rows)
            if layer < len(self._up):
                width = int(self._links.widths[layer])
                settle(self._moving, self._flips, self._up, self._due, layer, rows, width)

    def _add_up(self, layer: int, beginning: Array | None, rows: int) -> None:
        """Fills in a layer's (a, d) from its beginning and from the units that link to it."""
        links, units = self._links, self._network.units
        width = int(links.widths[layer])
        sums = scratch.array("sums", SUMS * min(2 * width, COLUMNS))
        moving = self._moving[layer, :rows, : 2 * width]
        if beginning is not None and beginning.base is moving.base:
            return  # it is there already
        start = links.rests[layer]
        if beginning is not None:
            whole = padded(beginning, width)
            start = start + (rounded(whole, links.grids[layer]) if links.into[layer] else whole)
        start, fresh = np.ascontiguousarray(start), True
        for link in links.into[layer]:
            if units[link.source] == 0:
                continue
            if link.is_sparse:
                total = np.zeros((2 * width, rows))
                add_sparse(
                    self._up, link.source, units[link.source],
                    links.starts, links.ends, links.pairs, link.at, total,
                )  # fmt: skip
                moving[:] = total.T + (start if fresh else moving)
            else:
                add_dense(
                    self._up, link.source, units[link.source], links.jumps, link.at,
                    start, fresh, sums, self._moving, layer, rows,
                )  # fmt: skip
            fresh = False
        if fresh:
            moving[:] = start


def blocks(links: Links, batch: int) -> list[slice]:
    """The examples in blocks, all but the last of the same size; one for each thread at least."""
    # Their (a, d), and where hidden units flip.
    numbers = (3 * len(links.widths) - 1) * int(links.widths.max())
    most = max(_FEWEST, _BLOCK // numbers)
    count = max(math.ceil(batch / most), min(threads(), batch // _FEWEST))
    rows = math.ceil(batch / count)
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
def _blas() -> list[LibController]:
    controllers: list[LibController] = ThreadpoolController().select(user_api="blas").lib_controllers
    return controllers


_limiting = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's products run on one thread each: blocks are what runs side by side, and the threads of one
    small product wait for each other, on busy cores for long."""
    if not _limiting.acquire(blocking=False):
        yield  # a curve of another thread has set it, and sets it back
        return
    # By hand, as the library's own context manager takes longer than some of the products.
    before = [(library, library.num_threads) for library in _blas()]
    before = [(library, count) for library, count in before if count != 1]
    try:
        for library, _ in before:
            library.set_num_threads(1)
        yield
    finally:
        for library, count in before:
            library.set_num_threads(count)
        _limiting.release()


def shares(parts: int, count: int) -> list[range]:
    """The numbers 0, ..., count - 1 in runs of neighbours, one for each part."""
    bounds = [count * part // parts for part in range(parts + 1)]
    return [range(*pair) for pair in pairwise(bounds)]


def threads() -> int:
    """As many as PyTorch is set to use."""
    return torch.get_num_threads()
