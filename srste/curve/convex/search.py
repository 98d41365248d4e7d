"""Losses that are convex between events: logistic loss and cross-entropy.

Their values are summed example by example at every learning rate that is asked for. Where the lowest may
be, and where a level may be crossed, parabolas tell (`srste.curve.convex.bounds`); there the loss itself
is searched, convex as it is on each piece.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from srste.curve.convex.bounds import Bounds
from srste.curve.convex.sums import StepSum, together
from srste.curve.engine.follower import CurveInputs, Follower, blocks_by_thread
from srste.curve.engine.kernels.positions import SMALLEST, first_floats
from srste.curve.engine.layout import Steps
from srste.curve.engine.link_table import Links
from srste.curve.engine.threads import in_threads, one_blas_thread
from srste.curve.network.base import ROUNDING, Array, Index, Network, check_within
from srste.losses import ExactForm

_EPS = 2.0**-52
_STEPS = 100  # of a search on one piece; it ends when no float is left, or with the gap it has then
_ROOM = 1.2  # times the events expected; what is not used of it costs nothing
_WORTH_A_THREAD = 10_000  # examples; to pass over fewer is quicker than to begin it elsewhere


class _Lowest(NamedTuple):
    """The lowest loss that was found, where, and whether it is one of the values or a limit of them; no
    loss is below ``bound``, rounding aside."""

    loss: float
    lr: float
    attained: bool
    bound: float


class ConvexSum:
    """A loss on [0, lr_max] that is smooth and convex between events."""

    def __init__(self, sums: StepSum, lr_max: float) -> None:
        self._sums, self._lr_max = sums, lr_max
        self.pre_loss = sums.at(np.uint64(0), 0.0)[0]
        self._searches: dict[int, _Lowest] = {}

    @property
    def starts(self) -> Array:
        """First float of every step but those at t = 0."""
        return first_floats(self._sums.keys)

    def rounding(self, lrs: Array) -> Array:
        """As `srste.curve.engine.piecewise_loss.Pieces.rounding`: each value is a sum of its own."""
        return np.zeros(len(lrs))

    def evaluate(self, lrs: Array) -> None:
        """As `srste.curve.engine.piecewise_loss.Pieces.evaluate`."""
        check_within(lrs, self._lr_max)
        lrs[:] = self._sums.values(lrs)

    @cached_property
    def _bounds(self) -> Bounds:
        return Bounds(self._sums, self._lr_max)

    def lowest(self) -> tuple[float, float, bool, float]:
        """As `srste.curve.engine.piecewise_loss.Pieces.lowest`."""
        loss, lr, attained, bound = self._lowest_in(0, len(self._bounds.keys) - 1)
        return lr, loss, attained, max(loss - bound, 0.0)

    def below(self, level: float) -> Array:
        """As `srste.curve.engine.piecewise_loss.Pieces.below`."""
        bounds = self._bounds

        def left() -> Index:
            pieces = self._perhaps_below(level)
            return pieces[bounds.high[pieces] >= level]

        unsure = {int(piece): self._below_on(int(piece), level) for piece in bounds.narrowed(left)}
        pieces = self._perhaps_below(level)
        pieces = pieces[~np.isin(pieces, [piece for piece, part in unsure.items() if part is None])]
        if not len(pieces):
            return np.empty((0, 3))
        # Whether the loss is below from where a piece begins, and up to where it ends.
        to_end = np.ones((2, len(pieces)), bool)
        ends = {piece: part for piece, part in unsure.items() if part is not None}
        for piece, part in ends.items():
            to_end[:, np.searchsorted(pieces, piece)] = np.equal(part, bounds.ends(piece))
        apart = ~(to_end[1, :-1] & to_end[0, 1:] & self._follow(pieces))
        firsts = pieces[np.flatnonzero(np.append(True, apart))].tolist()
        lasts = pieces[np.flatnonzero(np.append(apart, True))].tolist()
        return np.array(
            [
                (
                    ends.get(first, bounds.ends(first))[0],
                    ends.get(last, bounds.ends(last))[1],
                    self._lowest_in(first, last).loss,
                )
                for first, last in zip(firsts, lasts, strict=True)
            ]
        )

    def _perhaps_below(self, level: float) -> Index:
        """The pieces on which the loss may be below a level, but for those that with their neighbours
        are below it by no more than rounding."""
        bounds = self._bounds
        pieces = np.flatnonzero(bounds.low < level)
        if not len(pieces):
            return pieces
        firsts = np.flatnonzero(np.append(True, ~self._follow(pieces)))
        deep = np.minimum.reduceat(bounds.low[pieces], firsts) < level * (1 - ROUNDING)
        return pieces[np.repeat(deep, np.diff(np.append(firsts, len(pieces))))]

    def _follow(self, pieces: Index) -> NDArray[np.bool_]:
        """(P - 1,): of pieces (P,) in order, whether none with floats is between one and the next."""
        with_floats = np.cumsum(self._bounds.high >= 0, dtype=np.int32)
        follow: NDArray[np.bool_] = np.diff(with_floats[pieces]) == 1
        return follow

    def _lowest_in(self, first: int, last: int) -> _Lowest:
        """Of the pieces from one to another."""
        bounds = self._bounds

        def left() -> Index:
            low, up = bounds.low[first : last + 1], bounds.up[first : last + 1]
            return first + np.flatnonzero((low <= up.min()) & (low < np.inf))

        pieces = bounds.narrowed(left)
        # Of what is equally low, but for rounding, the first.
        low = bounds.low[pieces]
        low = np.maximum(low, low.min() + ROUNDING * bounds.up[pieces].min())
        best, bound = _Lowest(np.inf, SMALLEST, False, np.inf), np.inf
        for piece in pieces[np.argsort(low, kind="stable")]:
            if bounds.low[piece] >= best.loss * (1 - ROUNDING):
                continue
            lowest = self._lowest_on(int(piece), best.loss)
            bound = min(bound, lowest.bound)
            best = min(best, lowest, key=lambda lowest: lowest[:2])
        return best._replace(bound=bound)

    def _lowest_on(self, piece: int, level: float) -> _Lowest:
        """Of one piece. Where the loss on it is not below a level, something above that."""
        lowest = self._searches.get(piece) or self._searched(piece, level)
        if lowest.bound <= level:
            self._searches[piece] = lowest
        return lowest

    def _searched(self, piece: int, level: float) -> _Lowest:
        """By Newton's method on the slope, in a bracket that is halved wherever that does not get on."""
        key = self._bounds.keys[piece]
        first, last = map(float, self._bounds.floats(piece))
        starts_closed, ends_closed = self._bounds.closed(piece)
        lo, hi, length = first, last, np.inf
        best, seen = _Lowest(np.inf, lo, True, -np.inf), set[float]()
        dip = float(self._bounds.dip[piece])
        t = dip if lo <= dip <= hi else lo + 0.5 * (hi - lo)
        for _ in range(_STEPS):
            f, f1, f2 = self._sums.at(key, t)
            seen.add(t)
            # From an end where it does not fall a convex function is nowhere lower.
            if t == first and f1 >= 0:
                return _Lowest(f, t, f1 == 0 or starts_closed, f)
            if t == last and f1 < 0:
                return _Lowest(f, t, ends_closed, f)
            if f1 == 0:
                start = self._sums.at(key, first)[0]
                if start <= f:  # it is level from there
                    f, t = start, first
                return _Lowest(f, t, True, f)
            # A convex function lies above its tangents, and has its minimum within the bracket.
            beyond = abs(f1) * (t - lo if f1 > 0 else hi - t)
            bound = max(best.bound, f - beyond - 4 * _EPS * (f + beyond))
            best = _Lowest(*min((f, t), best[:2]), True, bound)
            if f1 > 0:
                hi = t
            else:
                lo = t
            if best.loss - bound <= 8 * _EPS * best.loss or bound > level:
                break
            middle = lo + 0.5 * (hi - lo)
            newton = min(max(t - f1 / f2, lo), hi) if f2 > 0 else middle
            # Where the bracket has hardly shrunk, Newton's method walks about.
            candidates = (newton if hi - lo < 0.7 * length else middle, middle, lo, hi)
            length = hi - lo
            left = [candidate for candidate in candidates if candidate not in seen]
            if not left:
                break
            t = left[0]
        return best

    def _below_on(self, piece: int, level: float) -> tuple[float, float] | None:
        """The part of a piece on which the loss is below a level, None if there is none."""
        bounds = self._bounds
        key = bounds.keys[piece]
        lowest = self._lowest_on(piece, level)
        if lowest.loss >= level:
            return None

        def crossing(end: Array, real_end: Array) -> float:
            at = self._crossing(key, float(end), lowest.lr, level)
            return float(real_end) if at == end else at

        lo, hi = map(crossing, bounds.floats(piece), bounds.ends(piece))
        return lo, hi

    def _crossing(self, key: np.uint64, outside: float, inside: float, level: float) -> float:
        """Where the loss crosses a level between a learning rate outside and one at which it is below;
        the one outside if it is not above there. Newton's method from outside comes nearer and nearer to
        where a convex function crosses, and never beyond, but for rounding; what is left is halved
        besides, since on an exponential Newton's method takes long."""
        for _ in range(_STEPS):
            f, f1, _ = self._sums.at(key, outside)
            newton = outside - (f - level) / f1 if f1 else outside
            if f <= level or abs(newton - outside) <= 1e-15 * abs(outside):
                break
            if min(inside, outside) < newton < max(inside, outside):
                outside = newton
            middle = inside + 0.5 * (outside - inside)
            if middle in (inside, outside):
                break
            if self._sums.at(key, middle)[0] > level:
                outside = middle
            else:
                inside = middle
        return outside


def convex_sum(
    network: Network, links: Links, batch: CurveInputs, form: ExactForm, lr_max: float
) -> ConvexSum:
    """The mean over the batch of cross-entropies, or of logistic losses."""
    classes = form is ExactForm.SOFTMAX
    outputs = network.units[-1]
    all_blocks, parts = blocks_by_thread(links, len(batch))
    largest = all_blocks[0].stop

    def work(part: int) -> Steps:
        numbers = parts[part]
        begin, end = all_blocks[numbers.start].start, all_blocks[numbers.stop - 1].stop
        at_start, counts = np.empty((end - begin, 2 * outputs)), np.empty(end - begin, np.int64)
        follower = Follower(network, links, batch, largest)
        count, events = 0, np.empty((8 * largest, 1 + 2 * outputs))
        for number in numbers:
            if number == numbers.start + 1:
                # As the first block went, so will the others: to move into larger memory takes both.
                room = int(_ROOM * count * (end - begin) / largest)
                first, events = events, np.empty((max(room, len(events)), 1 + 2 * outputs))
                events[:count] = first[:count]
            block = all_blocks[number]
            rows = slice(block.start - begin, block.stop - begin)
            count, events = follower.follow(block, False, at_start[rows], counts[rows], count, events)
        return Steps(at_start, counts, events[:count], batch.targets[begin:end], classes)

    with one_blas_thread():
        steps = in_threads(work, len(parts))
    if len(batch) < _WORTH_A_THREAD:
        steps = [together(steps)]
    return ConvexSum(StepSum(steps, batch.share), lr_max)
