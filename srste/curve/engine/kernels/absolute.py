"""The absolute error of outputs that are linear between events: its own events, where a residual's sign
changes as well."""

from __future__ import annotations

import numpy as np

from srste.curve.engine.kernels.compiling import compiled
from srste.curve.engine.kernels.positions import AT_REST, Array, position_of_flip, sign_at
from srste.curve.engine.kernels.turning import Index


@compiled(
    "Tuple((int64, float64[:,::1]))(float64[:,::1], int64[::1], float64[:,::1], float64[:,::1], float64,"
    "uint64, int64, float64[:,::1])"
)
def absolute_error(
    at_rest: Array,
    counts: Index,
    outputs: Array,
    targets: Array,
    share: float,
    end: np.uint64,
    found: int,
    events: Array,
) -> tuple[int, Array]:
    """The events of ``share * sum |output - target|``, as in `srste.curve.engine.kernels.piecewise`.

    Args: at_rest, counts, outputs: as `follow` leaves them, its events being outputs. targets: (rows,
        out). end: as in `follow`. found, events: those that are there already; there may be room for
        more. Returns: how many there are now, and the array, the one that was given or a larger one.
    """
    keys = events.view(np.uint64)
    given = outputs.view(np.uint64)
    width = targets.shape[1]
    first = 0
    for row in range(len(targets)):
        c0 = c1 = 0.0
        for segment in range(-1, counts[row]):
            here = first + segment
            start = given[here, 0] if segment >= 0 else AT_REST
            stop = given[here + 1, 0] if segment + 1 < counts[row] else end
            if found + width + 1 > len(events):
                larger = np.empty((2 * (found + width + 1), 4))
                larger[:found] = events[:found]
                events = larger
                keys = events.view(np.uint64)
            b0, b1 = c0, c1
            c0 = c1 = 0.0
            mine = found  # this segment's own start; the crossings within it come after
            found += 1
            for k in range(width):
                a = at_rest[row, k] if segment < 0 else outputs[here, 1 + k]
                d = at_rest[row, width + k] if segment < 0 else outputs[here, 1 + width + k]
                a -= targets[row, k]
                crossing = position_of_flip(a, d)
                sign = share * sign_at(start, crossing)
                c0 += sign * a
                c1 -= sign * d
                if start < crossing < stop:
                    keys[found, 0] = crossing
                    events[found, 1], events[found, 2], events[found, 3] = -2 * sign * a, 2 * sign * d, 0
                    found += 1
            keys[mine, 0] = start
            events[mine, 1], events[mine, 2], events[mine, 3] = c0 - b0, c1 - b1, 0.0
            # What the crossings have changed by the end of the segment.
            for k in range(mine + 1, found):
                c0 += events[k, 1]
                c1 += events[k, 2]
        first += counts[row]
    return found, events
