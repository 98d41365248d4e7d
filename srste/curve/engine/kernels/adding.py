"""What binary units that are up add to the (a, d) of other layers, for all examples of a block."""

from __future__ import annotations

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, inlined
from srste.curve.engine.kernels.lanes import LANES, load, splat, store
from srste.curve.engine.kernels.positions import ONE
from srste.curve.engine.layout import WORD, BitStack, IntVector, Matrix, Stack, Vector

_GROUP = 4  # units in a group; there is a sum for each of their 16 subsets
_GROUPS = WORD // _GROUP  # 8 groups, of one word of units
SUMS = _GROUPS * 2**_GROUP  # 128 sums per column
COLUMNS = 32  # columns per pass: their 128 x 32 sums stay in a core's nearest cache


@inlined
def _make_sums(
    jumps: Vector, at: int, step: int, begin: int, units: int, columns: int, table: Vector
) -> None:
    """Fills in (groups, 16, columns) of ``table``: the sums over all subsets of each four units from
    ``begin`` on, one of the four for each bit; units that there are not add nothing."""
    for group in range(_GROUPS):
        none = group * 2**_GROUP * columns
        for column in range(0, columns, LANES):
            store(table, none + column, splat(0.0))
        for k in range(_GROUP):
            unit = begin + group * _GROUP + k
            for subset in range(2**k):
                without, including = none + subset * columns, none + (2**k + subset) * columns
                for column in range(0, columns, LANES):
                    total = load(table, without + column)
                    if unit < units:
                        total = total + load(jumps, at + unit * step + column)
                    store(table, including + column, total)


@compiled
def add_dense(
    up: BitStack,
    source: int,
    n_units: int,
    jumps: Vector,
    at: int,
    affine: Stack,
    target: int,
    rows: int,
    start: Matrix,
    fresh: bool,
    sums: Vector,
) -> None:
    """Add to a layer's (a, d) what the units of another give by a dense link.

    The sums over all subsets of four units are made once, and then each example takes one of them for
    every four units: a product with binary numbers in a quarter of the additions and without a
    multiplication.

    Args:
        up, affine: of `Units`. jumps: of a `LinkTable`.
        source, n_units: the layer that the link comes from, and how many units it has.
        at: where the (n_units, 2 width) of the link begin in ``jumps``.
        target: the layer whose ``affine`` is filled in, for the first rows.
        start: (1 or rows, 2 width): what is added to. fresh: otherwise to what ``affine`` holds.
        sums: (`SUMS` min(2 width, `COLUMNS`),) or more, for the sums.

    References:
        Arlazarov, Dinic, Kronrod and Faradzev, 1970, "On economical construction of the transitive
        closure of an oriented graph".
    """
    n_columns = start.shape[1]
    step = n_columns if len(start) > 1 else 0
    for left in range(0, n_columns, COLUMNS):
        columns = min(COLUMNS, n_columns - left)
        for begin in range(0, n_units, WORD):
            _make_sums(jumps, at + left, n_columns, begin, n_units, columns, sums)
            size = 2**_GROUP * columns
            for row in range(rows):
                word = up[source, row, begin // WORD]
                g0 = np.intp(word & 15) * columns
                g1 = np.intp(word >> 4 & 15) * columns + size
                g2 = np.intp(word >> 8 & 15) * columns + 2 * size
                g3 = np.intp(word >> 12 & 15) * columns + 3 * size
                g4 = np.intp(word >> 16 & 15) * columns + 4 * size
                g5 = np.intp(word >> 20 & 15) * columns + 5 * size
                g6 = np.intp(word >> 24 & 15) * columns + 6 * size
                g7 = np.intp(word >> 28 & 15) * columns + 7 * size
                to = (target * affine.shape[1] + row) * affine.shape[2] + left
                for column in range(0, columns, LANES):
                    if fresh and begin == 0:
                        total = load(start, row * step + left + column)
                    else:
                        total = load(affine, to + column)
                    one = load(sums, g0 + column) + load(sums, g1 + column)
                    two = load(sums, g2 + column) + load(sums, g3 + column)
                    three = load(sums, g4 + column) + load(sums, g5 + column)
                    four = load(sums, g6 + column) + load(sums, g7 + column)
                    store(affine, to + column, total + ((one + two) + (three + four)))


@compiled
def add_sparse(
    up: BitStack,
    source: int,
    n_units: int,
    starts: IntVector,
    ends: IntVector,
    pairs: Matrix,
    at: int,
    total: Matrix,
) -> None:
    """Add what the units of a layer give to another by a sparse link.

    Args:
        up, source, n_units: as in `add_dense`. starts, ends, pairs: of a `LinkTable`.
        at: where the link begins in ``starts``.
        total: (2 width, rows), is added to. Transposed, unlike elsewhere, so that the loop over rows is
            over neighbours.
    """
    width, rows = len(total) // 2, total.shape[1]
    is_up = np.empty(rows)
    for unit in range(n_units):
        for row in range(rows):
            word = up[source, row, unit // WORD]
            is_up[row] = np.float64(word >> np.uint64(unit % WORD) & ONE)
        for edge in range(starts[at + unit], starts[at + unit + 1]):
            to_a, to_d = total[ends[edge]], total[width + ends[edge]]
            a, d = pairs[edge, 0], pairs[edge, 1]
            for row in range(rows):
                to_a[row] += is_up[row] * a
                to_d[row] += is_up[row] * d
