"""The examples of a batch followed through their flips, in blocks."""

import math
import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from srste.curve.engine.kernels.adding import COLUMNS, SUMS, add_dense, add_sparse
from srste.curve.engine.kernels.follow import follow_kernel, start
from srste.curve.engine.kernels.lanes import aligned
from srste.curve.engine.layout import WORD, Examples, Units
from srste.curve.engine.link_table import Links, padded, rounded
from srste.curve.engine.threads import shares, threads
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

    def examples(self, block: slice) -> Examples:
        """Those of a block, as the kernels take them."""
        return Examples(self.targets[block], self.share, self.end)


class _Scratch(threading.local):
    """Memory that is kept for the next curve: fresh memory costs more in page faults than the arithmetic
    on it. An array lasts until the same name is asked for again."""

    _MOST_KEPT = 4_000_000  # numbers of an array, 32 MB

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def array(self, name: str, *shape: int) -> Array:
        """An uninitialised array of this shape."""
        size = math.prod(shape)
        array = self._arrays.get(name)
        if array is None or array.size < size:
            array = aligned(size)
            if size <= self._MOST_KEPT:
                self._arrays[name] = array
        return array[:size].reshape(shape)


scratch = _Scratch()


class Follower:
    """Follow one block of examples after another, on one thread."""

    def __init__(self, network: Network, links: Links, batch: CurveInputs, rows: int) -> None:
        layers, hidden, widest = len(network.units), len(network.levels), int(links.table.widths.max())
        self._network, self._links, self._batch = network, links, batch
        self._units = Units(
            affine=scratch.array("affine", layers, rows, 2 * widest),
            flips=scratch.array("flips", hidden, rows, widest).view(np.uint64),
            up=scratch.array("up", hidden, rows, -(-widest // WORD)).view(np.uint64),
            next_flip=scratch.array("next_flip", hidden, rows).view(np.uint64),
        )

    def follow(
        self, block: slice, squared: bool, at_start: Array, counts: Index, count: int, events: Array
    ) -> tuple[int, Array]:
        """As the kernel of that name, for the examples of the block."""
        self._begin(self._batch.inputs[block])
        kernel = follow_kernel(self._links.is_chain)
        examples = self._batch.examples(block)
        return kernel(self._links.table, self._units, examples, squared, at_start, counts, count, events)

    def _begin(self, inputs: Tensor) -> None:
        """Fill in the units of all layers for t = 0."""
        rows, width = inputs.shape[0], int(self._links.table.widths[0])
        check_finite("inputs", inputs.numpy())
        if inputs.dtype == torch.float32:  # fresh memory for them would cost more than the copy
            doubles = scratch.array("inputs", *inputs.shape)
            doubles[:] = inputs.numpy()
            inputs = torch.from_numpy(doubles)
        first = self._units.affine[0, :rows, : 2 * width] if width == self._network.units[0] else None
        beginnings = self._network.beginnings(inputs, first)
        for layer, beginning in enumerate(beginnings):
            self._add_up(layer, beginning, rows)
            if layer < len(self._units.up):
                start(self._units, layer, rows, int(self._links.table.widths[layer]))

    def _add_up(self, layer: int, beginning: Array | None, rows: int) -> None:
        """Fill in a layer's (a, d) from its beginning and from the units that link to it."""
        links, table, layers = self._links, self._links.table, self._network.units
        width = int(table.widths[layer])
        affine = self._units.affine[layer, :rows, : 2 * width]
        if beginning is not None and beginning.base is affine.base:
            return  # it is there already
        total = links.rests[layer]
        if beginning is not None:
            wide = padded(beginning, width)
            total = total + (rounded(wide, links.grids[layer]) if links.into[layer] else wide)
        up, total, fresh = self._units.up, np.ascontiguousarray(total), True
        for link in links.into[layer]:
            source, n_units = link.source, layers[link.source]
            if n_units == 0:
                continue
            if link.is_sparse:
                sums = np.zeros((2 * width, rows))
                add_sparse(up, source, n_units, table.starts, table.ends, table.pairs, link.at, sums)
                affine[:] = sums.T + (total if fresh else affine)
            else:
                sums = scratch.array("sums", SUMS * min(2 * width, COLUMNS))
                add_dense(
                    up, source, n_units, table.jumps, link.at,
                    self._units.affine, layer, rows, total, fresh, sums,
                )  # fmt: skip
            fresh = False
        if fresh:
            affine[:] = total


def blocks_by_thread(links: Links, batch: int) -> tuple[list[slice], list[range]]:
    """The examples in blocks, all but the last of the same size; and the numbers of the blocks that each
    thread follows."""
    # Their (a, d), and where hidden units flip.
    widths = links.table.widths
    numbers = (3 * len(widths) - 1) * int(widths.max())
    most = max(_FEWEST, _BLOCK // numbers)
    count = max(math.ceil(batch / most), min(threads(), batch // _FEWEST))
    rows = math.ceil(batch / count)
    blocks = [slice(start, min(start + rows, batch)) for start in range(0, batch, rows)]
    return blocks, shares(max(1, min(threads(), len(blocks))), len(blocks))
