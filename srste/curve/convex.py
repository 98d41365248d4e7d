"""Losses that are convex between events: logistic loss and cross-entropy.

Their values are summed example by example at every learning rate that is asked for. Where the lowest may
be, and where a level may be crossed, parabolas tell, whose distance from the loss is bounded; there the
loss itself is searched, convex as it is on each piece.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from srste.curve.following import Batch, Follower, blocks, in_threads, one_blas_thread, shares, threads
from srste.curve.kernels import convex as kernels
from srste.curve.kernels.pieces import add_up
from srste.curve.kernels.positions import first_floats, just_after
from srste.curve.links import Links
from srste.curve.network import Array, Index, Network

_TINY = np.nextafter(0.0, 1.0)
_WIDTH = 0.1  # what the arguments of a loss move by over one parabola: off by 2e-6 then
_MANY = 32  # with more pieces left to search, finer parabolas are tried first

# Over a cell the arguments of a loss move by at most this. Log-sum-exp has its singularities where two
# arguments differ by i pi or more, a factor of 2 pi away from the cell's half width, so that polynomials
# through 15 Chebyshev nodes are off by less than 4 (2 pi + sqrt(4 pi^2 + 1))^-15 = 1e-16 of a loss.
_CELL = 1.0
_ANGLES = (2 * np.arange(15) + 1) * np.pi / 30
_NODES, _WEIGHTS = np.cos(_ANGLES), np.sin(_ANGLES) * (-1.0) ** np.arange(15)
_MOST_AT_ONCE = 100_000  # learning rates, of which each takes the memory of the nodes

_STEPS = 100  # of a search on one piece; it ends when no float is left, or with the gap it has then


@dataclass(frozen=True)
class Steps:
    """The outputs of every example: at_rest, counts, outputs as in `srste.curve.kernels.convex`."""

    at_rest: Array
    counts: Index
    outputs: Array
    targets: Array
    classes: bool

    @property
    def arrays(self) -> tuple[Array, Index, Array, Array, bool]:
        return self.at_rest, self.counts, self.outputs, self.targets, self.classes


@dataclass(frozen=True)
class _Parabolas:
    """P pieces [lo, hi] on which the loss is convex and within ``error`` of a parabola.

    low, high: (P,) the parabola's extremes. dip: (P,) where it is lowest. key: (P,) positions where they
    start. closed: (P, 2) whether the real piece begins with lo, and whether it ends with hi.
    """

    lo: Array
    hi: Array
    low: Array
    high: Array
    dip: Array
    key: NDArray[np.uint64]
    closed: NDArray[np.bool_]
    error: float


class ConvexSum:
    """A loss on [0, lr_max] that is smooth and convex between events."""

    def __init__(self, steps: Steps, share: float, lr_max: float) -> None:
        self._steps, self._share, self._lr_max = steps, share, lr_max
        self.pre_loss = self._at(np.uint64(0), 0.0)[0]
        self.error = 0.0

    @property
    def starts(self) -> Array:
        """First float of every step but those at t = 0."""
        return first_floats(self._steps.outputs.view(np.uint64)[:, 0])

    def rounding(self, lrs: Array) -> Array:
        """As `srste.curve.pieces.Pieces.rounding`: each value is a sum of its own."""
        return np.zeros(len(lrs))

    def evaluate(self, lrs: Array) -> int:
        """As `srste.curve.pieces.Pieces.evaluate`."""
        bad = np.flatnonzero(~((lrs >= 0) & (lrs <= self._lr_max)))
        if bad.size:
            return int(bad[0])
        order = np.argsort(lrs, kind="stable")
        ascending, sums = lrs[order], np.zeros(len(lrs))
        runs = max(1, min(threads(), len(lrs)), math.ceil(len(lrs) / _MOST_AT_ONCE))
        own = shares(runs, len(lrs))
        parts = shares(min(threads(), runs), runs)

        def work(part: int) -> None:
            for run in parts[part]:
                here = slice(own[run].start, own[run].stop)
                self._add_values(ascending[here], sums[here])

        in_threads(work, len(parts))
        lrs[order] = sums * self._share
        return -1

    def _add_values(self, lrs: Array, sums: Array) -> None:
        """Adds the losses at ascending learning rates, by polynomials where that is less work."""
        length = lrs[-1] - lrs[0] if len(lrs) else 0.0
        cells = self._widest_spread * length / _CELL
        each = len(self._steps.outputs) / len(self._steps.counts)
        # Nodes between learning rates that are hardly apart, or hardly above 0, would be no nodes.
        apart = length > 1e-9 * lrs[-1] and length > 1e-300 if len(lrs) else False
        if cells * len(_NODES) + 2 * each * len(_NODES) < len(lrs) and apart and cells > 0:
            cells = math.ceil(cells)
            kernels.add_interpolated(*self._steps.arrays, lrs, sums, cells, _NODES, _WEIGHTS)
        else:
            kernels.add_values(*self._steps.arrays, lrs, sums)

    @cached_property
    def _widest_spread(self) -> float:
        return kernels.widest_spread(*self._steps.arrays)

    def _at(self, position: np.uint64, lr: float) -> tuple[float, float, float]:
        """(loss, slope, curvature) at lr of the piece that a position lies in."""
        f, f1, f2 = kernels.derivatives(*self._steps.arrays, position, lr)
        return f * self._share, f1 * self._share, f2 * self._share

    def _parabolas(self, width: float, begin: float, end: float) -> _Parabolas:
        found, events, error = kernels.parabolas(*self._steps.arrays, self._share, width, begin, end)
        events = events[:found]
        table = events[: add_up(events, end, events, True)]
        keys = table.view(np.uint64)[:, 0]
        starts = first_floats(keys)
        after = np.append(keys[1:], just_after(end))
        lo = np.maximum(starts, _TINY)
        hi = np.append(np.nextafter(starts[1:], -np.inf), end)
        closed = np.stack((keys & np.uint64(1) == 0, after & np.uint64(1) == 1), axis=1)
        closed[:, 0] &= keys > 0
        c0, c1, c2 = table[:, 1], table[:, 2], table[:, 3]
        some = hi >= lo
        lo, hi, keys, closed = lo[some], hi[some], keys[some], closed[some]
        c0, c1, c2 = c0[some], c1[some], c2[some]
        downhill = np.where(c1 < 0, hi, lo)
        with np.errstate(over="ignore"):  # to infinity, and from there to an end
            lowest = np.divide(-c1, 2 * c2, out=downhill.copy(), where=c2 > 0)
        dip = np.clip(lowest, lo, hi)

        def at(t: Array) -> Array:
            value: Array = (c2 * t + c1) * t + c0
            return value

        return _Parabolas(lo, hi, at(dip), np.maximum(at(lo), at(hi)), dip, keys, closed, error)

    def lowest(self) -> tuple[float, float, bool]:
        """(lr, loss, attained) of the lowest loss in (0, lr_max]; sets ``error``."""
        width, begin, end = _WIDTH, 0.0, self._lr_max
        while True:
            near = self._parabolas(width, begin, end)
            left = np.flatnonzero(near.low <= near.low.min() + 2 * near.error)
            hull = float(near.lo[left].min()), float(near.hi[left].max())
            if len(left) <= _MANY or hull[1] - hull[0] > 0.5 * (end - begin):
                break
            width, begin, end = width / 8, *hull
        best, lr, attained, self.error = self._lowest_of(near, left)
        return lr, best, attained

    def _lowest_of(self, near: _Parabolas, pieces: Index) -> tuple[float, float, bool, float]:
        """(loss, lr, attained, gap to the infimum at most) of the lowest loss on some pieces."""
        best = (np.inf, _TINY, False, 0.0)
        for piece in pieces[np.argsort(near.low[pieces], kind="stable")]:
            if near.low[piece] - near.error > best[0]:
                break
            found = self._lowest_on(near, int(piece), best[0])
            if found and found[:2] < best[:2]:
                best = found
        return best

    def _lowest_on(
        self, near: _Parabolas, piece: int, best: float
    ) -> tuple[float, float, bool, float] | None:
        """(loss, lr, attained, gap to the infimum at most) of one piece, by Newton's method within a
        bracket; None if it cannot be below ``best``."""
        lo, hi = first, last = float(near.lo[piece]), float(near.hi[piece])
        position, t = near.key[piece], float(near.dip[piece])
        for _ in range(_STEPS):
            f, f1, f2 = self._at(position, t)
            gap = abs(f1 * (t - lo) if f1 > 0 else f1 * (t - hi))  # of a convex function and its tangent
            if f - gap > best:
                return None
            if f1 > 0:
                hi = t
            elif f1 < 0:
                lo = t
            if gap <= 1e-16 * f or not lo < hi:
                break
            step = t - f1 / f2 if f2 > 0 else np.inf
            if not lo < step < hi:
                ends = lo if f1 > 0 else hi
                step = ends if abs(ends - t) <= 1e-12 * abs(t) or t in (first, last) else 0.5 * (lo + hi)
            if step == t:
                break
            t = step
        at_ends = [end for end, edge in enumerate((first, last)) if t == edge]
        attained = not at_ends or f1 == 0 or any(near.closed[piece][end] for end in at_ends)
        return f, t, attained, gap

    def below(self, level: float) -> Array:
        """As `srste.curve.pieces.Pieces.below`."""
        near = self._parabolas(_WIDTH, 0.0, self._lr_max)
        sure = near.high + near.error < level
        found: list[tuple[float, float, range]] = []  # of an interval, its ends and its pieces
        joins = -1  # the piece that the last one reaches the end of
        for piece in map(int, np.flatnonzero(near.low - near.error < level)):
            lo, hi = float(near.lo[piece]), float(near.hi[piece])
            if not sure[piece]:
                part = self._below_on(near, piece, level)
                if part is None:
                    continue
                lo, hi = part
            if found and joins == piece - 1 and lo == near.lo[piece]:
                found[-1] = found[-1][0], hi, range(found[-1][2].start, piece + 1)
            else:
                found.append((lo, hi, range(piece, piece + 1)))
            joins = piece if hi == near.hi[piece] else -1
        lows = (self._lowest_of(near, np.array(pieces))[0] for _, _, pieces in found)
        return np.array([(lo, hi, low) for (lo, hi, _), low in zip(found, lows, strict=True)]).reshape(
            -1, 3
        )

    def _below_on(self, near: _Parabolas, piece: int, level: float) -> tuple[float, float] | None:
        """The part of a piece on which the loss is below a level, None if there is none."""
        lowest = self._lowest_on(near, piece, level)
        if lowest is None or lowest[0] >= level:
            return None
        dip = lowest[1]
        position, ends = near.key[piece], []
        for end in (float(near.lo[piece]), float(near.hi[piece])):
            inside, outside = dip, end
            if self._at(position, end)[0] < level:
                inside = end
            while inside != end and abs(outside - inside) > 1e-15 * abs(outside):
                middle = 0.5 * (inside + outside)
                if middle in (inside, outside):
                    break
                if self._at(position, middle)[0] < level:
                    inside = middle
                else:
                    outside = middle
            ends.append(inside)
        return ends[0], ends[1]


def convex_sum(network: Network, links: Links, batch: Batch, classes: bool, lr_max: float) -> ConvexSum:
    """The mean over the batch of cross-entropies, or of logistic losses."""
    outputs = network.units[-1]
    own = blocks(links, len(batch))
    parts = max(1, min(threads(), len(own)))
    numbers = shares(parts, len(own))
    at_rest, counts = np.empty((len(batch), 2 * outputs)), np.empty(len(batch), np.int64)
    found: list[Array] = [np.empty((0, 1 + 2 * outputs))] * parts

    def work(part: int) -> None:
        follower = Follower(network, links, batch, own[0].stop)
        count, events = 0, np.empty((8 * own[0].stop, 1 + 2 * outputs))
        for number in numbers[part]:
            block = own[number]
            count, events = follower.follow(block, False, at_rest[block], counts[block], count, events)
        found[part] = events[:count]

    with one_blas_thread():
        in_threads(work, parts)
    whole = found[0] if parts == 1 else np.concatenate(found)
    return ConvexSum(Steps(at_rest, counts, whole, batch.targets, classes), batch.share, lr_max)
