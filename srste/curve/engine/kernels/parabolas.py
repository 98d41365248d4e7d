"""Losses that are convex between events, nearly: parabolas whose distance from them is bounded.

A step is cut into parts, on each of which an example's loss is replaced by its Taylor parabola in the
middle. Their sum is piecewise quadratic, with events as in `srste.curve.engine.kernels.piecewise`.
"""

from __future__ import annotations

import math

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, grown, inlined
from srste.curve.engine.kernels.convex_losses import loss_of, spread_of
from srste.curve.engine.kernels.piecewise import add, dip_of
from srste.curve.engine.kernels.positions import SMALLEST, START, first_float, position_of, real_number
from srste.curve.engine.layout import BitMatrix, BitVector, IntVector, Matrix, Steps, Vector

_MOST_PARTS = 1000.0  # of a step within a range; wider ones are further off, and the bound says so
_FAR = 500.0  # a second derivative may be too small for a float where it grows by exp of more
_ROUNDING = 4 * 2.0**-52  # of a parabola's terms


@inlined
def _parts(spread: float, length: float, width: float) -> int:
    """Into how many a step of that length is cut."""
    return int(max(1.0, min(np.ceil(spread * length / width), _MOST_PARTS)))


@inlined
def _stretch(
    keys: BitMatrix, place: int, count: int, step: int, begin: float, end: float
) -> tuple[float, float]:
    """(lo, hi): what lies in [begin, end] of a step, -1 being the first; lo > hi if nothing does.

    place, count: where an example's events begin in ``keys``, and how many there are.
    """
    lo, hi = 0.0, end
    if step >= 0:
        lo = real_number(keys[place + step, 0])
    if step + 1 < count:
        hi = min(end, real_number(keys[place + step + 1, 0]))
    return max(lo, begin), hi


@compiled
def parts_by_cell(steps: Steps, width: float, begin: float, end: float, cells: int) -> IntVector:
    """How many parts of all steps between ``begin`` and ``end`` start in each of so many equal cells of
    that range; parts that are valid at ``begin`` already do not count."""
    keys = steps.outputs.view(np.uint64)
    starts, place = np.zeros(cells, np.int64), 0
    scale = cells / (end - begin) if end > begin else 0.0
    for example in range(len(steps.counts)):
        for step in range(-1, steps.counts[example]):
            lo, hi = _stretch(keys, place, steps.counts[example], step, begin, end)
            if lo > end:
                break
            if hi < lo:
                continue
            if step < 0:
                spread = spread_of(steps, steps.at_start[example], 0)
            else:
                spread = spread_of(steps, steps.outputs[place + step], 1)
            parts = _parts(spread, hi - lo, width)
            for k in range(0 if lo > begin else 1, parts):
                cell = (lo + (hi - lo) * k / parts - begin) * scale
                starts[min(int(cell), cells - 1)] += 1
        place += steps.counts[example]
    return starts


@compiled
def parabolas(
    steps: Steps, share: float, width: float, begin: float, end: float
) -> tuple[int, Matrix, float]:
    """Every step of every example from ``begin`` to ``end`` cut into parts over which its arguments move
    by at most ``width``, and the loss on each replaced by its Taylor parabola.

    Returns: how many events there are; the events, the first of them all that holds at the beginning; a
    bound on how far their sum is from that of the losses. Third derivatives are at most
    spread^3 / (6 sqrt 3), and at most the spread times the second, which grows at most by
    exp(spread t) over a length t; slopes differ by the spread at most. Terms are rounded, and stay so
    up to the end.
    """
    keys = steps.outputs.view(np.uint64)
    events = np.empty((1024, 4))
    event_keys = events.view(np.uint64)
    beginning = position_of(begin)
    rest0 = rest1 = rest2 = lost0 = lost1 = lost2 = 0.0
    count, place, error = 1, 0, 0.0
    for example in range(len(steps.counts)):
        b0 = b1 = b2 = 0.0
        worst = 0.0
        for step in range(-1, steps.counts[example]):
            lo, hi = _stretch(keys, place, steps.counts[example], step, begin, end)
            if lo > end:
                break
            if hi < lo:
                continue
            first = 0 if step < 0 else 1
            row = steps.at_start[example] if step < 0 else steps.outputs[place + step]
            start = START if step < 0 else keys[place + step, 0]
            spread = spread_of(steps, row, first)
            parts = _parts(spread, hi - lo, width)
            if count + parts > len(events):
                events = grown(events, count, count + parts)
                event_keys = events.view(np.uint64)
            half = 0.5 * (hi - lo) / parts
            change = spread * half
            most = min(change, change * change * change / (36 * math.sqrt(3.0)))
            for k in range(parts):
                left, right = lo + (hi - lo) * k / parts, lo + (hi - lo) * (k + 1) / parts
                middle = 0.5 * (left + right)
                f, f1, f2 = loss_of(steps, row, first, example, middle)
                off = most
                if f2 * half * half > 2 * change:
                    f2, off = 0.0, change  # a tangent is nearer
                elif change < _FAR:
                    off = min(most, f2 * half * half * change * math.exp(change) / 6)
                worst = max(worst, off)
                c2 = 0.5 * f2
                c1 = f1 - f2 * middle
                c0 = f - f1 * middle + 0.5 * f2 * middle * middle
                at = start if k == 0 else position_of(left)
                if at <= beginning:
                    rest0, lost0 = add(rest0, lost0, c0 - b0)
                    rest1, lost1 = add(rest1, lost1, c1 - b1)
                    rest2, lost2 = add(rest2, lost2, c2 - b2)
                else:
                    event_keys[count, 0] = at
                    events[count, 1] = share * (c0 - b0)
                    events[count, 2] = share * (c1 - b1)
                    events[count, 3] = share * (c2 - b2)
                    count += 1
                error += share * _ROUNDING * (f + (abs(f1) + f2 * end) * end + change * change)
                b0, b1, b2 = c0, c1, c2
        error += share * worst
        place += steps.counts[example]
    event_keys[0, 0] = beginning
    events[0, 1] = share * (rest0 + lost0)
    events[0, 2] = share * (rest1 + lost1)
    events[0, 3] = share * (rest2 + lost2)
    return count, events, error


@compiled
def bound(
    table: Matrix,
    end: float,
    error: float,
    keys: BitVector,
    piece: int,
    low: Vector,
    up: Vector,
    high: Vector,
    dip: Vector,
) -> None:
    """Bound the loss on the pieces that a table of parabolas (P, 4), added up, covers, up to ``end``.

    Args:
        table: as it comes from `srste.curve.engine.kernels.piecewise.add_up`.
        error: no loss is further from the parabolas.
        keys: (R,) where pieces begin. piece: one that is not after the first of the parabolas.
        low, up, high, dip: (R,): no loss on a piece is below ``low``, its lowest not above ``up``, none
            above ``high``, and the parabolas are lowest at ``dip``. Where a piece is in the table these
            come to include it; infinite at first, and inside out. Losses are not below 0.
    """
    table_keys = table.view(np.uint64)
    last = len(table) - 1
    for row in range(len(table)):
        lo = max(first_float(table_keys[row, 0]), SMALLEST)
        hi = np.nextafter(first_float(table_keys[row + 1, 0]), -np.inf) if row < last else end
        if hi < lo:
            continue  # no float in it
        while piece + 1 < len(keys) and keys[piece + 1] <= table_keys[row, 0]:
            piece += 1
        c0, c1, c2 = table[row, 1], table[row, 2], table[row, 3]
        at = dip_of(c1, c2, lo, hi)
        least = (c2 * at + c1) * at + c0
        most = max((c2 * lo + c1) * lo + c0, (c2 * hi + c1) * hi + c0)
        if math.isnan(
            least + most + error
        ):  # of numbers so large that they, and sums with them, tell nothing
            least, most, error = 0.0, 0.0, np.inf
        if max(least - error, 0.0) < low[piece]:
            low[piece], up[piece], dip[piece] = max(least - error, 0.0), max(least + error, 0.0), at
        high[piece] = max(high[piece], most + error)
