"""Losses that are convex, but no polynomials, between events: logistic loss and cross-entropy.

The output of an example is linear in t between two of its events, a step; its loss is a smooth convex
function there. Its derivatives are those of the log-sum-exp of numbers that are linear in t.
"""

from __future__ import annotations

import math

import numpy as np

from srste.curve.engine.kernels.compiling import compiled, inlined
from srste.curve.engine.kernels.piecewise import add
from srste.curve.engine.kernels.positions import START, position_of
from srste.curve.engine.layout import Steps, Vector


@inlined
def loss_of(steps: Steps, row: Vector, first: int, example: int, t: float) -> tuple[float, float, float]:
    """(loss, its slope, its curvature) at t of an example whose outputs ``a - t d`` stand in a row, from
    ``first`` on: a, then d."""
    width = steps.at_start.shape[1] // 2
    loss = slope = curvature = 0.0
    if steps.classes:
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
        target_class = int(steps.targets[example, 0])
        d = row[first + width + target_class]
        loss = math.log(total) + highest - (row[first + target_class] - t * d)
        return loss, d - base - mean, max(square / total - mean * mean, 0.0)
    for k in range(width):
        target = steps.targets[example, k]
        margin = target * (row[first + k] - t * row[first + width + k])
        d = target * row[first + width + k]
        small = math.exp(-abs(margin))
        up = 1 / (1 + small) if margin < 0 else small / (1 + small)  # the logistic function of -margin
        loss += math.log1p(small) + max(-margin, 0.0)
        slope += up * d
        curvature += d * d * small / ((1 + small) * (1 + small))
    return loss, slope, curvature


@inlined
def spread_of(steps: Steps, row: Vector, first: int) -> float:
    """By how much a unit of t moves the loss's arguments: the range of d over the classes; the sum of
    its magnitudes over the outputs of a logistic loss."""
    width = steps.at_start.shape[1] // 2
    lowest, highest, total = np.inf, -np.inf, 0.0
    for k in range(width):
        d = row[first + width + k]
        lowest, highest, total = min(lowest, d), max(highest, d), total + abs(d)
    return highest - lowest if steps.classes else total


@compiled
def add_values(steps: Steps, lrs: Vector, sums: Vector) -> None:
    """Add every example's loss at learning rates in ascending order to sums, of their shape."""
    keys = steps.outputs.view(np.uint64)
    step = 0
    for example in range(len(steps.counts)):
        stop = step + steps.counts[example]
        row, first = steps.at_start[example], 0
        next_event = keys[step, 0] if step < stop else ~START
        for k in range(len(lrs)):
            position = position_of(lrs[k])
            while next_event <= position:
                row, first = steps.outputs[step], 1
                step += 1
                next_event = keys[step, 0] if step < stop else ~START
            loss, _, _ = loss_of(steps, row, first, example, lrs[k])
            sums[k] += loss
        step = stop


@compiled
def spreads(steps: Steps) -> tuple[float, float]:
    """By how much a unit of t moves the arguments of an example's loss, on the step where that is most:
    the most of any example, and the sum over the examples."""
    widest, total, begin = 0.0, 0.0, 0
    for example in range(len(steps.counts)):
        most = spread_of(steps, steps.at_start[example], 0)
        for step in range(begin, begin + steps.counts[example]):
            most = max(most, spread_of(steps, steps.outputs[step], 1))
        widest, total = max(widest, most), total + most
        begin += steps.counts[example]
    return widest, total


@inlined
def _add_at_nodes(
    steps: Steps,
    row: Vector,
    first: int,
    example: int,
    nodes: Vector,
    middle: float,
    half: float,
    sign: float,
    sums: Vector,
) -> None:
    for k in range(len(nodes)):
        loss, _, _ = loss_of(steps, row, first, example, middle + half * nodes[k])
        sums[k] += sign * loss


@compiled
def add_interpolated(
    steps: Steps, lrs: Vector, sums: Vector, cells: int, nodes: Vector, weights: Vector
) -> None:
    """As `add_values`, by polynomials: the range of the learning rates is cut into cells, on each of
    which the losses are summed at Chebyshev nodes; a step that begins within a cell adds, from there on,
    by what its loss differs from that of the step before, continued over the whole cell.

    Args: nodes, weights: (degree + 1,) in [-1, 1], and their barycentric weights.
    """
    keys = steps.outputs.view(np.uint64)
    degree = len(nodes)
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

    step = 0
    for example in range(len(steps.counts)):
        stop = step + steps.counts[example]
        row, first = steps.at_start[example], 0
        for cell in range(cells):
            if firsts[cell] == firsts[cell + 1]:
                continue
            middle = start + (2 * cell + 1) * half
            position = position_of(lrs[firsts[cell]])
            while step < stop and keys[step, 0] <= position:
                row, first = steps.outputs[step], 1
                step += 1
            _add_at_nodes(steps, row, first, example, nodes, middle, half, 1.0, base[cell])
            at = firsts[cell]
            end = position_of(lrs[firsts[cell + 1] - 1])
            while step < stop and keys[step, 0] <= end:
                low, high = at, firsts[cell + 1] - 1  # the first learning rate that is not before it
                while low < high:
                    half_way = (low + high) // 2
                    if position_of(lrs[half_way]) < keys[step, 0]:
                        low = half_way + 1
                    else:
                        high = half_way
                at = low
                changed[at] = True
                _add_at_nodes(steps, row, first, example, nodes, middle, half, -1.0, changes[at])
                row, first = steps.outputs[step], 1
                step += 1
                _add_at_nodes(steps, row, first, example, nodes, middle, half, 1.0, changes[at])
        step = stop

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


@compiled
def derivatives(steps: Steps, position: np.uint64, t: float) -> tuple[float, float, float]:
    """The sum over the batch of (loss, slope, curvature) at t, of the step that holds at a position."""
    keys = steps.outputs.view(np.uint64)
    begin = 0
    total = lost = slope = curvature = 0.0
    for example in range(len(steps.counts)):
        stop = begin + steps.counts[example]
        low, high = begin, stop  # events before ``low`` are at or before the position
        while low < high:
            middle = (low + high) // 2
            if keys[middle, 0] <= position:
                low = middle + 1
            else:
                high = middle
        if low > begin:
            f, f1, f2 = loss_of(steps, steps.outputs[low - 1], 1, example, t)
        else:
            f, f1, f2 = loss_of(steps, steps.at_start[example], 0, example, t)
        total, lost = add(total, lost, f)
        slope += f1
        curvature += f2
        begin = stop
    return total + lost, slope, curvature
