"""The loss of a batch as a quadratic between every two flips: its examples, in blocks, through the
kernels, and the sum of what they found."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np

from srste.curve import kernels
from srste.curve.kernels import Mask
from srste.curve.network import Array, MovingLayer

# A block of examples is as many numbers as about stay in a core's own cache, 2 MB; but not so few
# examples that a product would take longer to read the weights than to compute.
_BLOCK = 250_000
_FEWEST = 64


@dataclass(frozen=True)
class Pieces:
    """The loss on [0, lr_max] in P pieces, in order; one without any float starts where the next does.

    starts: (P,) first float of each. closed: (P,) whether the real interval begins with that float, and
    not between it and the one before. coefficients: (P, 3) of 1, t, t^2. lr_max: the end of the last.
    """

    starts: Array
    closed: Mask
    coefficients: Array
    lr_max: float

    def evaluate(self, lrs: Array) -> int:
        """Puts the losses into the place of the learning rates (any,). Returns: where the first one is
        that is not in [0, lr_max], at which it stops; -1 if there is none."""
        return kernels.evaluate(self.starts, self.coefficients, self.lr_max, lrs)

    def lowest(self) -> tuple[float, float, bool]:
        """(lr, loss, attained), as in `srste.curve.Minimum`."""
        return kernels.lowest(self.starts, self.closed, self.coefficients, self.lr_max)


class _Scratch(threading.local):
    """Memory that is kept for the next curve: fresh memory costs more in page faults than the arithmetic
    on it. What it holds lasts until the same name is asked for again."""

    _MOST_KEPT = 4_000_000  # numbers of an array, 32 MB

    def __init__(self) -> None:
        self._held: dict[str, Array] = {}

    def at_least(self, name: str, size: int) -> Array:
        """That many numbers, uninitialised, and more where there are."""
        held = self._held.get(name)
        if held is None or held.size < size:
            held = np.empty(size)
            self.keep(name, held)
        return held

    def array(self, name: str, *shape: int) -> Array:
        """An uninitialised array of this shape."""
        size = math.prod(shape)
        return self.at_least(name, size)[:size].reshape(shape)

    def keep(self, name: str, array: Array) -> None:
        """Keeps this one under the name from now on, unless it is too large."""
        if array.size <= self._MOST_KEPT:
            self._held[name] = array.reshape(-1)


_scratch = _Scratch()


def _make_summable(weights: Array, bias: Array) -> None:
    """Rounds weights (rows, in) of inputs that are signs, and biases (rows,), in place, so that the sum
    of a row is exact, in any order.

    They become multiples of a power of two, 2^-51 of the one that the sum of their magnitudes is below;
    the error of that is of the size of a sum's own rounding. Signs may then turn any number of times and
    no rounding errors pile up, and examples with the same signs have the same pre-activations to the
    bit: their flips coincide, and are not an ulp apart.
    """
    reach = np.abs(weights).sum(axis=1) + np.abs(bias)
    # Floats from twice to four times that power of two are multiples of the wanted one.
    far = np.ldexp(3.0, np.frexp(reach)[1])
    weights += far[:, None]
    weights -= far[:, None]
    bias += far
    bias -= far


def quadratic_pieces(layers: list[MovingLayer], inputs: Array, targets: Array, lr_max: float) -> Pieces:
    """The mean squared error over the batch, of inputs (batch, in) and targets (batch, out)."""
    units = np.array([len(layer.w) for layer in layers])
    hidden, widest = len(layers) - 1, int(units.max())
    # Both of w and dw in one product, because its inputs are the large operand and are then read once.
    joint = [np.concatenate((layer.w, layer.dw)) for layer in layers]
    bias = [np.concatenate((layer.b, layer.db)) for layer in layers]
    twice = np.zeros((int(units[:-1].sum()), 2 * widest))
    first = 0
    for layer in range(1, len(layers)):
        _make_summable(joint[layer], bias[layer])
        columns = twice[first : first + units[layer - 1], : 2 * units[layer]]
        np.multiply(joint[layer].T, 2, out=columns)
        first += units[layer - 1]
    biased = [b.any() for b in bias]

    batch, targets = len(inputs), np.ascontiguousarray(targets)
    most = max(_FEWEST, _BLOCK // ((4 * hidden + 2) * widest))
    rows = math.ceil(batch / math.ceil(batch / most))
    moving = _scratch.array("moving", len(layers), rows, 2 * widest)
    signs = _scratch.array("signs", hidden, rows, widest)
    flips = _scratch.array("flips", hidden, rows, widest).view(np.uint64)
    due = _scratch.array("due", hidden, rows).view(np.uint64)

    end = 2 * np.float64(lr_max).view(np.uint64) + np.uint64(1)  # just after lr_max
    at_rest = np.empty((batch, 3))
    room = len(_scratch.at_least("steps", 3 * 4 * batch)) // 3
    found = 0
    positions = _scratch.array("positions", room).view(np.uint64)
    steps = _scratch.array("steps", room, 3)
    for start in range(0, batch, rows):
        block = slice(start, start + rows)
        h = inputs[block]
        for layer, n in enumerate(units):
            product = np.matmul(h, joint[layer].T, out=moving[layer, : len(h), : 2 * n])
            if biased[layer]:
                product += bias[layer]
            if layer < hidden:
                kernels.settle(moving, flips, signs, due, layer, len(h), n)
                h = signs[layer, : len(h), :n]
        found, positions, steps = kernels.follow(
            units, twice, moving, flips, signs, due,
            targets[block], 1 / targets.size, end, at_rest[block], found, positions, steps,
        )  # fmt: skip
    _scratch.keep("positions", positions.view(np.float64))
    _scratch.keep("steps", steps)

    positions, steps = positions[:found], steps[:found]
    order = np.argsort(positions)
    return Pieces(*kernels.add_up(at_rest.sum(axis=0), order, positions, steps), lr_max)
