"""What happens where a unit flips: it flips, and so may units of the layers that read it.

Loops go over entire arrays, by (layer, row, unit) or in eights: a slice would cost as much as the loop,
whose length is the width of a layer.
"""

from __future__ import annotations

import numpy as np

from srste.curve.engine.kernels.compiling import inlined
from srste.curve.engine.kernels.lanes import (
    LANES,
    Lanes,
    load,
    lowest_bit,
    minimum,
    pick,
    smallest_lane,
    splat,
    store,
)
from srste.curve.engine.kernels.positions import (
    NEVER,
    ONE,
    bits_up_at,
    position_of_flip,
    positions_of_flips,
    up_at,
)
from srste.curve.engine.layout import WORD, Flipped, LinkTable, Touched, Units

# Wider layers have jumps beyond the nearest cache, which are best read one unit's after the other's.
_WIDE = 64

# The columns of the table of links.
TARGET, AT, IS_SPARSE = 0, 1, 2


@inlined
def read_word(
    position: np.uint64,
    units: Units,
    moved: bool,
    layer: int,
    row: int,
    width: int,
    begin: int,
    first: Lanes,
) -> tuple[np.uint64, Lanes]:
    """Which of `WORD` units from ``begin`` on are up at a position, and the next flips.

    moved: whether their (a, d) have changed, and with them where they flip.
    first: the lowest flips after the position so far.
    """
    a = (layer * units.affine.shape[1] + row) * units.affine.shape[2] + begin
    at = (layer * units.flips.shape[1] + row) * units.flips.shape[2] + begin
    word = np.uint64(0)
    for eight in range(0, WORD, LANES):
        if moved:
            flip = positions_of_flips(
                load(units.affine, a + eight), load(units.affine, a + width + eight)
            )
            store(units.flips, at + eight, flip)
        else:
            flip = load(units.flips, at + eight)
        first = minimum(first, pick(flip > position, flip, splat(NEVER)))
        word |= bits_up_at(position, flip) << np.uint64(eight)
    return word, first


@inlined
def flip(
    position: np.uint64, units: Units, moved: bool, layer: int, row: int, width: int, flipped: Flipped
) -> int:
    """Bring the units of a layer to a position; ``moved`` as in `read_word`.

    Returns: how many flip, which ``flipped`` then lists.
    """
    first = splat(NEVER)
    count = 0
    for begin in range(0, width, WORD):
        word, first = read_word(position, units, moved, layer, row, width, begin, first)
        changed = word ^ units.up[layer, row, begin // WORD]
        units.up[layer, row, begin // WORD] = word
        while changed != 0:
            bit = lowest_bit(changed)
            changed &= changed - ONE
            flipped.units[count] = begin + bit
            flipped.signs[count] = 1.0 if word >> np.uint64(bit) & ONE else -1.0
            count += 1
    units.next_flip[layer, row] = smallest_lane(first)
    return count


@inlined
def _flip_touched(
    position: np.uint64,
    units: Units,
    layer: int,
    row: int,
    width: int,
    touched: Touched,
    flipped: Flipped,
) -> int:
    """As `flip`, of the touched units alone. ``next_flip`` may then be too early: none flips there."""
    count = 0
    first = units.next_flip[layer, row]
    for k in range(touched.counts[layer]):
        unit = touched.units[layer, k]
        at = position_of_flip(units.affine[layer, row, unit], units.affine[layer, row, width + unit])
        units.flips[layer, row, unit] = at
        first = min(first, at if at > position else NEVER)
        is_up = up_at(position, at)
        word, bit = unit // WORD, ONE << np.uint64(unit % WORD)
        if is_up != (units.up[layer, row, word] & bit != 0):  # false when a unit is listed again
            units.up[layer, row, word] ^= bit
            flipped.units[count] = unit
            flipped.signs[count] = 1.0 if is_up else -1.0
            count += 1
    units.next_flip[layer, row] = first
    return count


@inlined
def _add_jumps(
    units: Units, links: LinkTable, target: int, row: int, at: int, flipped: Flipped, count: int
) -> None:
    """Update the (a, d) of a layer after units of one that it reads by a dense link have flipped."""
    affine, jumps, width = units.affine, links.jumps, links.widths[target]
    to = (target * affine.shape[1] + row) * affine.shape[2]
    if width > _WIDE:
        for k in range(count):
            jump, sign = at + flipped.units[k] * 2 * width, splat(flipped.signs[k])
            for column in range(0, 2 * width, LANES):
                value = load(affine, to + column) + load(jumps, jump + column) * sign
                store(affine, to + column, value)
        return
    for column in range(to, to + 2 * width, 2 * LANES):
        one, two = load(affine, column), load(affine, column + LANES)
        for k in range(count):
            jump, sign = at + flipped.units[k] * 2 * width + column - to, splat(flipped.signs[k])
            one = one + load(jumps, jump) * sign
            two = two + load(jumps, jump + LANES) * sign
        store(affine, column, one)
        store(affine, column + LANES, two)


@inlined
def propagate_chain(
    position: np.uint64,
    units: Units,
    links: LinkTable,
    layer: int,
    row: int,
    flipped: Flipped,
    count: int,
) -> bool:
    """Carry ``count`` flips of a layer on to the layers after it, each of which reads the one before it,
    and nothing else, by a dense link. Returns: whether the outputs change."""
    last = len(links.widths) - 1
    while count > 0:
        _add_jumps(units, links, layer + 1, row, links.outgoing[layer, AT], flipped, count)
        layer += 1
        if layer == last:
            return True
        count = flip(position, units, True, layer, row, links.widths[layer], flipped)
    return False


@inlined
def _touch_readers(
    units: Units,
    links: LinkTable,
    layer: int,
    row: int,
    flipped: Flipped,
    count: int,
    touched: Touched,
) -> None:
    """Update the (a, d) of all layers that read a layer of which ``count`` units have flipped."""
    affine, room = units.affine, touched.units.shape[1]
    for link in range(links.first[layer], links.first[layer + 1]):
        target, at = links.outgoing[link, TARGET], links.outgoing[link, AT]
        width = links.widths[target]
        if links.outgoing[link, IS_SPARSE]:
            for k in range(count):
                sign = flipped.signs[k]
                first = at + flipped.units[k]
                for edge in range(links.starts[first], links.starts[first + 1]):
                    unit = links.ends[edge]
                    affine[target, row, unit] += sign * links.pairs[edge, 0]
                    affine[target, row, width + unit] += sign * links.pairs[edge, 1]
                    if touched.counts[target] < room:
                        touched.units[target, touched.counts[target]] = unit
                    touched.counts[target] += 1
        else:
            touched.counts[target] = room + 1
            _add_jumps(units, links, target, row, at, flipped, count)


@inlined
def propagate(
    position: np.uint64,
    units: Units,
    links: LinkTable,
    layer: int,
    row: int,
    flipped: Flipped,
    count: int,
    touched: Touched,
) -> bool:
    """As `propagate_chain`, for layers that read any others before them by links of any kind.

    touched: no units; it is left so.
    """
    last, room = len(links.widths) - 1, touched.units.shape[1]
    while True:
        if count > 0:
            _touch_readers(units, links, layer, row, flipped, count, touched)
            count = 0
        layer += 1
        while layer < last and touched.counts[layer] == 0:
            layer += 1
        if layer >= last:
            break
        width = links.widths[layer]
        if touched.counts[layer] <= room:
            count = _flip_touched(position, units, layer, row, width, touched, flipped)
        else:
            count = flip(position, units, True, layer, row, width, flipped)
        touched.counts[layer] = 0
    is_reached: bool = touched.counts[last] > 0
    touched.counts[last] = 0
    return is_reached
