"""Examples followed through their flips, from t = 0 on, each flip carried through the network."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, part
from srste.curve.engine.kernels.lanes import lowest, splat
from srste.curve.engine.kernels.positions import (
    AT_REST,
    NEVER,
    Array,
    Positions,
)
from srste.curve.engine.kernels.turning import WORD, Index, down, down_chain, look, turn

Follow = Callable[..., tuple[int, Array]]


@compiled("void(float64[:,:,::1], uint64[:,:,::1], uint64[:,:,::1], uint64[:,::1], int64, int64, int64)")
def settle(
    moving: Array, flips: Positions, up: Positions, due: Positions, layer: int, rows: int, width: int
) -> None:
    """Fills in, for the first rows of a layer, what `follow` begins with.

    Args:
        moving: (layers, rows, 2 widest): a, then d, of every unit; is read.
        flips: (hidden layers, rows, widest): where it flips. up: (hidden layers, rows, words): a bit for
            every unit that is up at t = 0.
        due: (hidden layers, rows): the first flip after t = 0.
        width: of the layer, a multiple of `WORD`.
    """
    for row in range(rows):
        a = (layer * moving.shape[1] + row) * moving.shape[2]
        at = (layer * flips.shape[1] + row) * flips.shape[2]
        first = splat(NEVER)
        for begin in range(0, width, WORD):
            word, first = look(AT_REST, moving, True, flips, a + begin, width, at + begin, first)
            up[layer, row, begin // WORD] = word
        due[layer, row] = lowest(first)


@part
def _squared_error(
    moving: Array, width: int, targets: Array, layer: int, row: int, share: float
) -> tuple[float, float, float]:
    """The coefficients of 1, t, t^2 in ``share * |a - t d - target|^2``."""
    c0 = c1 = c2 = 0.0
    for k in range(targets.shape[1]):
        residual = moving[layer, row, k] - targets[row, k]
        slope = moving[layer, row, width + k]
        c0 += residual * residual
        c1 += residual * slope
        c2 += slope * slope
    return share * c0, -2 * share * c1, share * c2


@part
def _write_outputs(
    moving: Array, width: int, layer: int, row: int, into: Array, at: int, outputs: int
) -> None:
    """Puts an example's outputs, a and then d, into the last columns of a row of ``into``."""
    begin = into.shape[1] - 2 * outputs
    for k in range(outputs):
        into[at, begin + k] = moving[layer, row, k]
        into[at, begin + outputs + k] = moving[layer, row, width + k]


def _following(chain: bool) -> Follow:
    """The kernel for chains, or for any network: what a chain does not need is a tenth of the time."""

    @compiled(
        "Tuple((int64, float64[:,::1]))("
        "int64, int64[::1], int64[::1], int64[:,::1], float64[::1], int64[::1], int64[::1],"
        "float64[:,::1], float64[:,:,::1], uint64[:,:,::1], uint64[:,:,::1], uint64[:,::1],"
        "float64[:,::1], float64, uint64, boolean, float64[:,::1], int64[::1], int64, float64[:,::1])",
        "-chain" if chain else "",
    )
    def follow(
        outputs: int,
        widths: Index,
        first: Index,
        links: Index,
        jumps: Array,
        starts: Index,
        ends: Index,
        pairs: Array,
        moving: Array,
        flips: Positions,
        up: Positions,
        due: Positions,
        targets: Array,
        share: float,
        end: np.uint64,
        squared: bool,
        at_rest: Array,
        counts: Index,
        found: int,
        events: Array,
    ) -> tuple[int, Array]:
        """Follows every example of a block from t = 0 on, from one flip to the next.

        A unit that flips changes the (a, d) of the layers that read it; those of their units that then
        have another sign change the layers after them, and so on until no sign changes.

        Args:
            outputs: units of the last layer.
            widths, first, links, jumps, starts, ends, pairs: of `srste.curve.engine.link_table.Links`.
            moving, flips, up, due: as `settle` leaves them, with rows to spare or not; overwritten.
            targets: (rows, out); of squared errors alone. share: what a squared residual counts in the
                mean.
            end: flips are followed up to this position, exclusive.
            squared: whether an event is what it adds to the squared error, or the outputs after it.
            at_rest: (rows, 3) or (rows, 2 out), is filled: the coefficients of each example's loss at
                t = 0, or its outputs (a, then d).
            counts: (rows,), is filled: how many events each example has.
            found, events: those of the blocks before, see Returns; there may be room for more.
        Returns:
            F, the number of events; and (F, 1 + 3) or (F, 1 + 2 out), the position of each as the bits
            of a float and then what ``at_rest`` holds too: increments of the coefficients, or outputs.
            In order of examples, and of position within each. The array is the one that was given, or
            a larger one.
        """
        last = len(widths) - 1
        c0 = c1 = c2 = 0.0
        keys = events.view(np.uint64)
        turned, ways = np.empty(widths.max(), np.int64), np.empty(widths.max())
        # Where more than a quarter of the units are touched, all of them at once are quicker.
        touched = np.empty((last + 1, max(16, widths.max() // 4)), np.int64)
        touches = np.zeros(last + 1, np.int64)

        for row in range(len(targets)):
            before = found
            if squared:
                c0, c1, c2 = _squared_error(moving, widths[last], targets, last, row, share)
                at_rest[row, 0], at_rest[row, 1], at_rest[row, 2] = c0, c1, c2
            else:
                _write_outputs(moving, widths[last], last, row, at_rest, row, outputs)
            while True:
                position, layer = end, 0
                # Of several at once the lowest: it may change the others' plans.
                for hidden in range(last):
                    if due[hidden, row] < position:
                        position, layer = due[hidden, row], hidden
                if position == end:
                    break

                count, due[layer, row] = turn(
                    position, moving, False, flips, up, layer, row, widths[layer], turned, ways
                )
                if chain:
                    is_reached = down_chain(
                        position, moving, flips, up, due, layer, row, turned, ways, count,
                        widths, links, jumps,
                    )  # fmt: skip
                else:
                    is_reached = down(
                        position, moving, flips, up, due, layer, row, turned, ways, count,
                        widths, first, links, jumps, starts, ends, pairs, touched, touches,
                    )  # fmt: skip
                if not is_reached:
                    continue

                if found == len(events):
                    larger = np.empty((max(1024, 2 * found), events.shape[1]))
                    larger[:found] = events
                    events = larger
                    keys = events.view(np.uint64)
                keys[found, 0] = position
                if squared:
                    b0, b1, b2 = c0, c1, c2
                    c0, c1, c2 = _squared_error(moving, widths[last], targets, last, row, share)
                    events[found, 1], events[found, 2], events[found, 3] = c0 - b0, c1 - b1, c2 - b2
                else:
                    _write_outputs(moving, widths[last], last, row, events, found, outputs)
                found += 1
            counts[row] = found - before
        return found, events

    return follow


_compiling = Lock()
_kernels: dict[bool, Follow] = {}


def following(chain: bool) -> Follow:
    """`follow` for chains or for any network, compiled when it is first asked for."""
    with _compiling:
        if chain not in _kernels:
            _kernels[chain] = _following(chain)
        return _kernels[chain]
