"""Losses that are convex between events: logistic loss and cross-entropy.

Their values are summed example by example at every learning rate that is asked for. Where the lowest may
be, and where a level may be crossed, parabolas tell, whose distance from the loss is bounded; there the
loss itself is searched, convex as it is on each piece.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

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


class _Pieces:
    """The R pieces of (0, lr_max] between events, on each of which the loss is convex and smooth.

    key: (R,) positions where they start. lo, hi: (R,) their real ends. first, last: (R,) the floats in
    them, from first to last; none if there are none. closed: (R, 2) whether they have their ends.
    """

    def __init__(self, events: NDArray[np.uint64], lr_max: float) -> None:
        self.key = np.unique(np.append(np.uint64(0), events))
        after = np.append(self.key[1:], just_after(lr_max))
        self.lo = (self.key >> np.uint64(1)).view(np.float64)
        self.hi = (after >> np.uint64(1)).view(np.float64)
        self.first = np.maximum(first_floats(self.key), _TINY)
        self.last = np.append(np.nextafter(first_floats(self.key[1:]), -np.inf), lr_max)
        self.closed = np.stack(
            ((self.key & np.uint64(1) == 0) & (self.key > 0), after & np.uint64(1) == 1), axis=1
        )


@dataclass(frozen=True)
class _Parabolas:
    """P parts of pieces, in order, in each of which the loss is within ``error`` of a parabola.

    lo, hi: (P,) the first and the last float. low, high: (P,) the parabola's extremes. dip: (P,) where
    it is lowest. pieces: (R,) those that they are parts of, in order. begins: (R,) their first parts.
    """

    lo: Array
    hi: Array
    low: Array
    high: Array
    dip: Array
    pieces: Index
    begins: Index
    error: float

    @cached_property
    def lows(self) -> Array:
        """(R,): no loss in a piece is lower."""
        lows: Array = np.minimum.reduceat(self.low, self.begins) - self.error
        return lows

    @cached_property
    def highs(self) -> Array:
        """(R,): no loss in a piece is higher."""
        highs: Array = np.maximum.reduceat(self.high, self.begins) + self.error
        return highs

    def some(self, places: slice) -> _Parabolas:
        """Of some neighbours among the pieces alone."""
        begins = self.begins[places]
        parts = slice(begins[0], self.begins[places.stop] if places.stop < len(self.begins) else None)
        return _Parabolas(
            self.lo[parts], self.hi[parts], self.low[parts], self.high[parts], self.dip[parts],
            self.pieces[places], begins - begins[0], self.error,
        )  # fmt: skip

    def dip_of(self, place: int) -> float:
        """Where in the piece of that place among ``pieces`` its parabolas are lowest."""
        begin = self.begins[place]
        end = self.begins[place + 1] if place + 1 < len(self.begins) else len(self.low)
        return float(self.dip[begin + self.low[begin:end].argmin()])


class _Lowest(NamedTuple):
    """The lowest loss that was found, where, and whether it is one of the values or a limit of them; no
    loss is below ``bound``, rounding aside."""

    loss: float
    lr: float
    attained: bool
    bound: float


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
        # What is interpolated may come out a rounding below zero.
        lrs[order] = np.maximum(sums, 0.0) * self._share
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

    @cached_property
    def _real(self) -> _Pieces:
        return _Pieces(self._steps.outputs.view(np.uint64)[:, 0], self._lr_max)

    def _parabolas(self, width: float, begin: float, end: float) -> _Parabolas:
        found, events, error = kernels.parabolas(*self._steps.arrays, self._share, width, begin, end)
        events = events[:found]
        table = events[: add_up(events, end, events, True)]
        keys = table.view(np.uint64)[:, 0]
        starts = first_floats(keys)
        lo = np.maximum(starts, _TINY)
        hi = np.append(np.nextafter(starts[1:], -np.inf), end)
        c0, c1, c2 = table[:, 1], table[:, 2], table[:, 3]
        some = hi >= lo
        lo, hi, keys, c0, c1, c2 = lo[some], hi[some], keys[some], c0[some], c1[some], c2[some]
        piece = np.searchsorted(self._real.key, keys, side="right") - 1
        pieces, begins = np.unique(piece, return_index=True)
        downhill = np.where(c1 < 0, hi, lo)
        with np.errstate(over="ignore"):  # to infinity, and from there to an end
            lowest = np.divide(-c1, 2 * c2, out=downhill.copy(), where=c2 > 0)
        dip = np.clip(lowest, lo, hi)

        def at(t: Array) -> Array:
            value: Array = (c2 * t + c1) * t + c0
            return value

        return _Parabolas(lo, hi, at(dip), np.maximum(at(lo), at(hi)), dip, pieces, begins, error)

    def lowest(self) -> tuple[float, float, bool]:
        """(lr, loss, attained) of the lowest loss in (0, lr_max]; sets ``error``."""
        found = self._lowest_in(self._parabolas(_WIDTH, 0.0, self._lr_max))
        self.error = max(found.loss - found.bound, 0.0)
        return found.lr, found.loss, found.attained

    def _lowest_in(self, near: _Parabolas) -> _Lowest:
        """Of all these pieces; by finer parabolas, where too many of them are near the lowest."""
        width = _WIDTH
        while True:
            left = np.flatnonzero(near.low <= near.low.min() + 2 * near.error)
            begin, end = float(near.lo[left[0]]), float(near.hi[left[-1]])
            if len(left) <= _MANY or end - begin > 0.5 * (near.hi[-1] - near.lo[0]):
                break
            width /= 8
            near = self._parabolas(width, begin, end)
        return self._lowest_of(near, np.unique(np.searchsorted(near.begins, left, side="right") - 1))

    def _lowest_of(self, near: _Parabolas, places: Index) -> _Lowest:
        """Of some of the pieces, by their places in order."""
        best, bound = _Lowest(np.inf, _TINY, False, np.inf), np.inf
        for place in places[np.argsort(near.lows[places], kind="stable")]:
            if near.lows[place] > best.loss:
                break
            found = self._lowest_on(near, int(place), best.loss)
            bound = min(bound, found.bound)
            best = min(best, found, key=lambda lowest: lowest[:2])
        return best._replace(bound=bound)

    def _lowest_on(self, near: _Parabolas, place: int, enough: float) -> _Lowest:
        """Of one piece, by Newton's method on the slope, in a bracket that is halved wherever that does
        not get on. It ends early where the loss cannot be below ``enough``."""
        real, piece = self._real, near.pieces[place]
        lo, hi = float(real.first[piece]), float(real.last[piece])
        for end, at in enumerate((lo, hi)):
            f, f1, _ = self._at(real.key[piece], at)
            if f1 == 0 or (f1 > 0) == (end == 0):  # a convex function that does not fall from there
                return _Lowest(f, at, f1 == 0 or bool(real.closed[piece, end]), f)
        best = _Lowest(np.inf, lo, True, -np.inf)
        t, length = near.dip_of(place), hi - lo
        t = t if lo < t < hi else lo + 0.5 * length
        for _ in range(_STEPS):
            f, f1, f2 = self._at(real.key[piece], t)
            # A convex function lies above its tangents, and has its minimum within the bracket.
            bound = max(best.bound, f - abs(f1) * (t - lo if f1 > 0 else hi - t))
            best = _Lowest(*min((f, t), best[:2]), True, bound)
            if f1 > 0:
                hi = t
            else:
                lo = t
            if f1 == 0 or best.loss - bound <= 1e-16 * best.loss or bound > enough:
                break
            middle = lo + 0.5 * (hi - lo)
            step = t - f1 / f2 if f2 > 0 else middle
            # Where the bracket has hardly shrunk, Newton's method walks about.
            t = step if lo < step < hi and hi - lo < 0.7 * length else middle
            length = hi - lo
            if not lo < t < hi:
                break
        return best

    def below(self, level: float) -> Array:
        """As `srste.curve.pieces.Pieces.below`."""
        near = self._parabolas(_WIDTH, 0.0, self._lr_max)
        lows, highs = near.lows.copy(), near.highs.copy()
        unsure = np.flatnonzero((lows < level) & (highs >= level))
        if len(unsure) > _MANY:
            ends = self._real.first[near.pieces[unsure[0]]], self._real.last[near.pieces[unsure[-1]]]
            finer = self._parabolas(_WIDTH / 8, *map(float, ends))
            at = np.searchsorted(near.pieces, finer.pieces)
            lows[at], highs[at] = np.maximum(lows[at], finer.lows), np.minimum(highs[at], finer.highs)
        places = np.flatnonzero(lows < level)
        lo, hi = self._real.lo[near.pieces[places]], self._real.hi[near.pieces[places]]
        begins = lo.copy()
        some = np.ones(len(places), bool)
        for k in np.flatnonzero(highs[places] >= level):
            part = self._below_on(near, int(places[k]), level)
            some[k] = part is not None
            lo[k], hi[k] = part or (0.0, 0.0)
        places, lo, hi, begins = places[some], lo[some], hi[some], begins[some]
        if not len(places):
            return np.empty((0, 3))
        apart = np.append(True, (hi[:-1] != lo[1:]) | (lo[1:] != begins[1:]))
        first = np.flatnonzero(apart)
        last = np.append(first[1:], len(lo)) - 1
        lowest = [
            self._lowest_in(near.some(slice(places[k], places[m] + 1))).loss
            for k, m in zip(first, last, strict=True)
        ]
        return np.stack((lo[first], hi[last], lowest), axis=1)

    def _below_on(self, near: _Parabolas, place: int, level: float) -> tuple[float, float] | None:
        """The part of a piece on which the loss is below a level, None if there is none."""
        real, piece = self._real, near.pieces[place]
        key = real.key[piece]
        inside = near.dip_of(place)
        if self._at(key, inside)[0] >= level:
            lowest = self._lowest_on(near, place, level)
            if lowest.loss >= level:
                return None
            inside = lowest.lr
        ends = []
        for end, whole in ((real.first[piece], real.lo[piece]), (real.last[piece], real.hi[piece])):
            at = self._crossing(key, float(end), inside, level)
            ends.append(float(whole) if at == end else at)
        return ends[0], ends[1]

    def _crossing(self, key: np.uint64, outside: float, inside: float, level: float) -> float:
        """Where the loss crosses a level between a learning rate outside and one at which it is below;
        the one outside if it is not above there. Newton's method from outside comes nearer and nearer to
        where a convex function crosses, and never beyond, but for rounding."""
        for _ in range(_STEPS):
            f, f1, _ = self._at(key, outside)
            step = outside - (f - level) / f1 if f1 else 0.5 * (outside + inside)
            if f <= level or abs(step - outside) <= 1e-15 * abs(outside):
                break
            if not min(inside, outside) < step < max(inside, outside):
                step = 0.5 * (outside + inside)
            outside = step
        return outside


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
