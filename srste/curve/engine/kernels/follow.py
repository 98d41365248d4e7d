"""Examples followed through their flips, from t = 0 on, each flip carried through the network."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, grown, inlined
from srste.curve.engine.kernels.flipping import flip, propagate, propagate_chain, read_word
from srste.curve.engine.kernels.lanes import smallest_lane, splat
from srste.curve.engine.kernels.positions import NEVER, START
from srste.curve.engine.layout import (
    WORD,
    Examples,
    Flipped,
    IntVector,
    LinkTable,
    Matrix,
    Touched,
    Units,
)

Follow = Callable[..., tuple[int, Matrix]]


@compiled
def start(units: Units, layer: int, rows: int, width: int) -> None:
    """Fill in ``flips``, ``up`` and ``next_flip`` of a layer for t = 0, from the ``affine`` of its rows.

    width: of the layer, a multiple of `WORD`.
    """
    for row in range(rows):
        first = splat(NEVER)
        for begin in range(0, width, WORD):
            word, first = read_word(START, units, True, layer, row, width, begin, first)
            units.up[layer, row, begin // WORD] = word
        units.next_flip[layer, row] = smallest_lane(first)


@inlined
def _squared_error(
    units: Units, links: LinkTable, row: int, examples: Examples
) -> tuple[float, float, float]:
    """The coefficients of 1, t, t^2 in ``share * |a - t d - target|^2``."""
    last = len(links.widths) - 1
    width = links.widths[last]
    c0 = c1 = c2 = 0.0
    for k in range(examples.targets.shape[1]):
        residual = units.affine[last, row, k] - examples.targets[row, k]
        slope = units.affine[last, row, width + k]
        c0 += residual * residual
        c1 += residual * slope
        c2 += slope * slope
    return examples.share * c0, -2 * examples.share * c1, examples.share * c2


@inlined
def _write_outputs(units: Units, links: LinkTable, row: int, into: Matrix, at: int) -> None:
    """Put an example's outputs, a and then d, into the last columns of a row of ``into``."""
    last, outputs = len(links.widths) - 1, links.outputs
    width, begin = links.widths[last], into.shape[1] - 2 * outputs
    for k in range(outputs):
        into[at, begin + k] = units.affine[last, row, k]
        into[at, begin + outputs + k] = units.affine[last, row, width + k]


def _following(is_chain: bool) -> Follow:
    """The kernel for chains, or for any network: leaving out what chains do not need saves a tenth of
    the time, and half of the time to compile."""

    def follow(
        links: LinkTable,
        units: Units,
        examples: Examples,
        squared: bool,
        at_start: Matrix,
        counts: IntVector,
        count: int,
        events: Matrix,
    ) -> tuple[int, Matrix]:
        """Follow every example of a block from t = 0 on, from one flip to the next.

        A unit that flips changes the (a, d) of the layers that read it; those of their units that then
        have another sign change the layers after them, and so on until no sign changes.

        Args:
            units: as `start` leaves them, with rows to spare or not; overwritten.
            squared: whether an event is what it adds to the squared error, or the outputs after it.
            at_start: (rows, 3) or (rows, 2 out), is filled: the coefficients of each example's loss at
                t = 0, or its outputs (a, then d).
            counts: (rows,), is filled: how many events each example has.
            count, events: those of the blocks before, see Returns; there may be room for more.
        Returns:
            F, the number of events; and (F, 1 + 3) or (F, 1 + 2 out), the position of each as the bits
            of a float and then what ``at_start`` holds too: increments of the coefficients, or outputs.
            In order of examples, and of position within each. The array is the one that was given, or
            a larger one.
        """
        last = len(links.widths) - 1
        c0 = c1 = c2 = 0.0
        keys = events.view(np.uint64)
        widest = links.widths.max()
        flipped = Flipped(np.empty(widest, np.int64), np.empty(widest))
        # Where more than a quarter of the units are touched, all of them at once are quicker.
        touched = Touched(
            np.empty((last + 1, max(16, widest // 4)), np.int64), np.zeros(last + 1, np.int64)
        )

        for row in range(len(examples.targets)):
            before = count
            if squared:
                c0, c1, c2 = _squared_error(units, links, row, examples)
                at_start[row, 0], at_start[row, 1], at_start[row, 2] = c0, c1, c2
            else:
                _write_outputs(units, links, row, at_start, row)
            while True:
                position, layer = examples.end, 0
                # Of several at once the lowest: it may change the others' plans.
                for hidden in range(last):
                    if units.next_flip[hidden, row] < position:
                        position, layer = units.next_flip[hidden, row], hidden
                if position == examples.end:
                    break

                n_flipped = flip(position, units, False, layer, row, links.widths[layer], flipped)
                if is_chain:
                    is_reached = propagate_chain(position, units, links, layer, row, flipped, n_flipped)
                else:
                    is_reached = propagate(
                        position, units, links, layer, row, flipped, n_flipped, touched
                    )
                if not is_reached:
                    continue

                if count == len(events):
                    events = grown(events, count, count)
                    keys = events.view(np.uint64)
                keys[count, 0] = position
                if squared:
                    b0, b1, b2 = c0, c1, c2
                    c0, c1, c2 = _squared_error(units, links, row, examples)
                    events[count, 1], events[count, 2], events[count, 3] = c0 - b0, c1 - b1, c2 - b2
                else:
                    _write_outputs(units, links, row, events, count)
                count += 1
            counts[row] = count - before
        return count, events

    # Numba numbers what its cache keeps under one name, and two processes that compile at the same time
    # may give two kernels the same number.
    follow.__qualname__ += "-chain" if is_chain else ""
    return compiled(follow)


_compiling = Lock()
_kernels: dict[bool, Follow] = {}


def follow_kernel(is_chain: bool) -> Follow:
    """`follow` for chains or for any network, compiled when it is first asked for.

    A chain is a network of which each layer has one link to the next one, a dense one, and no other.
    """
    with _compiling:
        if is_chain not in _kernels:
            _kernels[is_chain] = _following(is_chain)
        return _kernels[is_chain]
