"""The pieces of a loss that is convex between events, and within which bounds the loss is on each."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from srste.curve.convex.sums import StepSum
from srste.curve.engine.kernels import parabolas as kernels
from srste.curve.engine.kernels.piecewise import add_up
from srste.curve.engine.kernels.positions import SMALLEST, first_floats, just_after
from srste.curve.network.base import Array, Index

_WIDTH = 0.1  # what the arguments of a loss move by over one parabola at first: off by 2e-6 then
_PARTS = (
    50  # of an example at first, about, where its loss is steep; without this up to 10 times as long
)
_WIDEST = 1e100
_FINER = 64
_FINEST = 1e-6  # off by less than rounding
_FEW = 4  # pieces, of which the losses themselves are looked at; without this 2.4 times as long

_AT_ONCE = 2_000_000  # parabolas, 32 bytes each
_CELLS = 256


class Bounds:
    """Bounds of the loss on the R pieces of (0, lr_max] between events, on each of which it is convex
    and smooth.

    keys: (R,) positions where they start.
    low, up, high: (R,) no loss on a piece is below ``low`` or above ``high``, the lowest not above
        ``up``. At first 0 and infinite; without floats on a piece, infinite and below 0.
    dip: (R,) where it is lowest, about; not a number at first.

    Parabolas over parts of an example's steps give them (Taylor's theorem bounds the rest), wide parts
    first and then finer ones where several pieces are left.
    """

    def __init__(self, sums: StepSum, lr_max: float) -> None:
        self._sums = sums
        edges = np.unique(np.concatenate((sums.keys, [np.uint64(0), just_after(lr_max)])))
        self.keys: NDArray[np.uint64] = edges[:-1]
        self._after: NDArray[np.uint64] = edges[1:]
        count = len(self.keys)
        self.low, self.dip = np.zeros(count), np.full(count, np.nan)
        self.up, self.high = np.full(count, np.inf), np.full(count, np.inf)
        first, last = self.floats(slice(None))
        self.low[first > last], self.high[first > last] = np.inf, -np.inf
        self._bounded = count <= _FEW
        self._width = min(max(_WIDTH, sums.mean_spread * lr_max / _PARTS), _WIDEST)

    def ends(self, pieces: Index | slice | int) -> tuple[Array, Array]:
        """(lo, hi): the real numbers where they begin and end; of one piece, one each."""
        keys, after = self.keys[pieces], self._after[pieces]
        return (keys >> np.uint64(1)).view(np.float64), (after >> np.uint64(1)).view(np.float64)

    def floats(self, pieces: Index | slice | int) -> tuple[Array, Array]:
        """(first, last): floats that lie in them; of one piece, one each."""
        first = np.maximum(first_floats(self.keys[pieces]), SMALLEST)
        return first, np.nextafter(first_floats(self._after[pieces]), -np.inf)

    def closed(self, piece: int) -> tuple[bool, bool]:
        """Whether a piece has the real number where it begins, and the one where it ends."""
        key, after = int(self.keys[piece]), int(self._after[piece])
        return key % 2 == 0 and key > 0, after % 2 == 1

    def narrowed(self, left: Callable[[], Index]) -> Index:
        """The pieces that are left, in order, once finer parabolas leave few of them or tell no more."""
        if not self._bounded:
            self._tighten(0, len(self.keys) - 1, self._width)
            self._bounded = True
        pieces, width = left(), self._width / _FINER
        while len(pieces) > _FEW and width >= _FINEST:
            for run in self._runs(pieces, width):
                self._tighten(*run, width)
            pieces, width = left(), width / _FINER
        return pieces

    def _runs(self, pieces: Index, width: float) -> list[tuple[int, int]]:
        """The first and the last pieces of stretches without gaps that are longer than parabolas."""
        lo, hi = self.ends(pieces)
        apart = np.flatnonzero((lo[1:] - hi[:-1]) * self._sums.mean_spread > width)
        firsts, lasts = pieces[np.append(0, apart + 1)], pieces[np.append(apart, len(pieces) - 1)]
        return list(zip(firsts.tolist(), lasts.tolist(), strict=True))

    def _tighten(self, first: int, last: int, width: float) -> None:
        """Tighten the bounds of these pieces by parabolas of a width."""
        pieces = slice(first, last + 1)
        low, up, high = self.low[pieces], self.up[pieces], self.high[pieces]
        before = (low.copy(), up.copy(), high.copy()) if self._bounded else None
        low[:], up[:], high[:] = np.inf, np.inf, -np.inf
        (from_first, _), (_, to_last) = self.floats(first), self.floats(last)
        for begin, end in self._ranges(float(from_first), float(to_last), width):
            events, error = self._sums.parabolas(width, begin, end)
            table = events[: add_up(events, end, events, True)]
            at = np.searchsorted(self.keys, table.view(np.uint64)[0, 0], side="right") - 1
            kernels.bound(table, end, error, self.keys, at, self.low, self.up, self.high, self.dip)
        if before is not None:
            np.maximum(low, before[0], out=low)
            # Two bounds of the same number may be a rounding apart, the wrong way round.
            np.maximum(np.minimum(up, before[1]), low, out=up)
            np.minimum(high, before[2], out=high)

    def _ranges(self, begin: float, end: float, width: float) -> Iterator[tuple[float, float]]:
        """Parts of a range with not too many parabolas at once, each from where the last one ends."""
        cells = self._sums.parts_by_cell(width, begin, end, _CELLS)
        edges = np.append(begin + (end - begin) * np.arange(_CELLS) / _CELLS, end)
        start, count = 0, 0
        for cell in range(_CELLS):
            if start < cell and count + cells[cell] > _AT_ONCE:
                yield float(edges[start]), float(edges[cell])
                start, count = cell, 0
            count += cells[cell]
            if count > _AT_ONCE and (begin < edges[cell] or edges[cell + 1] < end):
                yield from self._ranges(float(edges[cell]), float(edges[cell + 1]), width)
                start, count = cell + 1, 0
        if start < _CELLS:
            yield float(edges[start]), end
