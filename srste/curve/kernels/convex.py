"""Losses that are convex, but no polynomials, between events: logistic loss and cross-entropy.

The output of an example is linear in t between two of its events, a step; its loss is a smooth convex
function there. Its first three derivatives are those of the log-sum-exp of numbers that are linear in t.
"""

from __future__ import annotations

import math

import numpy as np

from srste.curve.kernels.compiling import compiled, part
from srste.curve.kernels.positions import AT_REST, ONE, Array, position_of
from srste.curve.kernels.turning import Index

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


@compiled(f"float64({_ROW})")
def widest_spread(at_rest: Array, counts: Index, outputs: Array, targets: Array, classes: bool) -> float:
    """The most that a unit of t moves the arguments of any example's loss by, on any of its steps."""
    width = at_rest.shape[1] // 2
    widest, here = 0.0, 0
    for example in range(len(counts)):
        widest = max(widest, _spread(at_rest[example], 0, targets, example, width, classes))
        for step in range(here, here + counts[example]):
            widest = max(widest, _spread(outputs[step], 1, targets, example, width, classes))
        here += counts[example]
    return widest


@part
def _add_at_nodes(
    row: Array,
    first: int,
    targets: Array,
    example: int,
    width: int,
    classes: bool,
    nodes: Array,
    middle: float,
    half: float,
    sign: float,
    sums: Array,
) -> None:
    for k in range(len(nodes)):
        t = middle + half * nodes[k]
        loss, _, _ = _loss(row, first, targets, example, width, classes, t)
        sums[k] += sign * loss


@compiled(f"void({_ROW}, float64[::1], float64[::1], int64, float64[::1], float64[::1])")
def add_interpolated(
    at_rest: Array,
    counts: Index,
    outputs: Array,
    targets: Array,
    classes: bool,
    lrs: Array,
    sums: Array,
    cells: int,
    nodes: Array,
    weights: Array,
) -> None:
    """As `add_values`, by polynomials: the range of the learning rates is cut into cells, on each of
    which the losses are summed at Chebyshev nodes; a step that begins within a cell adds, from there on,
    by what its loss differs from that of the step before, continued over the whole cell.

    Args: nodes, weights: (degree + 1,) in [-1, 1], and their barycentric weights.
    """
    keys = outputs.view(np.uint64)
    width, degree = at_rest.shape[1] // 2, len(nodes)
    start, half = lrs[0], 0.5 * (lrs[-1] - lrs[0]) / cells
    firsts = np.zeros(cells + 1, np.int64)  # of each cell the first learning rate
    for k in range(len(lrs)):
        cell = min(int((lrs[k] - start) / (2 * half)), cells - 1)
        firsts[cell + 1] = k + 1
    for cell in range(cells):
        firsts[cell + 1] = max(firsts[cell], firsts[cell + 1])
    base = np.zeros((cells, degree))
    changes = np.zeros((len(lrs), degree))
    changed = np.zeros(len(lrs), np.bool_)

    here = 0
    for example in range(len(counts)):
        stop = here + counts[example]
        row, first = at_rest[example], 0
        for cell in range(cells):
            if firsts[cell] == firsts[cell + 1]:
                continue
            middle = start + (2 * cell + 1) * half
            position = position_of(lrs[firsts[cell]])
            while here < stop and keys[here, 0] <= position:
                row, first = outputs[here], 1
                here += 1
            _add_at_nodes(
                row, first, targets, example, width, classes, nodes, middle, half, 1.0, base[cell]
            )
            at = firsts[cell]
            end = position_of(lrs[firsts[cell + 1] - 1])
            while here < stop and keys[here, 0] <= end:
                low, high = at, firsts[cell + 1] - 1  # the first learning rate that is not before it
                while low < high:
                    half_way = (low + high) // 2
                    if position_of(lrs[half_way]) < keys[here, 0]:
                        low = half_way + 1
                    else:
                        high = half_way
                at = low
                changed[at] = True
                _add_at_nodes(
                    row, first, targets, example, width, classes, nodes, middle, half, -1.0, changes[at]
                )
                row, first = outputs[here], 1
                here += 1
                _add_at_nodes(
                    row, first, targets, example, width, classes, nodes, middle, half, 1.0, changes[at]
                )
        here = stop

    for cell in range(cells):
        middle = start + (2 * cell + 1) * half
        values = base[cell]
        for k in range(firsts[cell], firsts[cell + 1]):
            if changed[k]:
                for node in range(degree):
                    values[node] += changes[k, node]
            x = (lrs[k] - middle) / half
            above = below = 0.0
            for node in range(degree):
                distance = x - nodes[node]
                if distance == 0:
                    above, below = values[node], 1.0
                    break
                above += values[node] * weights[node] / distance
                below += weights[node] / distance
            sums[k] += above / below


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
