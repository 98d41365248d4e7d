"""Places among the real learning rates >= 0, each as one integer.

Twice the bits of a float is that float, and one more is just after it. Bits of such floats are ordered
as the floats are, so that positions compare as what they stand for. A unit whose pre-activation is
``a - t d`` is up where that is >= 0. With tau = a / d it rises at tau if d < 0, an even position, and
falls just after tau if d > 0, an odd one. Its position alone tells where it is up: sign(0) = +1, t = 0
and coinciding flips are no special cases.
"""

from __future__ import annotations

import numpy as np

from srste.curve.engine.kernels.compiling import inlined
from srste.curve.engine.kernels.lanes import Lanes, bits_of, packed, pick, splat
from srste.curve.engine.layout import BitVector, Vector

START = np.uint64(0)  # t = 0 itself
NEVER = np.uint64(2**64 - 2)  # even: a unit that rises there is down everywhere
ONE = np.uint64(1)
SMALLEST = np.nextafter(0.0, 1.0)
"""The first learning rate after 0."""


@inlined
def position_of(lr: float) -> np.uint64:
    """Of a learning rate >= 0."""
    return np.float64(lr).view(np.uint64) << ONE  # which drops the sign of -0.0


@inlined
def real_number(position: np.uint64) -> float:
    """The learning rate at or just before a position."""
    return np.uint64(position >> ONE).view(np.float64)


@inlined
def first_float(position: np.uint64) -> float:
    """The smallest float that lies at or after a position."""
    return np.uint64((position >> ONE) + (position & ONE)).view(np.float64)


def first_floats(positions: BitVector) -> Vector:
    """(any,) `first_float` of each position (any,)."""
    floats: Vector = ((positions >> ONE) + (positions & ONE)).view(np.float64)
    return floats


def just_after(lr: float) -> np.uint64:
    """The position just after a learning rate >= 0, outside of kernels."""
    position: np.uint64 = (np.float64(lr).view(np.uint64) << ONE) | ONE
    return position


@inlined
def position_of_flip(a: float, d: float) -> np.uint64:
    """Where a unit flips, a and d being finite. One that is up, or down, from t = 0 on rises at 0, or
    never."""
    twice = np.float64(a / d).view(np.uint64) << ONE
    if a >= 0:
        return twice | ONE if d > 0 else START
    return twice if d < 0 else NEVER


@inlined
def positions_of_flips(a: Lanes, d: Lanes) -> Lanes:
    """`position_of_flip` of eight units."""
    twice = bits_of(a / d) << 1
    falls = pick(d > 0.0, twice | 1, splat(START))
    rises = pick(d < 0.0, twice, splat(NEVER))
    return pick(a >= 0.0, falls, rises)


@inlined
def up_at(position: np.uint64, flip: np.uint64) -> bool:
    """Whether a unit that flips at ``flip`` is up at a position."""
    falls = (flip & ONE) == ONE
    is_up: bool = (flip > position) == falls
    return is_up


@inlined
def bits_up_at(position: np.uint64, flips: Lanes) -> np.uint64:
    """`up_at` of eight units, as bits."""
    bits: np.uint64 = packed(flips > position) ^ packed((flips & 1) == 0)
    return bits


@inlined
def sign_at(position: np.uint64, flip: np.uint64) -> float:
    """The sign at a position of a unit that flips at ``flip``."""
    return 1.0 if up_at(position, flip) else -1.0
