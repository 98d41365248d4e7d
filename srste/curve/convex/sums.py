"""A sum of losses that are convex and smooth between events, and what is read off it one by one."""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from srste.curve.engine.kernels import convex_losses as kernels
from srste.curve.engine.kernels import parabolas
from srste.curve.engine.layout import Steps
from srste.curve.engine.threads import Result, in_threads, shares, threads
from srste.curve.network.base import Array, Index

# Over a cell the arguments of a loss move by at most this. Log-sum-exp has its singularities where two
# arguments differ by i pi or more, a factor of 2 pi away from the cell's half width, so that polynomials
# through 15 Chebyshev nodes are off by less than 4 (2 pi + sqrt(4 pi^2 + 1))^-15 = 1e-16 of a loss.
_CELL = 1.0
_ANGLES = (2 * np.arange(15) + 1) * np.pi / 30
_NODES, _WEIGHTS = np.cos(_ANGLES), np.sin(_ANGLES) * (-1.0) ** np.arange(15)
_MOST_AT_ONCE = 100_000  # learning rates, of which each takes the memory of the nodes


def together(parts: list[Steps]) -> Steps:
    """The examples of all parts as one."""
    if len(parts) == 1:
        return parts[0]
    at_start, counts, outputs, targets = map(np.concatenate, list(zip(*parts, strict=True))[:4])
    return Steps(at_start, counts, outputs, targets, parts[0].classes)


class StepSum:
    """The mean loss of a batch whose examples are in several parts, each worth a thread.

    share: what a loss counts in the mean.
    """

    def __init__(self, parts: list[Steps], share: float) -> None:
        self._parts, self._share = parts, share
        self.examples = sum(len(part.counts) for part in parts)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Positions of all events, in any order."""
        return np.concatenate([part.keys for part in self._parts])

    def at(self, position: np.uint64, lr: float) -> tuple[float, float, float]:
        """(loss, slope, curvature) at lr, of the steps that a position lies in."""
        f, f1, f2 = np.sum(self._each(lambda part: kernels.derivatives(part, position, lr)), axis=0)
        return float(f) * self._share, float(f1) * self._share, float(f2) * self._share

    def values(self, lrs: Array) -> Array:
        """The losses at learning rates (any,)."""
        order = np.argsort(lrs, kind="stable")
        ascending, sums = lrs[order], np.zeros(len(lrs))
        runs = shares(max(1, min(threads(), len(lrs)), math.ceil(len(lrs) / _MOST_AT_ONCE)), len(lrs))
        workers = shares(min(threads(), len(runs)), len(runs))
        widest = max(widest for widest, _ in self._spreads)

        def work(worker: int) -> None:
            for run in workers[worker]:
                places = slice(runs[run].start, runs[run].stop)
                for part in self._parts:
                    _add_values(part, widest, ascending[places], sums[places])

        in_threads(work, len(workers))
        losses = np.empty(len(lrs))
        # What is interpolated may come out a rounding below zero.
        losses[order] = np.maximum(sums, 0.0) * self._share
        return losses

    def parts_by_cell(self, width: float, begin: float, end: float, cells: int) -> Index:
        """As the kernel of that name."""
        counts: Index = np.sum(
            self._each(lambda part: parabolas.parts_by_cell(part, width, begin, end, cells)), axis=0
        )
        return counts

    def parabolas(self, width: float, begin: float, end: float) -> tuple[Array, float]:
        """(events, error): those of the kernel of that name, for all parts."""
        parts = self._each(lambda part: parabolas.parabolas(part, self._share, width, begin, end))
        events = [events[:count] for count, events, _ in parts]
        return events[0] if len(events) == 1 else np.concatenate(events), sum(e for *_, e in parts)

    @property
    def mean_spread(self) -> float:
        """By how much a unit of t moves the arguments of an example's loss at most, on average."""
        return sum(total for _, total in self._spreads) / self.examples

    @cached_property
    def _spreads(self) -> list[tuple[float, float]]:
        return self._each(kernels.spreads)

    def _each(self, of: Callable[[Steps], Result]) -> list[Result]:
        """Of every part, on a thread each."""
        return in_threads(lambda part: of(self._parts[part]), len(self._parts))


def _add_values(part: Steps, widest: float, lrs: Array, sums: Array) -> None:
    """Add the losses at ascending learning rates, by polynomials where that is less work.

    widest: what a unit of t moves the arguments of a loss by at most.
    """
    if not len(lrs):
        return
    length = lrs[-1] - lrs[0]
    cells = widest * length / _CELL
    each = len(part.outputs) / len(part.counts)
    # Nodes between learning rates that are hardly apart, or hardly above 0, would be no nodes.
    apart = length > 1e-9 * lrs[-1] and length > 1e-300
    if cells * len(_NODES) + 2 * each * len(_NODES) < len(lrs) and apart and cells > 0:
        kernels.add_interpolated(part, lrs, sums, math.ceil(cells), _NODES, _WEIGHTS)
    else:
        kernels.add_values(part, lrs, sums)
