"""The compiled part of the loss curve: examples followed through their flips, and the sum read off.

A *position* is a place among the real learning rates >= 0 as one integer: twice the bits of a float is
that float, and one more is just after it. Bits of such floats are ordered as the floats are, so that
positions compare as what they stand for. A unit whose pre-activation is ``a - t d`` is +1 where that is
>= 0. With tau = a / d it rises at tau if d < 0, an even position, and falls just after tau if d > 0, an
odd one. Its position alone tells where it is up: sign(0) = +1, t = 0 and coinciding flips are no special
cases.

All compiled code is in this file, because a cached kernel is renewed when its own file changes, but not
when another one does that it calls. Loops over units index whole arrays by (layer, row, unit): a slice
would cost as much as the loop, whose length is the width of a layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar, cast

import llvmlite.binding as llvm
import numba
import numpy as np
from numpy.typing import NDArray

from srste.curve.network import Array

Positions = NDArray[np.uint64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

_AT_REST = np.uint64(0)  # t = 0 itself
_NEVER = np.uint64(2**64 - 2)  # even: a unit that rises there is down everywhere
_ONE = np.uint64(1)
_TINY = np.nextafter(0.0, 1.0)

_Kernel = TypeVar("_Kernel", bound=Callable[..., object])
_CPU = hashlib.sha256(
    f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}".encode()
).hexdigest()[:8]


def _compiled(signature: str) -> Callable[[_Kernel], _Kernel]:
    """Compiles a function, or takes what an earlier process has left in the cache.

    Division is IEEE's and there is no fast-math: the same inputs give the same bits.
    """

    def compiled(function: _Kernel) -> _Kernel:
        # The nodes of a cluster share a folder. A file for each kind of CPU, or of two that compile at
        # the same time one could file its code under the other's name.
        function.__qualname__ += f"-{_CPU}"
        try:
            kernel = numba.njit(signature, error_model="numpy", cache=True)(function)
        except Exception:  # Nowhere to write, a full disk, a damaged file: for this process alone, then.
            kernel = numba.njit(signature, error_model="numpy")(function)
        return cast(_Kernel, kernel)

    return compiled


def _part(function: _Kernel) -> _Kernel:
    """A part of kernels, compiled into each one that calls it."""
    return cast(_Kernel, numba.njit(error_model="numpy", forceinline=True)(function))


@_part
def _position_of_flip(a: float, d: float) -> np.uint64:
    """Where a unit flips. One that is up, or down, from t = 0 on rises at 0, or never."""
    tau = a / d
    twice = np.float64(tau).view(np.uint64) << _ONE  # which drops the sign of -0.0
    falling = twice | _ONE if tau >= 0 else _NEVER
    rising = twice if tau > 0 else _AT_REST
    still = _AT_REST if a >= 0 else _NEVER
    return falling if d > 0 else (rising if d < 0 else still)


@_part
def _sign_at(position: np.uint64, flip: np.uint64) -> float:
    """The sign at a position of a unit that flips at ``flip``."""
    falls = (flip & _ONE) == _ONE
    return 1.0 if (flip > position) == falls else -1.0


@_compiled(
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
        first = _NEVER
        for unit in range(units):
            flip = _position_of_flip(moving[layer, row, unit], moving[layer, row, units + unit])
            flips[layer, row, unit] = flip
            signs[layer, row, unit] = _sign_at(_AT_REST, flip)
            first = min(first, flip if flip > _AT_REST else _NEVER)
        due[layer, row] = first


@_part
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
    first = _NEVER
    residues = np.uint64(0)  # of the changed units' numbers, modulo 64: most often of few or none
    for unit in range(units):
        flip = flips[layer, row, unit]
        first = min(first, flip if flip > position else _NEVER)
        sign = _sign_at(position, flip)
        changed[unit] = np.uint64(sign != signs[layer, row, unit])
        residues |= changed[unit] << np.uint64(unit & 63)
        signs[layer, row, unit] = sign
    count = 0
    while residues != 0:
        others = residues & (residues - _ONE)
        # The lowest bit: as a float, a power of two has its logarithm in the exponent.
        exponent = np.float64(residues ^ others).view(np.uint64) >> np.uint64(52)
        unit = int(exponent) - 1023
        while unit < units:
            turned[count] = unit
            count += int(changed[unit])
            unit += 64
        residues = others
    return count, first


@_part
def _add_turns(
    moving: Array,
    twice: Array,
    first: int,
    signs: Array,
    layer: int,
    row: int,
    units: int,
    turned: Index,
    count: int,
) -> None:
    """Carries a layer's (a, d) along where ``count`` of its inputs have turned."""
    for k in range(count):
        sign = signs[layer - 1, row, turned[k]]
        source = first + turned[k]
        for column in range(2 * units):
            moving[layer, row, column] += sign * twice[source, column]


@_part
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


@_compiled(
    "Tuple((int64, uint64[::1], float64[:,::1]))("
    "int64[::1], float64[:,::1], float64[:,:,::1], uint64[:,:,::1], float64[:,:,::1],"
    "uint64[:,::1], float64[:,::1], float64, uint64, float64[:,::1], int64, uint64[::1], float64[:,::1])"
)
def follow(
    units: Index,
    twice: Array,
    moving: Array,
    flips: Positions,
    signs: Array,
    due: Positions,
    targets: Array,
    share: float,
    end: np.uint64,
    at_rest: Array,
    found: int,
    positions: Positions,
    steps: Array,
) -> tuple[int, Positions, Array]:
    """Follows every example of a block from t = 0 on, from one flip to the next.

    A unit that flips changes the next layer's (a, d) by a column of its weights; those of its units that
    then have another sign change the layer after it, and so on until no sign changes.

    Args:
        units: (layers,): units of each layer; the last one's are the outputs.
        twice: (hidden units, 2 widest): of each unit in turn, what (a, d) of the next layer gain when it
            turns up, which is twice its weights (w, dw). Sums of these are to be exact.
        moving, flips, signs, due: as `settle` leaves them, with rows to spare or not; overwritten.
        targets: (rows, out). share: what a squared residual counts in the mean.
        end: flips are followed up to this position, exclusive.
        at_rest: (rows, 3), is filled: the coefficients of each example's loss at t = 0.
        found, positions, steps: the flips of the blocks before, see Returns; there may be room for more.
    Returns:
        F, the number of flips; and two arrays that hold, first, (F,) their positions, in no order, and
        (F, 3) what each adds to the coefficients: those that were given, or larger ones.
    """
    last = len(units) - 1
    sources = np.zeros(last + 1, np.int64)  # where in ``twice`` the inputs of a layer begin
    for layer in range(2, last + 1):
        sources[layer] = sources[layer - 1] + units[layer - 2]
    changed = np.empty(units.max(), np.uint64)
    turned = np.empty(units.max() + 1, np.int64)

    for row in range(len(targets)):
        c0, c1, c2 = _squared_error(moving, targets, last, row, share)
        at_rest[row, 0], at_rest[row, 1], at_rest[row, 2] = c0, c1, c2
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
            while count > 0 and layer < last:
                layer += 1
                n = units[layer]
                _add_turns(moving, twice, sources[layer], signs, layer, row, n, turned, count)
                if layer < last:
                    for unit in range(n):
                        a, d = moving[layer, row, unit], moving[layer, row, n + unit]
                        flips[layer, row, unit] = _position_of_flip(a, d)
                    count, due[layer, row] = _turn(
                        position, flips, signs, layer, row, n, changed, turned
                    )

            b0, b1, b2 = c0, c1, c2
            if count > 0:
                c0, c1, c2 = _squared_error(moving, targets, last, row, share)
            if found == len(positions):
                positions = np.concatenate((positions, np.empty_like(positions)))
                steps = np.concatenate((steps, np.empty_like(steps)))
            positions[found] = position
            steps[found, 0], steps[found, 1], steps[found, 2] = c0 - b0, c1 - b1, c2 - b2
            found += 1
    return found, positions, steps


@_compiled(
    "Tuple((float64[::1], boolean[::1], float64[:,::1]))"
    "(float64[::1], int64[::1], uint64[::1], float64[:,::1])"
)
def add_up(
    at_rest: Array, order: Index, positions: Positions, steps: Array
) -> tuple[Array, Mask, Array]:
    """The pieces of the sum: between two neighbouring positions its coefficients do not change.

    Args: at_rest: (3,) coefficients at t = 0. order: (F,) sorts the positions (F,); steps: (F, 3).
    Returns: of P pieces, (P,) the first float; (P,) whether the real interval begins with it, and not
        between it and the float before; (P, 3) the coefficients. A piece without any float starts where
        the next one does.
    """
    starts = np.empty(len(order) + 1)
    closed = np.empty(len(order) + 1, np.bool_)
    coefficients = np.empty((len(order) + 1, 3))
    c0, c1, c2 = at_rest
    piece, position = 0, _AT_REST
    starts[0], closed[0] = 0.0, True
    coefficients[0, 0], coefficients[0, 1], coefficients[0, 2] = c0, c1, c2
    for flip in order:
        if positions[flip] != position:
            piece += 1
            position = positions[flip]
            after = position & _ONE
            starts[piece] = np.uint64((position >> _ONE) + after).view(np.float64)
            closed[piece] = after == 0
        c0 += steps[flip, 0]
        c1 += steps[flip, 1]
        c2 += steps[flip, 2]
        coefficients[piece, 0], coefficients[piece, 1], coefficients[piece, 2] = c0, c1, c2
    return starts[: piece + 1], closed[: piece + 1], coefficients[: piece + 1]


@_part
def _loss(c0: float, c1: float, c2: float, lr: float) -> float:
    """A loss of zero can come out of the cancelling sums as a few ulps below it."""
    return max((c2 * lr + c1) * lr + c0, 0.0)


@_compiled("int64(float64[::1], float64[:,::1], float64, float64[::1])")
def evaluate(starts: Array, coefficients: Array, lr_max: float, lrs: Array) -> int:
    """Puts the losses into the place of the learning rates; quickest if these are in order.

    Args: starts (P,), coefficients (P, 3): the pieces, from `add_up`. lrs: (any,).
    Returns: where the first one is that is not in [0, lr_max], at which it stops; -1 if there is none.
    """
    last = len(starts) - 1
    piece, start, stop = 0, 0.0, 0.0
    c0 = c1 = c2 = 0.0
    for k in range(len(lrs)):
        lr = lrs[k]
        if not 0 <= lr <= lr_max:
            return k
        if not start <= lr < stop:
            # Most often it is one of the next few: sought in steps that double, and then halve.
            if lr < start:
                piece = 0
            step = 1
            while piece + step <= last and starts[piece + step] <= lr:
                piece += step
                step *= 2
            while step > 1:
                step //= 2
                if piece + step <= last and starts[piece + step] <= lr:
                    piece += step
            start, stop = starts[piece], starts[piece + 1] if piece < last else np.inf
            c0, c1, c2 = coefficients[piece]
        lrs[k] = _loss(c0, c1, c2, lr)
    return -1


@_compiled("Tuple((float64, float64, boolean))(float64[::1], boolean[::1], float64[:,::1], float64)")
def lowest(starts: Array, closed: Mask, coefficients: Array, lr_max: float) -> tuple[float, float, bool]:
    """(lr, loss, attained) of the lowest loss in (0, lr_max], of the pieces from `add_up`."""
    last = len(starts) - 1
    best, lr, loss, at_left, at_right = 0, _TINY, np.inf, False, False
    for piece in range(len(starts)):
        lo = max(starts[piece], _TINY)
        hi = np.nextafter(starts[piece + 1], -np.inf) if piece < last else lr_max
        if hi < lo:
            continue  # no float in it, or t = 0 alone
        c0, c1, c2 = coefficients[piece]
        downhill = hi if c1 < 0 else lo
        here = min(max(-c1 / (2 * c2), lo), hi) if c2 > 0 else downhill
        value = _loss(c0, c1, c2, here)
        if value < loss:  # the first, hence the smallest learning rate, wins a tie
            best, lr, loss, at_left, at_right = piece, here, value, here == lo, here == hi

    # An end of a piece belongs to it or not; an open end is a limit unless the loss is level there.
    level = 2 * coefficients[best, 2] * lr + coefficients[best, 1] == 0
    has_left = closed[best] and starts[best] > 0
    has_right = best == last or not closed[best + 1]
    inside = not at_left and not at_right
    return lr, loss, inside or level or (at_left and has_left) or (at_right and has_right)
