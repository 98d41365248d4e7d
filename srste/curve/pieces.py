"""Cutting each example's range of learning rates where a unit of the network flips.

A unit whose pre-activation is ``a - t d`` is +1 where that is >= 0. With tau = a / d it therefore
leaves +1 just *after* tau when d > 0, and reaches +1 *at* tau when d < 0. Both are written as "from
this float on": tau itself, or the next float above it. Every piece is then a half-open interval of
floats [start, next start), two flips at the same tau with different sides get the single float
between them as a piece of its own, and sign(0) = +1 holds everywhere, t = 0 included.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srste.curve.network import Array, MovingLayer

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pieces:
    """The output of the network on every piece: ``at_rest - t * slope``.

    Pieces are in order of example, then of learning rate; P of them in all.

    example: (P,) row of the batch. start: (P,) first float of the piece; it ends where the next
    piece of the same example starts. closed: (P,) whether the real interval includes its left end.
    at_rest, slope: (P, out).
    """

    example: Index
    start: Array
    closed: Mask
    at_rest: Array
    slope: Array

    @property
    def first(self) -> Mask:
        """(P,) whether the piece is its example's first, which starts at 0."""
        first: Mask = np.diff(self.example, prepend=-1) != 0
        return first


class _Scratch(threading.local):
    """Large arrays, kept for the next layer and the next curve: a fresh one costs more in page faults
    than the arithmetic on it. What is in them lasts until the same name is asked for again."""

    _MOST_KEPT = 4_000_000  # numbers of an array, 32 MB

    def __init__(self) -> None:
        self._held: dict[str, Array] = {}

    def array(self, name: str, rows: int, columns: int) -> Array:
        """An uninitialised (rows, columns) array."""
        size = rows * columns
        held = self._held.get(name)
        if held is None or held.size < size:
            held = np.empty(size + size // 4)
            if held.size <= self._MOST_KEPT:
                self._held[name] = held
        return held[:size].reshape(rows, columns)


_scratch = _Scratch()


def linear_pieces(layers: list[MovingLayer], inputs: Array, lr_max: float) -> Pieces:
    """The pieces of [0, lr_max] for every row of inputs (batch, in), through all layers."""
    batch = len(inputs)
    example = np.arange(batch)
    start = np.zeros(batch)
    stop = np.full(batch, np.nextafter(lr_max, np.inf))
    closed = np.ones(batch, dtype=bool)
    h = inputs
    for layer in layers[:-1]:
        a, d = layer(h, out=_scratch.array("product", len(h), 2 * len(layer.w)))
        up, parent, unit, flip, at_tau = _signs_and_flips(a, d, start, stop)

        # Each piece is followed by one new piece per flip in it: flip k of piece p lands at p + k + 1.
        landing = parent + np.arange(1, parent.size + 1)
        source = np.repeat(np.arange(start.size), np.bincount(parent, minlength=start.size) + 1)
        up = up.take(source, axis=0)
        _apply_flips(up, parent, unit, landing)
        h = np.multiply(up, 2.0, out=_scratch.array("signs", *up.shape))
        h -= 1.0

        example, closed, stop = example[source], closed[source], stop[source]
        closed[landing] = at_tau
        start = start[source]
        start[landing] = flip
        stop[landing - 1] = flip
    return Pieces(example, start, closed, *layers[-1](h))


def _signs_and_flips(
    a: Array, d: Array, start: Array, stop: Array
) -> tuple[Mask, Index, Index, Array, Mask]:
    """The units of one layer on every piece (S of them), whose pre-activation is ``a - t d``.

    Returns (S, units) which are up at the first float of the piece; and of every flip strictly inside
    its piece, in order of piece and then of learning rate, each (F,): the piece, the unit, the first
    float after the flip, and whether it is at the crossing itself (d < 0) rather than just after it.

    All large temporaries but the crossings are booleans.
    """
    t, units = start[:, None], a.shape[1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        tau = np.divide(a, d, out=_scratch.array("crossings", *a.shape))
    # By the crossing and not by a - t d, whose rounding could disagree with where the flip is put.
    falling, ahead = d > 0, tau >= t
    up = ahead == falling
    if (here := tau == t).any():
        up |= here  # at its crossing a unit is up, whichever way it goes
    if (still := d == 0).any():
        up[still] = a[still] >= 0

    # Comparisons with nan (0/0: a unit that stays at zero) are false, which is right: no flip.
    ahead &= tau < stop[:, None]
    inside = np.flatnonzero(ahead)
    piece = inside // units
    at_tau = ~falling.ravel()[inside]
    flip = tau.ravel()[inside]
    flip = np.where(at_tau, flip, np.nextafter(flip, np.inf))
    real = (flip > start[piece]) & (flip < stop[piece])
    if not real.all():
        inside, piece, flip, at_tau = inside[real], piece[real], flip[real], at_tau[real]
    if (piece[1:] == piece[:-1]).any():
        order = np.lexsort((flip, piece))
        inside, piece, flip, at_tau = inside[order], piece[order], flip[order], at_tau[order]
    return up, piece, inside - piece * units, flip, at_tau


def _apply_flips(up: Mask, parent: Index, unit: Index, landing: Index) -> None:
    """Carries each parent's signs along its flips, in place: the k-th flip starts from the (k-1)-th.

    All parents at once, so the loop is as long as the most flips in one piece.
    """
    if not parent.size:
        return
    new_parent = np.diff(parent, prepend=-1) != 0
    rank = np.arange(parent.size) - np.maximum.accumulate(
        np.where(new_parent, np.arange(parent.size), 0)
    )
    by_rank = np.argsort(rank, kind="stable")
    for chosen in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1]):
        row = landing[chosen]
        up[row] = up[row - 1]
        up[row, unit[chosen]] ^= True
