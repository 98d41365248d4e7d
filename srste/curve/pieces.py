"""Cutting each example's range of learning rates where a unit of the network flips.

A unit whose pre-activation is ``a - t d`` is +1 where that is >= 0. With tau = a / d it therefore
leaves +1 just *after* tau when d > 0, and reaches +1 *at* tau when d < 0. Both are written as "from
this float on": tau itself, or the next float above it. Every piece is then a half-open interval of
floats [start, next start), two flips at the same tau with different sides get the single float
between them as a piece of its own, and sign(0) = +1 holds everywhere, t = 0 included.
"""

from __future__ import annotations

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


def linear_pieces(layers: list[MovingLayer], inputs: Array, lr_max: float) -> Pieces:
    """The pieces of [0, lr_max] for every row of inputs (batch, in), through all layers."""
    batch = len(inputs)
    example = np.arange(batch)
    start = np.zeros(batch)
    stop = np.full(batch, np.nextafter(lr_max, np.inf))
    closed = np.ones(batch, dtype=bool)
    h = inputs
    for layer in layers[:-1]:
        a, d = layer(h)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            tau = a / d
        parent, unit, flip, at_tau = _flips(tau, d, start, stop)

        # Each piece is followed by one new piece per flip in it: flip k of piece p lands at p + k + 1.
        landing = parent + np.arange(1, parent.size + 1)
        source = np.repeat(np.arange(start.size), np.bincount(parent, minlength=start.size) + 1)
        h = _signs_at_start(tau, a, d, start)[source]
        _apply_flips(h, parent, unit, landing)

        example, closed, stop = example[source], closed[source], stop[source]
        closed[landing] = at_tau
        start = start[source]
        start[landing] = flip
        stop[landing - 1] = flip
    return Pieces(example, start, closed, *layers[-1](h))


def _signs_at_start(tau: Array, a: Array, d: Array, start: Array) -> Array:
    """(S, units) of -1.0 and +1.0: the units at the first float of each piece."""
    t = start[:, None]
    # By the crossing and not by a - t d, whose rounding could disagree with where the flip is put.
    falling = d > 0
    up = (falling & (tau >= t)) | (~falling & (tau <= t))
    if (still := d == 0).any():
        up[still] = a[still] >= 0
    signs = up.astype(np.float64)
    signs *= 2.0
    signs -= 1.0
    return signs


def _flips(tau: Array, d: Array, start: Array, stop: Array) -> tuple[Index, Index, Array, Mask]:
    """Every flip strictly inside its piece, in order of piece and then of learning rate.

    Returns, each (F,): the piece, the unit, the first float after the flip, and whether the flip is
    at the crossing itself (d < 0) rather than just after it.
    """
    # Comparisons with nan (0/0: a unit that stays at zero) are false, which is right: no flip.
    piece, unit = np.nonzero((tau >= start[:, None]) & (tau < stop[:, None]))
    at_tau = d[piece, unit] < 0
    flip = tau[piece, unit]
    flip = np.where(at_tau, flip, np.nextafter(flip, np.inf))
    real = (flip > start[piece]) & (flip < stop[piece])
    piece, unit, flip, at_tau = piece[real], unit[real], flip[real], at_tau[real]
    order = np.lexsort((flip, piece))
    return piece[order], unit[order], flip[order], at_tau[order]


def _apply_flips(h: Array, parent: Index, unit: Index, landing: Index) -> None:
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
        h[row] = h[row - 1]
        h[row, unit[chosen]] *= -1.0
