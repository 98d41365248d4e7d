"""Losses that are convex, but no polynomials, between events: logistic loss and cross-entropy.

The output of an example is linear in t between two of its events, a step; its loss is a smooth convex
function there. Its derivatives are those of the log-sum-exp of numbers that are linear in t.
"""

from __future__ import annotations

import math

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, part
from srste.curve.engine.kernels.piecewise import add
from srste.curve.engine.kernels.positions import AT_REST, Array, position_of
from srste.curve.engine.kernels.turning import Index


@part
def loss_of(
    row: Array, first: int, targets: Array, example: int, width: int, classes: bool, t: float
) -> tuple[float, float, float]:
    """(loss, its slope, its curvature) at t of an example whose outputs ``a - t d`` stand in a row, from
    a place on: a, then d."""
    loss = slope = curvature = 0.0
    if classes:
        highest, base = -np.inf, 0.0
        for k in range(width):
            output = row[first + k] - t * row[first + width + k]
            if output > highest:
                highest, base = output, row[first + width + k]
        total = mean = square = 0.0
        for k in range(width):
            d = row[first + width + k]
            weight = math.exp(row[first + k] - t * d - highest)
            d -= base  # what all classes have in common would cancel, and leave its rounding
            total += weight
            mean += weight * d
            square += weight * d * d
        mean /= total
        own = int(targets[example, 0])
        d = row[first + width + own]
        loss = math.log(total) + highest - (row[first + own] - t * d)
        return loss, d - base - mean, max(square / total - mean * mean, 0.0)
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
def spread_of(row: Array, first: int, targets: Array, example: int, width: int, classes: bool) -> float:
    """By how much a unit of t moves the loss's arguments: the range of d over the classes; the sum of
    its magnitudes over the outputs of a logistic loss."""
    lowest, highest, total = np.inf, -np.inf, 0.0
    for k in range(width):
        d = row[first + width + k]
        lowest, highest, total = min(lowest, d), max(highest, d), total + abs(d)
    return highest - lowest if classes else total


STEPS = "float64[:,::1], int64[::1], float64[:,::1], float64[:,::1], boolean"


@compiled(f"void({STEPS}, float64[::1], float64[::1])")
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
                loss, _, _ = loss_of(outputs[place], 1, targets, example, width, classes, lrs[k])
            else:
                loss, _, _ = loss_of(at_rest[place], 0, targets, example, width, classes, lrs[k])
            sums[k] += loss
        here = stop


@compiled(f"Tuple((float64, float64))({STEPS})")
def spreads(
    at_rest: Array, counts: Index, outputs: Array, targets: Array, classes: bool
) -> tuple[float, float]:
    """By how much a unit of t moves the arguments of an example's loss, on the step where that is most:
    the most of any example, and the sum over the examples."""
    width = at_rest.shape[1] // 2
    widest, total, here = 0.0, 0.0, 0
    for example in range(len(counts)):
        most = spread_of(at_rest[example], 0, targets, example, width, classes)
        for step in range(here, here + counts[example]):
            most = max(most, spread_of(outputs[step], 1, targets, example, width, classes))
        widest, total = max(widest, most), total + most
        here += counts[example]
    return widest, total


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
        loss, _, _ = loss_of(row, first, targets, example, width, classes, t)
        sums[k] += sign * loss


@compiled(f"void({STEPS}, float64[::1], float64[::1], int64, float64[::1], float64[::1])")
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


@compiled(f"Tuple((float64, float64, float64))({STEPS}, uint64, float64)")
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
    total = lost = slope = curvature = 0.0
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
            f, f1, f2 = loss_of(outputs[low - 1], 1, targets, example, width, classes, t)
        else:
            f, f1, f2 = loss_of(at_rest[example], 0, targets, example, width, classes, t)
        total, lost = add(total, lost, f)
        slope += f1
        curvature += f2
        here = stop
    return total + lost, slope, curvature
