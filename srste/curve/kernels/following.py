"""Examples followed through their flips, from t = 0 on, each flip carried through the network.

Loops go over whole arrays, by (layer, row, unit) or in eights: a slice would cost as much as the loop,
whose length is the width of a layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srste.curve.kernels.compiling import compiled, part
from srste.curve.kernels.lanes import LANES, load, lower, lowest, lowest_bit, pick, splat, store
from srste.curve.kernels.positions import (
    AT_REST,
    NEVER,
    ONE,
    Array,
    Positions,
    bits_up_at,
    position_of_flip,
    positions_of_flips,
    up_at,
)

Index = NDArray[np.int64]
WORD = 64  # units, of which each has a bit in one integer

# The columns of the table of links.
TARGET, AT, IS_SPARSE = 0, 1, 2


@compiled("void(float64[:,:,::1], uint64[:,:,::1], uint64[:,:,::1], uint64[:,::1], int64, int64, int64)")
def settle(
    moving: Array, flips: Positions, up: Positions, due: Positions, layer: int, rows: int, width: int
) -> None:
    """Fills in, for the first rows of a layer, what `follow` begins with.

    Args:
        moving: (layers, rows, 2 widest): a, then d, of every unit; is read.
        flips: (hidden layers, rows, widest): where it flips. up: (hidden layers, rows, words): a bit for
            every unit that is up at t = 0.
        due: (hidden layers, rows): the first flip after t = 0.
        width: of the layer, a multiple of 8.
    """
    for row in range(rows):
        a = (layer * moving.shape[1] + row) * moving.shape[2]
        at = (layer * flips.shape[1] + row) * flips.shape[2]
        first = splat(NEVER)
        for begin in range(0, width, WORD):
            word = np.uint64(0)
            for unit in range(begin, min(begin + WORD, width), LANES):
                flip = positions_of_flips(load(moving, a + unit), load(moving, a + width + unit))
                store(flips, at + unit, flip)
                first = lower(first, pick(flip > AT_REST, flip, splat(NEVER)))
                word |= bits_up_at(AT_REST, flip) << np.uint64(unit - begin)
            up[layer, row, begin // WORD] = word
        due[layer, row] = lowest(first)


@part
def _turn(
    position: np.uint64,
    moving: Array,
    renewed: bool,
    flips: Positions,
    up: Positions,
    layer: int,
    row: int,
    width: int,
    turned: Index,
    ways: Array,
) -> tuple[int, np.uint64]:
    """Has the units of a layer as they are at a position.

    renewed: whether their (a, d) have changed, and with them where they flip.
    Returns: how many turn, which ``turned`` then lists, and ``ways`` +1 if it goes up, else -1; and the
    position of the next flip.
    """
    a = (layer * moving.shape[1] + row) * moving.shape[2]
    at = (layer * flips.shape[1] + row) * flips.shape[2]
    first = splat(NEVER)
    count = 0
    for begin in range(0, width, WORD):
        word = np.uint64(0)
        for unit in range(begin, min(begin + WORD, width), LANES):
            if renewed:
                flip = positions_of_flips(load(moving, a + unit), load(moving, a + width + unit))
                store(flips, at + unit, flip)
            else:
                flip = load(flips, at + unit)
            first = lower(first, pick(flip > position, flip, splat(NEVER)))
            word |= bits_up_at(position, flip) << np.uint64(unit - begin)
        changed = word ^ up[layer, row, begin // WORD]
        up[layer, row, begin // WORD] = word
        while changed != 0:
            bit = lowest_bit(changed)
            changed &= changed - ONE
            turned[count] = begin + bit
            ways[count] = 1.0 if word >> np.uint64(bit) & ONE else -1.0
            count += 1
    return count, lowest(first)


@part
def _turn_touched(
    position: np.uint64,
    moving: Array,
    flips: Positions,
    up: Positions,
    layer: int,
    row: int,
    width: int,
    touched: Index,
    touches: int,
    first: np.uint64,
    turned: Index,
    ways: Array,
) -> tuple[int, np.uint64]:
    """As `_turn`, of those units alone whose (a, d) have changed, ``touched[layer, :touches]``.

    Returns: as `_turn`; the position may be an earlier one than the next flip, where nothing turns then.
    """
    count = 0
    for k in range(touches):
        unit = touched[layer, k]
        flip = position_of_flip(moving[layer, row, unit], moving[layer, row, width + unit])
        flips[layer, row, unit] = flip
        first = min(first, flip if flip > position else NEVER)
        is_up = up_at(position, flip)
        word, bit = unit // WORD, ONE << np.uint64(unit % WORD)
        if is_up != (up[layer, row, word] & bit != 0):  # false when a unit is listed again
            up[layer, row, word] ^= bit
            turned[count] = unit
            ways[count] = 1.0 if is_up else -1.0
            count += 1
    return count, first


@part
def _carry(
    moving: Array,
    layer: int,
    row: int,
    turned: Index,
    ways: Array,
    count: int,
    widths: Index,
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
        width = widths[target]
        if links[link, IS_SPARSE]:
            for k in range(count):
                for edge in range(starts[at + turned[k]], starts[at + turned[k] + 1]):
                    unit = ends[edge]
                    moving[target, row, unit] += ways[k] * pairs[edge, 0]
                    moving[target, row, width + unit] += ways[k] * pairs[edge, 1]
                    if touches[target] < room:
                        touched[target, touches[target]] = unit
                    touches[target] += 1
        else:
            touches[target] = room + 1
            to = (target * moving.shape[1] + row) * moving.shape[2]
            for column in range(0, 2 * width, LANES):
                total = load(moving, to + column)
                for k in range(count):
                    jump = load(jumps, at + turned[k] * 2 * width + column)
                    total = total + jump * ways[k]
                store(moving, to + column, total)


@part
def _squared_error(
    moving: Array, width: int, targets: Array, layer: int, row: int, share: float
) -> tuple[float, float, float]:
    """The coefficients of 1, t, t^2 in ``share * |a - t d - target|^2``."""
    c0 = c1 = c2 = 0.0
    for k in range(targets.shape[1]):
        residual = moving[layer, row, k] - targets[row, k]
        slope = moving[layer, row, width + k]
        c0 += residual * residual
        c1 += residual * slope
        c2 += slope * slope
    return share * c0, -2 * share * c1, share * c2


@part
def _write_outputs(
    moving: Array, width: int, layer: int, row: int, into: Array, at: int, outputs: int
) -> None:
    """Puts an example's outputs, a and then d, into the last columns of a row of ``into``."""
    begin = into.shape[1] - 2 * outputs
    for k in range(outputs):
        into[at, begin + k] = moving[layer, row, k]
        into[at, begin + outputs + k] = moving[layer, row, width + k]


@compiled(
    "Tuple((int64, float64[:,::1]))("
    "int64, int64[::1], int64[::1], int64[:,::1], float64[::1], int64[::1], int64[::1], float64[:,::1],"
    "float64[:,:,::1], uint64[:,:,::1], uint64[:,:,::1], uint64[:,::1], float64[:,::1], float64,"
    "uint64, boolean, float64[:,::1], int64[::1], int64, float64[:,::1])"
)
def follow(
    outputs: int,
    widths: Index,
    first: Index,
    links: Index,
    jumps: Array,
    starts: Index,
    ends: Index,
    pairs: Array,
    moving: Array,
    flips: Positions,
    up: Positions,
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
        outputs: units of the last layer.
        widths, first, links, jumps, starts, ends, pairs: as in `srste.curve.links.Links`.
        moving, flips, up, due: as `settle` leaves them, with rows to spare or not; overwritten.
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
    last = len(widths) - 1
    c0 = c1 = c2 = 0.0
    keys = events.view(np.uint64)
    turned, ways = np.empty(widths.max(), np.int64), np.empty(widths.max())
    # Where more than a quarter of the units are touched, all of them at once are quicker.
    touched = np.empty((last + 1, max(16, widths.max() // 4)), np.int64)
    touches = np.zeros(last + 1, np.int64)
    room = touched.shape[1]

    for row in range(len(targets)):
        before = found
        if squared:
            c0, c1, c2 = _squared_error(moving, widths[last], targets, last, row, share)
            at_rest[row, 0], at_rest[row, 1], at_rest[row, 2] = c0, c1, c2
        else:
            _write_outputs(moving, widths[last], last, row, at_rest, row, outputs)
        while True:
            position, layer = end, 0
            for hidden in range(last):  # Of several at once the lowest: it may change the others' plans.
                if due[hidden, row] < position:
                    position, layer = due[hidden, row], hidden
            if position == end:
                break

            count, due[layer, row] = _turn(
                position, moving, False, flips, up, layer, row, widths[layer], turned, ways
            )
            while True:
                if count > 0:
                    _carry(
                        moving, layer, row, turned, ways, count,
                        widths, first, links, jumps, starts, ends, pairs, touched, touches,
                    )  # fmt: skip
                    count = 0
                layer += 1
                while layer < last and touches[layer] == 0:
                    layer += 1
                if layer >= last:
                    break
                if touches[layer] <= room:
                    count, due[layer, row] = _turn_touched(
                        position, moving, flips, up, layer, row, widths[layer],
                        touched, touches[layer], due[layer, row], turned, ways,
                    )  # fmt: skip
                else:
                    count, due[layer, row] = _turn(
                        position, moving, True, flips, up, layer, row, widths[layer], turned, ways
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
                c0, c1, c2 = _squared_error(moving, widths[last], targets, last, row, share)
                events[found, 1], events[found, 2], events[found, 3] = c0 - b0, c1 - b1, c2 - b2
            else:
                _write_outputs(moving, widths[last], last, row, events, found, outputs)
            found += 1
        counts[row] = found - before
    return found, events
