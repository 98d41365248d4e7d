"""Losses that are convex between events, nearly: parabolas whose distance from them is bounded.

A step is cut into parts, on each of which an example's loss is replaced by its Taylor parabola in the
middle. Their sum is piecewise quadratic, with events as in `srste.curve.engine.kernels.piecewise`.
"""

from __future__ import annotations

import math

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, part
from srste.curve.engine.kernels.convex_losses import STEPS, loss_of, spread_of
from srste.curve.engine.kernels.piecewise import add
from srste.curve.engine.kernels.positions import AT_REST, ONE, Array, Positions, first_float, position_of
from srste.curve.engine.kernels.turning import Index

_MOST_PARTS = 1000.0  # of a step within a range; wider ones are further off, and the bound says so
_TINY = np.nextafter(0.0, 1.0)
_FAR = 500.0  # a second derivative may be too small for a float where it grows by exp of more
_ROUNDING = 4 * 2.0**-52  # of a parabola's terms


@part
def _parts(spread: float, length: float, width: float) -> int:
    """Into how many a step of that length is cut."""
    return int(max(1.0, min(np.ceil(spread * length / width), _MOST_PARTS)))


@part
def _stretch(
    keys: Positions, here: int, count: int, step: int, begin: float, end: float
) -> tuple[float, float]:
    """(lo, hi): what lies in [begin, end] of a step, -1 being the first; lo > hi if nothing does."""
    lo, hi = 0.0, end
    if step >= 0:
        lo = np.uint64(keys[here + step, 0] >> ONE).view(np.float64)
    if step + 1 < count:
        hi = min(end, np.uint64(keys[here + step + 1, 0] >> ONE).view(np.float64))
    return max(lo, begin), hi


@compiled(f"int64[::1]({STEPS}, float64, float64, float64, int64)")
def parts_by_cell(
    at_rest: Array,
    counts: Index,
    outputs: Array,
    targets: Array,
    classes: bool,
    width: float,
    begin: float,
    end: float,
    cells: int,
) -> Index:
    """How many parts of all steps between ``begin`` and ``end`` start in each of so many equal cells of
    that range, those aside that hold at its beginning."""
    keys = outputs.view(np.uint64)
    units = at_rest.shape[1] // 2
    found, here = np.zeros(cells, np.int64), 0
    scale = cells / (end - begin) if end > begin else 0.0
    for example in range(len(counts)):
        for step in range(-1, counts[example]):
            lo, hi = _stretch(keys, here, counts[example], step, begin, end)
            if lo > end:
                break
            if hi < lo:
                continue
            if step < 0:
                spread = spread_of(at_rest[example], 0, targets, example, units, classes)
            else:
                spread = spread_of(outputs[here + step], 1, targets, example, units, classes)
            parts = _parts(spread, hi - lo, width)
            for k in range(0 if lo > begin else 1, parts):
                cell = (lo + (hi - lo) * k / parts - begin) * scale
                found[min(int(cell), cells - 1)] += 1
        here += counts[example]
    return found


@compiled(f"Tuple((int64, float64[:,::1], float64))({STEPS}, float64, float64, float64, float64)")
def parabolas(
    at_rest: Array,
    counts: Index,
    outputs: Array,
    targets: Array,
    classes: bool,
    share: float,
    width: float,
    begin: float,
    end: float,
) -> tuple[int, Array, float]:
    """Every step of every example from ``begin`` to ``end`` cut into parts over which its arguments move
    by at most ``width``, and the loss on each replaced by its Taylor parabola.

    Returns: how many events there are; the events, the first of them all that holds at the beginning; a
    bound on how far their sum is from that of the losses. Third derivatives are at most
    spread^3 / (6 sqrt 3), and at most the spread times the second, which grows at most by
    exp(spread t) over a length t; slopes differ by the spread at most. Terms are rounded, and stay so
    up to the end.
    """
    keys = outputs.view(np.uint64)
    units = at_rest.shape[1] // 2
    events = np.empty((1024, 4))
    own = events.view(np.uint64)
    beginning = position_of(begin)
    rest0 = rest1 = rest2 = lost0 = lost1 = lost2 = 0.0
    found, here, error = 1, 0, 0.0
    for example in range(len(counts)):
        b0 = b1 = b2 = 0.0
        worst = 0.0
        for step in range(-1, counts[example]):
            lo, hi = _stretch(keys, here, counts[example], step, begin, end)
            if lo > end:
                break
            if hi < lo:
                continue
            first = 0 if step < 0 else 1
            row = at_rest[example] if step < 0 else outputs[here + step]
            start = AT_REST if step < 0 else keys[here + step, 0]
            spread = spread_of(row, first, targets, example, units, classes)
            parts = _parts(spread, hi - lo, width)
            while found + parts > len(events):
                larger = np.empty((2 * len(events), 4))
                larger[:found] = events[:found]
                events = larger
                own = events.view(np.uint64)
            half = 0.5 * (hi - lo) / parts
            reach = spread * half
            most = min(reach, reach * reach * reach / (36 * math.sqrt(3.0)))
            for k in range(parts):
                left, right = lo + (hi - lo) * k / parts, lo + (hi - lo) * (k + 1) / parts
                middle = 0.5 * (left + right)
                f, f1, f2 = loss_of(row, first, targets, example, units, classes, middle)
                off = most
                if f2 * half * half > 2 * reach:
                    f2, off = 0.0, reach  # a tangent is nearer
                elif reach < _FAR:
                    off = min(most, f2 * half * half * reach * math.exp(reach) / 6)
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
                    own[found, 0] = at
                    events[found, 1] = share * (c0 - b0)
                    events[found, 2] = share * (c1 - b1)
                    events[found, 3] = share * (c2 - b2)
                    found += 1
                error += share * _ROUNDING * (f + (abs(f1) + f2 * end) * end + reach * reach)
                b0, b1, b2 = c0, c1, c2
        error += share * worst
        here += counts[example]
    own[0, 0] = beginning
    events[0, 1] = share * (rest0 + lost0)
    events[0, 2] = share * (rest1 + lost1)
    events[0, 3] = share * (rest2 + lost2)
    return found, events, error


@compiled(
    "void(float64[:,::1], float64, float64, uint64[::1], int64,"
    " float64[::1], float64[::1], float64[::1], float64[::1])"
)
def bound(
    table: Array,
    end: float,
    error: float,
    keys: Positions,
    piece: int,
    low: Array,
    up: Array,
    high: Array,
    dip: Array,
) -> None:
    """Bounds the loss on the pieces that a table of parabolas (P, 4), added up, covers, up to ``end``.

    Args:
        table: as it comes from `srste.curve.engine.kernels.piecewise.add_up`.
        error: no loss is further from the parabolas.
        keys: (R,) where pieces begin. piece: one that is not after the first of the parabolas.
        low, up, high, dip: (R,): no loss on a piece is below ``low``, its lowest not above ``up``, none
            above ``high``, and the parabolas are lowest at ``dip``. Where a piece is in the table these
            come to include it; infinite at first, and inside out. Losses are not below 0.
    """
    own = table.view(np.uint64)
    last = len(table) - 1
    for row in range(len(table)):
        lo = max(first_float(own[row, 0]), _TINY)
        hi = np.nextafter(first_float(own[row + 1, 0]), -np.inf) if row < last else end
        if hi < lo:
            continue  # no float in it
        while piece + 1 < len(keys) and keys[piece + 1] <= own[row, 0]:
            piece += 1
        c0, c1, c2 = table[row, 1], table[row, 2], table[row, 3]
        at = hi if c1 < 0 else lo
        if c2 > 0:
            at = min(max(-c1 / (2 * c2), lo), hi)
        least = (c2 * at + c1) * at + c0
        most = max((c2 * lo + c1) * lo + c0, (c2 * hi + c1) * hi + c0)
        if math.isnan(
            least + most + error
        ):  # of numbers so large that they, and sums with them, tell nothing
            least, most, error = 0.0, 0.0, np.inf
        if max(least - error, 0.0) < low[piece]:
            low[piece], up[piece], dip[piece] = max(least - error, 0.0), max(least + error, 0.0), at
        high[piece] = max(high[piece], most + error)
