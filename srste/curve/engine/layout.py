"""The arrays of the kernels: their dtypes and order in memory, and the tuples that kernels hand on.

Each alias carries its Numba type, from which `srste.curve.engine.kernels.compiling.compiled` makes the
signature of a kernel.
"""

from typing import Annotated, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

Vector = Annotated[NDArray[np.float64], types.float64[::1]]
Matrix = Annotated[NDArray[np.float64], types.float64[:, ::1]]
Stack = Annotated[NDArray[np.float64], types.float64[:, :, ::1]]
IntVector = Annotated[NDArray[np.int64], types.int64[::1]]
IntMatrix = Annotated[NDArray[np.int64], types.int64[:, ::1]]
ShortVector = Annotated[NDArray[np.int32], types.int32[::1]]
BitVector = Annotated[NDArray[np.uint64], types.uint64[::1]]
BitMatrix = Annotated[NDArray[np.uint64], types.uint64[:, ::1]]
BitStack = Annotated[NDArray[np.uint64], types.uint64[:, :, ::1]]

WORD = 32
"""Units whose states are the bits of one integer."""


class LinkTable(NamedTuple):
    """All links of a network.

    outputs: the number of output units.
    widths: (layers,): units of each layer, padded with units that never flip to multiples of `WORD`,
        or of 8 for the outputs.
    first: (layers + 1,): the rows of ``outgoing`` that belong to each source layer.
    outgoing: (links, 3), ordered by source: the target layer, where the link begins in ``jumps`` or
        ``starts``, and whether it is sparse.
    jumps: of one dense link after the other, (units, 2 width of the target): what a unit adds to a and d
        of the target when it goes up.
    starts: of one sparse link after the other, (units + 1,): the first edge of each unit.
    ends, pairs: (edges,), (edges, 2): the unit that an edge adds to, and what it adds to its a and d.
    """

    outputs: int
    widths: IntVector
    first: IntVector
    outgoing: IntMatrix
    jumps: Vector
    starts: IntVector
    ends: IntVector
    pairs: Matrix


class Units(NamedTuple):
    """The units of a block of examples at one learning rate each.

    affine: (layers, rows, 2 widest): a, then d, of every pre-activation ``a - t d``.
    flips: (hidden layers, rows, widest): the position where a unit flips.
    up: (hidden layers, rows, words): a bit for every unit that is up.
    next_flip: (hidden layers, rows): the first flip to come.
    """

    affine: Stack
    flips: BitStack
    up: BitStack
    next_flip: BitMatrix


class Flipped(NamedTuple):
    """Units of one layer that have flipped. signs: +1 where a unit goes up, else -1. Both (widest,)."""

    units: IntVector
    signs: Vector


class Touched(NamedTuple):
    """Units whose (a, d) have changed since their layer was last looked at.

    units: (layers, room). counts: (layers,); a count above the room stands for the entire layer.
    """

    units: IntMatrix
    counts: IntVector


class Examples(NamedTuple):
    """What the outputs of a block are compared with.

    targets: (rows, out), or (rows, 1) classes. share: what one term counts in the mean. end: flips are
    followed up to this position, exclusive.
    """

    targets: Matrix
    share: float
    end: np.uint64


class Steps(NamedTuple):
    """Outputs of examples that are linear in t between events, for losses that are convex there.

    at_start: (batch, 2 out): a, then d, at t = 0. counts: (batch,): events of each example. outputs:
    (events, 1 + 2 out), example after example: a position, and the outputs from there on. targets:
    (batch, out), or (batch, 1) classes. classes: which of the two.
    """

    at_start: Matrix
    counts: IntVector
    outputs: Matrix
    targets: Matrix
    classes: bool

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Positions of the events."""
        keys: NDArray[np.uint64] = self.outputs.view(np.uint64)[:, 0]
        return keys
