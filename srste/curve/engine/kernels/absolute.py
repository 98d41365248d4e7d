"""Events of the absolute error: those of the outputs, and where a residual changes its sign."""

from __future__ import annotations

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, grown
from srste.curve.engine.kernels.positions import START, position_of_flip, sign_at
from srste.curve.engine.layout import Examples, IntVector, Matrix


@compiled
def absolute_error(
    at_start: Matrix,
    counts: IntVector,
    outputs: Matrix,
    examples: Examples,
    count: int,
    events: Matrix,
) -> tuple[int, Matrix]:
    """The events of ``share * sum |output - target|``, as in `srste.curve.engine.kernels.piecewise`.

    Args: at_start, counts, outputs: as `follow` leaves them, its events being outputs. count, events:
        those that are there already; there may be room for more.
    Returns: how many there are now, and the array, the one that was given or a larger one.
    """
    keys = events.view(np.uint64)
    output_keys = outputs.view(np.uint64)
    targets = examples.targets
    width = targets.shape[1]
    first = 0
    for row in range(len(targets)):
        c0 = c1 = 0.0
        for segment in range(-1, counts[row]):
            place = first + segment
            start = output_keys[place, 0] if segment >= 0 else START
            stop = output_keys[place + 1, 0] if segment + 1 < counts[row] else examples.end
            if count + width + 1 > len(events):
                events = grown(events, count, count + width + 1)
                keys = events.view(np.uint64)
            b0, b1 = c0, c1
            c0 = c1 = 0.0
            begin = count  # this segment's start; the crossings within it come after
            count += 1
            for k in range(width):
                a = at_start[row, k] if segment < 0 else outputs[place, 1 + k]
                d = at_start[row, width + k] if segment < 0 else outputs[place, 1 + width + k]
                a -= targets[row, k]
                crossing = position_of_flip(a, d)
                sign = examples.share * sign_at(start, crossing)
                c0 += sign * a
                c1 -= sign * d
                if start < crossing < stop:
                    keys[count, 0] = crossing
                    events[count, 1], events[count, 2], events[count, 3] = -2 * sign * a, 2 * sign * d, 0
                    count += 1
            keys[begin, 0] = start
            events[begin, 1], events[begin, 2], events[begin, 3] = c0 - b0, c1 - b1, 0.0
            # What the crossings have changed by the end of the segment.
            for k in range(begin + 1, count):
                c0 += events[k, 1]
                c1 += events[k, 2]
        first += counts[row]
    return count, events
