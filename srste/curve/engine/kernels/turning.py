"""What happens where a unit flips: it turns, and so may units of the layers that read it.

Loops go over whole arrays, by (layer, row, unit) or in eights: a slice would cost as much as the loop,
whose length is the width of a layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srste.curve.engine.kernels.compiling import part
from srste.curve.engine.kernels.lanes import (
    LANES,
    Lanes,
    load,
    lower,
    lowest,
    lowest_bit,
    pick,
    splat,
    store,
)
from srste.curve.engine.kernels.positions import (
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
WORD = 32  # units, of which each has a bit in one integer

# Wider layers have jumps beyond the nearest cache, which are best read one unit's after the other's.
_WIDE = 64

# The columns of the table of links.
TARGET, AT, IS_SPARSE = 0, 1, 2


@part
def look(
    position: np.uint64,
    moving: Array,
    renewed: bool,
    flips: Positions,
    a: int,
    width: int,
    at: int,
    first: Lanes,
) -> tuple[np.uint64, Lanes]:
    """Which of as many units as a word has bits for are up at a position, and the next flips.

    renewed: whether where they flip is to be found first, from their (a, d). a, at: where the units
        begin in ``moving`` and in ``flips``. first: the lowest flips after the position so far.
    """
    word = np.uint64(0)
    for eight in range(0, WORD, LANES):
        if renewed:
            flip = positions_of_flips(load(moving, a + eight), load(moving, a + width + eight))
            store(flips, at + eight, flip)
        else:
            flip = load(flips, at + eight)
        first = lower(first, pick(flip > position, flip, splat(NEVER)))
        word |= bits_up_at(position, flip) << np.uint64(eight)
    return word, first


@part
def turn(
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
        word, first = look(position, moving, renewed, flips, a + begin, width, at + begin, first)
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
    """As `turn`, of those units alone whose (a, d) have changed, ``touched[layer, :touches]``.

    Returns: as `turn`; the position may be an earlier one than the next flip, where nothing turns then.
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
def _add_jumps(
    moving: Array,
    target: int,
    row: int,
    width: int,
    jumps: Array,
    at: int,
    turned: Index,
    ways: Array,
    count: int,
) -> None:
    """Updates the (a, d) of a layer after units of one that it reads by a dense link have turned."""
    to = (target * moving.shape[1] + row) * moving.shape[2]
    if width > _WIDE:
        for k in range(count):
            jump, way = at + turned[k] * 2 * width, splat(ways[k])
            for column in range(0, 2 * width, LANES):
                value = load(moving, to + column) + load(jumps, jump + column) * way
                store(moving, to + column, value)
        return
    for column in range(to, to + 2 * width, 2 * LANES):
        one, two = load(moving, column), load(moving, column + LANES)
        for k in range(count):
            jump, way = at + turned[k] * 2 * width + column - to, splat(ways[k])
            one = one + load(jumps, jump) * way
            two = two + load(jumps, jump + LANES) * way
        store(moving, column, one)
        store(moving, column + LANES, two)


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
    """Updates the (a, d) of all layers that read a layer of which ``count`` units have turned.

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
            _add_jumps(moving, target, row, width, jumps, at, turned, ways, count)


@part
def down_chain(
    position: np.uint64,
    moving: Array,
    flips: Positions,
    up: Positions,
    due: Positions,
    layer: int,
    row: int,
    turned: Index,
    ways: Array,
    count: int,
    widths: Index,
    links: Index,
    jumps: Array,
) -> bool:
    """Carries units that turn on to the layers after theirs, each of which reads the one before it, and
    nothing else, by a dense link. Returns: whether the outputs change."""
    last = len(widths) - 1
    while count > 0:
        _add_jumps(
            moving, layer + 1, row, widths[layer + 1], jumps, links[layer, AT], turned, ways, count
        )
        layer += 1
        if layer == last:
            return True
        count, due[layer, row] = turn(
            position, moving, True, flips, up, layer, row, widths[layer], turned, ways
        )
    return False


@part
def down(
    position: np.uint64,
    moving: Array,
    flips: Positions,
    up: Positions,
    due: Positions,
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
) -> bool:
    """As `down_chain`, of layers that read any others before them by links of any kind.

    touched, touches: as of `_carry`; room for it, and zeros.
    """
    last, room = len(widths) - 1, touched.shape[1]
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
            count, due[layer, row] = turn(
                position, moving, True, flips, up, layer, row, widths[layer], turned, ways
            )
        touches[layer] = 0
    is_reached: bool = touches[last] > 0
    touches[last] = 0
    return is_reached
