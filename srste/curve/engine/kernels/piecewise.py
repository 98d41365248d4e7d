"""A sum of piecewise quadratics: its pieces put in order and added up, and what is read off them.

An event is a row (position as the bits of a float, c0, c1, c2): from that position on the sum gains the
polynomial ``c0 + c1 t + c2 t^2``. A piece is such a row too: the position where it starts, and the sum
from there to where the next one starts. A piece may contain no float; its first float is then that of
the next one.
"""

from __future__ import annotations

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, grown, inlined
from srste.curve.engine.kernels.lanes import LANES, bits_of, gather, load, packed, pick, splat, store
from srste.curve.engine.kernels.positions import ONE, SMALLEST, first_float, position_of, real_number
from srste.curve.engine.layout import BitMatrix, BitVector, IntVector, Matrix, ShortVector, Vector

# As many events as about fit a core's own cache, 1 MB.
_RUN = 32_768
_NEAR = 64  # pieces, within which eight learning rates are looked up together
_INSERTION_SORT_MAX = 24  # in a bucket, that insertion sorts quickest


@inlined
def _bucket(key: np.uint64, start: float, scale: float, last: int) -> int:
    return min(max(int((first_float(key) - start) * scale), 0), last)


@inlined
def _into_runs(keys: BitMatrix, runs: int, scale: float) -> IntVector:
    """Swap events (F, 4) until each is in its run. Returns: (runs + 1,) where these begin, and the
    end."""
    begins = np.zeros(runs + 1, np.int64)
    for k in range(len(keys)):
        begins[_bucket(keys[k, 0], 0.0, scale, runs - 1) + 1] += 1
    for run in range(runs):
        begins[run + 1] += begins[run]
    free = begins.copy()
    for run in range(runs):
        while free[run] < begins[run + 1]:
            k = free[run]
            home = _bucket(keys[k, 0], 0.0, scale, runs - 1)
            other = free[home]
            free[home] += 1
            if home != run:
                for column in range(4):
                    displaced = keys[other, column]
                    keys[other, column] = keys[k, column]
                    keys[k, column] = displaced
    return begins


@inlined
def _insert(ordered: BitVector, index: ShortVector, size: int) -> None:
    """Sort keys that are almost in order, and what goes with them."""
    for k in range(1, size):
        key, at = ordered[k], index[k]
        place = k
        while place > 0 and ordered[place - 1] > key:
            ordered[place], index[place] = ordered[place - 1], index[place - 1]
            place -= 1
        ordered[place], index[place] = key, at


@inlined
def _sort_by_bytes(ordered: BitVector, index: ShortVector, size: int) -> None:
    """Sort keys however they are bunched, the lowest byte first, and what goes with them."""
    keys, places = np.empty(size, np.uint64), np.empty(size, np.int32)
    for byte in range(8):
        shift = np.uint64(8 * byte)
        begins = np.zeros(257, np.int64)
        for k in range(size):
            keys[k], places[k] = ordered[k], index[k]
            begins[np.intp(ordered[k] >> shift & np.uint64(255)) + 1] += 1
        for value in range(256):
            begins[value + 1] += begins[value]
        for k in range(size):
            digit = np.intp(keys[k] >> shift & np.uint64(255))
            ordered[begins[digit]], index[begins[digit]] = keys[k], places[k]
            begins[digit] += 1


@inlined
def _order(
    keys: BitMatrix,
    begin: int,
    stop: int,
    start: float,
    scale: float,
    homes: ShortVector,
    places: ShortVector,
    ordered: BitVector,
    index: ShortVector,
) -> None:
    """Fill in ``ordered`` and ``index``: the positions of a run's events in order, and which events,
    from the beginning of the run, they are of.

    Args:
        start, scale: buckets per unit of learning rate, from ``start`` on; there are as many as events,
            so that counting them leaves little to sort.
        homes: (longest run,), places: (longest run + 1,): space.
    """
    size = stop - begin
    buckets = size
    for b in range(buckets + 1):
        places[b] = 0
    for k in range(size):
        home = _bucket(keys[begin + k, 0], start, scale, buckets - 1)
        homes[k] = home
        places[home + 1] += 1
    most = 0
    for b in range(1, buckets + 1):
        most = max(most, places[b])
        places[b] += places[b - 1]
    for k in range(size):
        place = places[homes[k]]
        places[homes[k]] = place + 1  # in the end where the next bucket begins
        ordered[place] = keys[begin + k, 0]
        index[place] = k
    if most <= _INSERTION_SORT_MAX:
        _insert(ordered, index, size)
    else:
        _sort_by_bytes(ordered, index, size)


@inlined
def add(total: float, lost: float, term: float) -> tuple[float, float]:
    """Add a term to a sum, and what that loses by rounding to what it has lost (Knuth's two-sum)."""
    new = total + term
    was = new - term
    return new, lost + ((total - was) + (term - (new - was)))


@compiled
def add_up(events: Matrix, lr_max: float, pieces: Matrix, in_place: bool) -> int:
    """Add events up to pieces.

    Flips are spread over [0, lr_max] about evenly, so that counting puts most of them in order: at first
    into runs that fit a cache, then within each run.

    Args:
        events: (F, 4), in any order; overwritten if there are many.
        pieces: (F, 4), is filled in. in_place: whether it is the same array.
    Returns: how many pieces there are.
    """
    size = len(events)
    keys, starts = events.view(np.uint64), pieces.view(np.uint64)
    runs = max(1, (size + _RUN - 1) // _RUN)
    scale = runs / lr_max
    if not np.isfinite(scale):
        runs, scale = 1, 0.0
    begins = _into_runs(keys, runs, scale) if runs > 1 else np.array([0, size])
    longest = 0
    for run in range(runs):
        longest = max(longest, begins[run + 1] - begins[run])
    homes, index = np.empty(longest, np.int32), np.empty(longest, np.int32)
    places, ordered = np.empty(longest + 1, np.int32), np.empty(longest, np.uint64)
    copy = np.empty((longest if in_place else 0, 4))
    # What a sum has lost is kept beside it: a loss may come back from far above.
    c0 = c1 = c2 = 0.0
    lost0 = lost1 = lost2 = 0.0
    piece = -1
    for run in range(runs):
        begin, stop = begins[run], begins[run + 1]
        fine = (stop - begin) * scale
        _order(
            keys, begin, stop, run * (lr_max / runs), fine if np.isfinite(fine) else 0.0,
            homes, places, ordered, index,
        )  # fmt: skip
        if in_place:
            for k in range(stop - begin):
                for column in range(4):
                    copy[k, column] = events[begin + k, column]
        for k in range(stop - begin):
            at = index[k]
            if in_place:
                term0, term1, term2 = copy[at, 1], copy[at, 2], copy[at, 3]
            else:
                term0, term1, term2 = events[begin + at, 1], events[begin + at, 2], events[begin + at, 3]
            c0, lost0 = add(c0, lost0, term0)
            c1, lost1 = add(c1, lost1, term1)
            c2, lost2 = add(c2, lost2, term2)
            if piece < 0 or ordered[k] != starts[piece, 0]:
                piece += 1
                starts[piece, 0] = ordered[k]
            pieces[piece, 1], pieces[piece, 2], pieces[piece, 3] = c0 + lost0, c1 + lost1, c2 + lost2
    return piece + 1


@inlined
def dip_of(c1: float, c2: float, lo: float, hi: float) -> float:
    """Where ``c1 t + c2 t^2`` is lowest in [lo, hi]; what is not convex by rounding alone is a line."""
    if c2 > 0:
        return min(max(-c1 / (2 * c2), lo), hi)
    return hi if c1 < 0 else lo


@inlined
def _value(c0: float, c1: float, c2: float, lr: float) -> float:
    """A loss of zero can come out of the cancelling sums as a few ulps below it."""
    return max((c2 * lr + c1) * lr + c0, 0.0)


@inlined
def _piece_after(keys: BitMatrix, piece: int, place: np.uint64) -> int:
    """The piece that a place lies in, which is ``piece`` or a later one: most often one of the next few,
    and sought in steps that double, and then halve."""
    last = len(keys) - 1
    step = 1
    while piece + step <= last and keys[piece + step, 0] <= place:
        piece += step
        step *= 2
    while step > 1:
        step //= 2
        if piece + step <= last and keys[piece + step, 0] <= place:
            piece += step
    return piece


@inlined
def _evaluate_eight(
    pieces: Matrix, keys: BitMatrix, piece: int, lr_max: float, lrs: Vector, at: int
) -> int:
    """Put the values at eight learning rates into their place, if these ascend, do not begin before a
    piece and end soon after it. Returns: the piece of the last of them; -1 if it has done nothing."""
    last = len(pieces) - 1
    lr = load(lrs, at)
    places = bits_of(lr) << 1
    begin, end = position_of(lrs[at]), position_of(lrs[at + LANES - 1])
    ascend = packed(lr <= load(lrs, at + 1)) | (ONE << np.uint64(LANES - 1))
    if ascend != 2**LANES - 1 or not lrs[at] >= 0 or not lrs[at + LANES - 1] <= lr_max:
        return -1
    if begin < keys[piece, 0]:
        return -1
    if piece == last or keys[piece + 1, 0] > end:
        c0, c1, c2 = splat(pieces[piece, 1]), splat(pieces[piece, 2]), splat(pieces[piece, 3])
    else:
        if piece + _NEAR > last or keys[piece + _NEAR, 0] <= end:
            return -1
        row = splat(np.uint64(piece))
        k = piece + 1
        while keys[k, 0] <= end:
            row = row + pick(places >= keys[k, 0], splat(ONE), splat(np.uint64(0)))
            k += 1
        piece = k - 1
        row = row << 2
        c0, c1, c2 = gather(pieces, row + 1), gather(pieces, row + 2), gather(pieces, row + 3)
    value = (c2 * lr + c1) * lr + c0
    store(lrs, at, pick(value < 0.0, splat(0.0), value))
    return piece


@compiled
def evaluate(pieces: Matrix, lr_max: float, lrs: Vector) -> int:
    """Put the values into the place of the learning rates; quickest if these are in order.

    Args: pieces: (P, 4). lrs: (any,).
    Returns: how many are done, up to the first one that is not in [0, lr_max].
    """
    keys = pieces.view(np.uint64)
    piece = 0
    k = 0
    while k < len(lrs):
        if k + LANES < len(lrs):
            last_piece = _evaluate_eight(pieces, keys, piece, lr_max, lrs, k)
            if last_piece >= 0:
                piece = last_piece
                k += LANES
                continue
        for at in range(k, min(k + LANES, len(lrs))):
            lr = lrs[at]
            if not 0 <= lr <= lr_max:
                return at
            place = position_of(lr)
            piece = _piece_after(keys, piece if keys[piece, 0] <= place else 0, place)
            lrs[at] = _value(pieces[piece, 1], pieces[piece, 2], pieces[piece, 3], lr)
        k += LANES
    return len(lrs)


@compiled
def lowest(pieces: Matrix, lr_max: float) -> tuple[float, float, bool]:
    """(lr, value, attained) of the lowest value in (0, lr_max]."""
    keys = pieces.view(np.uint64)
    last = len(pieces) - 1
    best, lr, value, at_left, at_right = 0, SMALLEST, np.inf, False, False
    stop = 0.0
    for piece in range(len(pieces)):
        lo = max(stop, SMALLEST)
        stop = first_float(keys[piece + 1, 0]) if piece < last else np.inf
        hi = np.nextafter(stop, -np.inf) if piece < last else lr_max
        if hi < lo:
            continue  # no float in it, or t = 0 alone
        c0, c1, c2 = pieces[piece, 1], pieces[piece, 2], pieces[piece, 3]
        dip = dip_of(c1, c2, lo, hi)
        at_dip = _value(c0, c1, c2, dip)
        if at_dip < value:  # the first, hence the smallest learning rate, wins a tie
            best, lr, value, at_left, at_right = piece, dip, at_dip, dip == lo, dip == hi

    # An end of a piece belongs to it or not; an open end is a limit unless the curve is level there.
    level = 2 * pieces[best, 3] * lr + pieces[best, 2] == 0
    has_left = keys[best, 0] & ONE == 0 and keys[best, 0] > 0
    has_right = best == last or keys[best + 1, 0] & ONE == ONE
    inside = not at_left and not at_right
    return lr, value, inside or level or (at_left and has_left) or (at_right and has_right)


@inlined
def _below(c0: float, c1: float, c2: float, level: float, lo: float, hi: float) -> tuple[float, float]:
    """The part of [lo, hi] where the convex ``c0 + c1 t + c2 t^2`` is below a level; (1, 0) if none."""
    over = c0 - level
    if c2 <= 0:
        if c1 == 0:
            return (lo, hi) if over < 0 else (1.0, 0.0)
        root = -over / c1
        left, right = (lo, min(hi, root)) if c1 > 0 else (max(lo, root), hi)
    else:
        square = c1 * c1 - 4 * c2 * over
        if square <= 0:
            return 1.0, 0.0
        far = -0.5 * (c1 + np.copysign(np.sqrt(square), c1))  # no cancellation in it
        one, other = far / c2, over / far
        left, right = max(lo, min(one, other)), min(hi, max(one, other))
    at_point = lo == hi and (c2 * lo + c1) * lo + over < 0
    return (left, right) if left < right or at_point else (1.0, 0.0)


@compiled
def below(pieces: Matrix, lr_max: float, level: float) -> Matrix:
    """Where the value is below a level: (I, 3), the two ends of each interval in (0, lr_max], in order,
    and the lowest value in it. An end may belong to it or not."""
    keys = pieces.view(np.uint64)
    last = len(pieces) - 1
    intervals = np.empty((16, 3))
    count = 0
    joins = False  # whether the last interval reaches the start of this piece
    for piece in range(len(pieces)):
        # The real ends, without regard to which side of them they belong to.
        lo = real_number(keys[piece, 0])
        hi = real_number(keys[piece + 1, 0]) if piece < last else lr_max
        if hi == 0:
            continue  # t = 0 itself
        c0, c1, c2 = pieces[piece, 1], pieces[piece, 2], pieces[piece, 3]
        left, right = _below(c0, c1, c2, level, lo, hi)
        if left > right:
            joins = False
            continue
        low = _value(c0, c1, c2, dip_of(c1, c2, left, right))
        if joins and left == lo:
            intervals[count - 1, 1] = right
            intervals[count - 1, 2] = min(intervals[count - 1, 2], low)
        else:
            if count == len(intervals):
                intervals = grown(intervals, count, count)
            intervals[count, 0], intervals[count, 1], intervals[count, 2] = left, right, low
            count += 1
        joins = right == hi
    return intervals[:count].copy()
