"""Losses that are convex, but no polynomials, between events: logistic loss and cross-entropy.

The output of an example is linear in t between two of its events, a step; its loss is a smooth convex
function there. Its first three derivatives are those of the log-sum-exp of numbers that are linear in t.
"""

from __future__ import annotations

import math

import numpy as np

from srste.curve.kernels.compiling import compiled, part
from srste.curve.kernels.following import Index
from srste.curve.kernels.positions import AT_REST, ONE, Array, position_of

_MOST_PARTS = 1000.0  # of a step; the bound says what fewer parts than wanted cost


@part
def _loss(
    row: Array, first: int, targets: Array, example: int, width: int, classes: bool, t: float
) -> tuple[float, float, float]:
    """(loss, its slope, its curvature) at t of an example whose outputs ``a - t d`` stand in a row, from
    a place on: a, then d."""
    loss = slope = curvature = 0.0
    if classes:
        highest = -np.inf
        for k in range(width):
            highest = max(highest, row[first + k] - t * row[first + width + k])
        total = mean = square = 0.0
        for k in range(width):
            d = row[first + width + k]
            weight = math.exp(row[first + k] - t * d - highest)
            total += weight
            mean += weight * d
            square += weight * d * d
        mean /= total
        own = int(targets[example, 0])
        d = row[first + width + own]
        loss = math.log(total) + highest - (row[first + own] - t * d)
        return loss, d - mean, max(square / total - mean * mean, 0.0)
    for k in range(width):
        target = targets[example, k]
        margin = target * (row[first + k] - t * row[first + width + k])
        d = target * row[first + width + k]
        small = math.exp(-abs(margin))
        up = 1 / (1 + small) if margin < 0 else small / (1 + small)  # the logistic function of -margin
        loss += math.log1p(small) + max(-margin, 0.0)
        slope += up * d
        curvature += d * d * small / ((1 + small) * (1 + small))
    return loss, slope, curvature


@part
def _spread(row: Array, first: int, targets: Array, example: int, width: int, classes: bool) -> float:
    """By how much a unit of t moves the loss's arguments: the range of d over the classes; the sum of
    its magnitudes over the outputs of a logistic loss."""
    lowest, highest, total = np.inf, -np.inf, 0.0
    for k in range(width):
        d = row[first + width + k]
        lowest, highest, total = min(lowest, d), max(highest, d), total + abs(d)
    return highest - lowest if classes else total


_ROW = "float64[:,::1], int64[::1], float64[:,::1], float64[:,::1], boolean"


@compiled(f"void({_ROW}, float64[::1], float64[::1])")
def add_values(
    at_rest: Array, counts: Index, outputs: Array, targets: Array, classes: bool, lrs: Array, sums: Array
) -> None:
    """Adds every example's loss at learning rates in ascending order to sums, of their shape.

    Args: at_rest: (batch, 2 out) outputs at t = 0, a, then d. counts: (batch,): how many events of an
        example follow in outputs (F, 1 + 2 out), a position and the outputs from there on.
    """
    keys = outputs.view(np.uint64)
    width = at_rest.shape[1] // 2
    here = 0
    for example in range(len(counts)):
        stop = here + counts[example]
        in_outputs, place = False, example
        due = keys[here, 0] if here < stop else ~AT_REST
        for k in range(len(lrs)):
            position = position_of(lrs[k])
            while due <= position:
                in_outputs, place = True, here
                here += 1
                due = keys[here, 0] if here < stop else ~AT_REST
            if in_outputs:
                loss, _, _ = _loss(outputs[place], 1, targets, example, width, classes, lrs[k])
            else:
                loss, _, _ = _loss(at_rest[place], 0, targets, example, width, classes, lrs[k])
            sums[k] += loss
        here = stop


@compiled(f"Tuple((float64, float64, float64))({_ROW}, uint64, float64)")
def derivatives(
    at_rest: Array,
    counts: Index,
    outputs: Array,
    targets: Array,
    classes: bool,
    position: np.uint64,
    t: float,
) -> tuple[float, float, float]:
    """The sum over the batch of (loss, slope, curvature) at t, of the step that holds at a position."""
    keys = outputs.view(np.uint64)
    width = at_rest.shape[1] // 2
    here = 0
    total = slope = curvature = 0.0
    for example in range(len(counts)):
        stop = here + counts[example]
        low, high = here, stop  # of its events those before ``low`` have been
        while low < high:
            middle = (low + high) // 2
            if keys[middle, 0] <= position:
                low = middle + 1
            else:
                high = middle
        if low > here:
            f, f1, f2 = _loss(outputs[low - 1], 1, targets, example, width, classes, t)
        else:
            f, f1, f2 = _loss(at_rest[example], 0, targets, example, width, classes, t)
        total += f
        slope += f1
        curvature += f2
        here = stop
    return total, slope, curvature


@compiled(f"Tuple((int64, float64[:,::1], float64))({_ROW}, float64, float64, float64, float64)")
def parabolas(
    at_rest: Array,
    counts: Index,
    outputs: Array,
    targets: Array,
    classes: bool,
    share: float,
    width: float,
    begin: float,
    end: float,
) -> tuple[int, Array, float]:
    """Every step of every example from ``begin`` to ``end`` cut into pieces over which its arguments
    move by at most ``width``, and the loss on each replaced by its Taylor parabola in the middle.

    Returns: how many events there are, the events as in `srste.curve.kernels.pieces`, and a bound on how
    far their sum is from that of the losses: third derivatives are at most spread^3 / (6 sqrt 3).
    """
    keys = outputs.view(np.uint64)
    units = at_rest.shape[1] // 2
    events = np.empty((1024, 4))
    own = events.view(np.uint64)
    found, here, error = 0, 0, 0.0
    for example in range(len(counts)):
        b0 = b1 = b2 = 0.0
        worst = 0.0
        for step in range(-1, counts[example]):
            first = 0 if step < 0 else 1
            row = at_rest[example] if step < 0 else outputs[here + step]
            start = AT_REST if step < 0 else keys[here + step, 0]
            lo: float = np.uint64(start >> ONE).view(np.float64)
            hi = end
            if step + 1 < counts[example]:
                hi = min(hi, np.uint64(keys[here + step + 1, 0] >> ONE).view(np.float64))
            if hi < begin:
                continue
            if lo > end:
                break
            if lo < begin:
                lo = begin
                start = position_of(begin)
            spread = _spread(row, first, targets, example, units, classes)
            parts = int(max(1.0, min(math.ceil(spread * (hi - lo) / width), _MOST_PARTS)))
            while found + parts > len(events):
                larger = np.empty((2 * len(events), 4))
                larger[:found] = events[:found]
                events = larger
                own = events.view(np.uint64)
            for k in range(parts):
                left, right = lo + (hi - lo) * k / parts, lo + (hi - lo) * (k + 1) / parts
                middle = 0.5 * (left + right)
                f, f1, f2 = _loss(row, first, targets, example, units, classes, middle)
                c2 = 0.5 * f2
                c1 = f1 - f2 * middle
                c0 = f - f1 * middle + 0.5 * f2 * middle * middle
                own[found, 0] = start if k == 0 else position_of(left)
                events[found, 1] = share * (c0 - b0)
                events[found, 2] = share * (c1 - b1)
                events[found, 3] = share * (c2 - b2)
                b0, b1, b2 = c0, c1, c2
                found += 1
            reach = 0.5 * spread * (hi - lo) / parts
            worst = max(worst, reach * reach * reach / (36 * math.sqrt(3.0)))
        error += share * worst
        here += counts[example]
    return found, events, error
