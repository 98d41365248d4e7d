"""Examples followed through their flips, from t = 0 on, each flip carried through the network.

Loops over units index whole arrays by (layer, row, unit): a slice would cost as much as the loop, whose
length is the width of a layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srste.curve.kernels.compiling import compiled, part
from srste.curve.kernels.positions import (
    AT_REST,
    NEVER,
    ONE,
    Array,
    Positions,
    position_of_flip,
    sign_at,
)

Index = NDArray[np.int64]

# The columns of the table of links.
TARGET, AT, IS_SPARSE = 0, 1, 2


@compiled(
    "void(float64[:,:,::1], uint64[:,:,::1], float64[:,:,::1], uint64[:,::1], int64, int64, int64)"
)
def settle(
    moving: Array, flips: Positions, signs: Array, due: Positions, layer: int, rows: int, units: int
) -> None:
    """Fills in, for the first rows and units of a layer, what `follow` begins with.

    Args:
        moving: (layers, rows, 2 widest): a, then d, of every unit; is read.
        flips, signs: (hidden layers, rows, widest): where it flips, and its sign at t = 0.
        due: (hidden layers, rows): the first flip after t = 0.
    """
    for row in range(rows):
        first = NEVER
        for unit in range(units):
            flip = position_of_flip(moving[layer, row, unit], moving[layer, row, units + unit])
            flips[layer, row, unit] = flip
            signs[layer, row, unit] = sign_at(AT_REST, flip)
            first = min(first, flip if flip > AT_REST else NEVER)
        due[layer, row] = first


@part
def _turn(
    position: np.uint64,
    flips: Positions,
    signs: Array,
    layer: int,
    row: int,
    units: int,
    changed: Positions,
    turned: Index,
) -> tuple[int, np.uint64]:
    """Gives the units of a layer their signs at a position.

    Returns: how many changed, which ``turned`` then lists; and the position of the next flip.
    """
    first = NEVER
    residues = np.uint64(0)  # of the changed units' numbers, modulo 64: most often of few or none
    for unit in range(units):
        flip = flips[layer, row, unit]
        first = min(first, flip if flip > position else NEVER)
        sign = sign_at(position, flip)
        changed[unit] = np.uint64(sign != signs[layer, row, unit])
        residues |= changed[unit] << np.uint64(unit & 63)
        signs[layer, row, unit] = sign
    count = 0
    while residues != 0:
        others = residues & (residues - ONE)
        # The lowest bit: as a float, a power of two has its logarithm in the exponent.
        exponent = np.float64(residues ^ others).view(np.uint64) >> np.uint64(52)
        unit = int(exponent) - 1023
        while unit < units:
            turned[count] = unit
            count += int(changed[unit])
            unit += 64
        residues = others
    return count, first


@part
def _turn_touched(
    position: np.uint64,
    moving: Array,
    flips: Positions,
    signs: Array,
    layer: int,
    row: int,
    units: int,
    touched: Index,
    touches: int,
    first: np.uint64,
    turned: Index,
) -> tuple[int, np.uint64]:
    """As `_turn`, of those units alone whose (a, d) have changed, ``touched[layer, :touches]``.

    Returns: as `_turn`; the position may be an earlier one than the next flip, where nothing turns then.
    """
    count = 0
    for k in range(touches):
        unit = touched[layer, k]
        flip = position_of_flip(moving[layer, row, unit], moving[layer, row, units + unit])
        flips[layer, row, unit] = flip
        first = min(first, flip if flip > position else NEVER)
        sign = sign_at(position, flip)
        if sign != signs[layer, row, unit]:  # false when a unit is listed again
            signs[layer, row, unit] = sign
            turned[count] = unit
            count += 1
    return count, first


@part
def _carry(
    moving: Array,
    signs: Array,
    layer: int,
    row: int,
    turned: Index,
    count: int,
    units: Index,
    first: Index,
    links: Index,
    jumps: Array,
    starts: Index,
    ends: Index,
    pairs: Array,
    touched: Index,
    touches: Index,
) -> None:
    """Carries the (a, d) of all layers along that read a layer of which ``count`` units have turned.

    touches: (layers,): how many units of each ``touched`` lists; more than there is room for: all.
    """
    room = touched.shape[1]
    for link in range(first[layer], first[layer + 1]):
        target, at = links[link, TARGET], links[link, AT]
        n = units[target]
        if links[link, IS_SPARSE]:
            for k in range(count):
                sign = signs[layer, row, turned[k]]
                for edge in range(starts[at + turned[k]], starts[at + turned[k] + 1]):
                    unit = ends[edge]
                    moving[target, row, unit] += sign * pairs[edge, 0]
                    moving[target, row, n + unit] += sign * pairs[edge, 1]
                    if touches[target] < room:
                        touched[target, touches[target]] = unit
                    touches[target] += 1
        else:
            touches[target] = room + 1
            for k in range(count):
                sign = signs[layer, row, turned[k]]
                source = at + turned[k]
                for column in range(2 * n):
                    moving[target, row, column] += sign * jumps[source, column]


@part
def _squared_error(
    moving: Array, targets: Array, layer: int, row: int, share: float
) -> tuple[float, float, float]:
    """The coefficients of 1, t, t^2 in ``share * |a - t d - target|^2``."""
    c0 = c1 = c2 = 0.0
    outputs = targets.shape[1]
    for k in range(outputs):
        residual = moving[layer, row, k] - targets[row, k]
        slope = moving[layer, row, outputs + k]
        c0 += residual * residual
        c1 += residual * slope
        c2 += slope * slope
    return share * c0, -2 * share * c1, share * c2


@compiled(
    "Tuple((int64, float64[:,::1]))("
    "int64[::1], int64[::1], int64[:,::1], float64[:,::1], int64[::1], int64[::1], float64[:,::1],"
    "float64[:,:,::1], uint64[:,:,::1], float64[:,:,::1], uint64[:,::1], float64[:,::1], float64,"
    "uint64, boolean, float64[:,::1], int64[::1], int64, float64[:,::1])"
)
def follow(
    units: Index,
    first: Index,
    links: Index,
    jumps: Array,
    starts: Index,
    ends: Index,
    pairs: Array,
    moving: Array,
    flips: Positions,
    signs: Array,
    due: Positions,
    targets: Array,
    share: float,
    end: np.uint64,
    squared: bool,
    at_rest: Array,
    counts: Index,
    found: int,
    events: Array,
) -> tuple[int, Array]:
    """Follows every example of a block from t = 0 on, from one flip to the next.

    A unit that flips changes the (a, d) of the layers that read it; those of their units that then have
    another sign change the layers after them, and so on until no sign changes.

    Args:
        units: (layers,): units of each layer; the last one's are the outputs.
        first, links, jumps, starts, ends, pairs: as in `srste.curve.links.Links`.
        moving, flips, signs, due: as `settle` leaves them, with rows to spare or not; overwritten.
        targets: (rows, out); of squared errors alone. share: what a squared residual counts in the mean.
        end: flips are followed up to this position, exclusive.
        squared: whether an event is what it adds to the squared error, or the outputs after it.
        at_rest: (rows, 3) or (rows, 2 out), is filled: the coefficients of each example's loss at
            t = 0, or its outputs (a, then d).
        counts: (rows,), is filled: how many events each example has.
        found, events: those of the blocks before, see Returns; there may be room for more.
    Returns:
        F, the number of events; and (F, 1 + 3) or (F, 1 + 2 out), the position of each as the bits of a
        float and then what ``at_rest`` holds too: increments of the coefficients, or outputs. In order
        of examples, and of position within each. The array is the one that was given, or a larger one.
    """
    last = len(units) - 1
    outputs = units[last]
    c0 = c1 = c2 = 0.0
    keys = events.view(np.uint64)
    changed = np.empty(units.max(), np.uint64)
    turned = np.empty(units.max() + 1, np.int64)
    # Where more than a quarter of the units are touched, all of them at once are quicker.
    touched = np.empty((last + 1, max(16, units.max() // 4)), np.int64)
    touches = np.zeros(last + 1, np.int64)
    room = touched.shape[1]

    for row in range(len(targets)):
        before = found
        if squared:
            c0, c1, c2 = _squared_error(moving, targets, last, row, share)
            at_rest[row, 0], at_rest[row, 1], at_rest[row, 2] = c0, c1, c2
        else:
            for k in range(2 * outputs):
                at_rest[row, k] = moving[last, row, k]
        while True:
            position, layer = end, 0
            for hidden in range(last):  # Of several at once the lowest: it may change the others' plans.
                if due[hidden, row] < position:
                    position, layer = due[hidden, row], hidden
            if position == end:
                break

            count, due[layer, row] = _turn(
                position, flips, signs, layer, row, units[layer], changed, turned
            )
            while True:
                if count > 0:
                    _carry(
                        moving, signs, layer, row, turned, count,
                        units, first, links, jumps, starts, ends, pairs, touched, touches,
                    )  # fmt: skip
                    count = 0
                layer += 1
                while layer < last and touches[layer] == 0:
                    layer += 1
                if layer >= last:
                    break
                n = units[layer]
                if touches[layer] <= room:
                    count, due[layer, row] = _turn_touched(
                        position, moving, flips, signs, layer, row, n,
                        touched, touches[layer], due[layer, row], turned,
                    )  # fmt: skip
                else:
                    for unit in range(n):
                        a, d = moving[layer, row, unit], moving[layer, row, n + unit]
                        flips[layer, row, unit] = position_of_flip(a, d)
                    count, due[layer, row] = _turn(
                        position, flips, signs, layer, row, n, changed, turned
                    )
                touches[layer] = 0
            if touches[last] == 0:
                continue
            touches[last] = 0

            if found == len(events):
                larger = np.empty((max(1024, 2 * found), events.shape[1]))
                larger[:found] = events
                events = larger
                keys = events.view(np.uint64)
            keys[found, 0] = position
            if squared:
                b0, b1, b2 = c0, c1, c2
                c0, c1, c2 = _squared_error(moving, targets, last, row, share)
                events[found, 1], events[found, 2], events[found, 3] = c0 - b0, c1 - b1, c2 - b2
            else:
                for k in range(2 * outputs):
                    events[found, 1 + k] = moving[last, row, k]
            found += 1
        counts[row] = found - before
    return found, events


@compiled("void(float64[:,::1], int64[::1], int64[::1], float64[:,::1], float64[:,::1])")
def spread(values: Array, starts: Index, ends: Index, pairs: Array, moving: Array) -> None:
    """Adds what the units of a layer give to the (a, d) of another one that they link to, see `Sparse`.

    Args: values: (n, rows) of the units. moving: (2 units, rows), a, then d. In the other way round from
        elsewhere, so that the loop over rows is over neighbours.
    """
    units, rows = len(moving) // 2, moving.shape[1]
    for source in range(len(values)):
        given = values[source]
        for edge in range(starts[source], starts[source + 1]):
            to_a, to_d = moving[ends[edge]], moving[units + ends[edge]]
            a, d = pairs[edge, 0], pairs[edge, 1]
            for row in range(rows):
                to_a[row] += given[row] * a
                to_d[row] += given[row] * d
