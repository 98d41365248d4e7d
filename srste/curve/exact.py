"""The exact loss curve of a network with sign activations.

Along ``w - t g`` every layer moves, yet a layer whose inputs are signs sees a constant input between
two flips, so its pre-activation is linear in t there, and each of its units flips at most once more.
Layer by layer, each example's [0, lr_max] is cut where a unit flips (`pieces.py`); on a piece the
output is linear in t and the squared error quadratic. The curve of the batch is the sum: quadratic
between two breakpoints of the union, stored as the coefficients at 0 and what each flip adds to them.
Fifty thousand learning rates then cost one cumulative sum and one polynomial each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from srste.curve.network import Array, as_float64, moving_layers
from srste.curve.pieces import Pieces, linear_pieces


class Minimum(NamedTuple):
    """The lowest loss over all real learning rates in (0, lr_max].

    lr: where it is; of several, the smallest.
    loss: its value, or the infimum.
    attained: False when the loss comes as close to ``loss`` as one likes near ``lr`` from one side
        without reaching it; ``lr`` is then the float nearest to the limit on that side.
    """

    lr: float
    loss: float
    attained: bool


class LossCurve:
    """Mean squared error over a batch as a function of the learning rate, exact in float64.

    pre_loss: the loss at learning rate 0.
    exact: True: every value is the closed form's, not an interpolation.
    lr_max: the curve is known on [0, lr_max].
    """

    exact = True

    def __init__(self, pieces: Pieces, targets: Array, lr_max: float):
        self.lr_max = lr_max
        coefficients = _squared_error(pieces, targets)
        first = pieces.first
        base = coefficients[:, first].sum(axis=1)
        self.pre_loss = float(base[0])

        flips = np.flatnonzero(~first)
        order = flips[np.argsort(pieces.start[flips], kind="stable")]
        self._starts = np.concatenate(([0.0], pieces.start[order]))
        self._from_here = np.concatenate(([True], pieces.closed[order]))
        steps = coefficients[:, order] - coefficients[:, order - 1]
        self._coefficients = np.cumsum(np.concatenate((base[:, None], steps), axis=1), axis=1)

    def __call__(self, lrs: ArrayLike) -> Array:
        """The loss at these learning rates.

        Args: lrs: any shape, each in [0, lr_max].
        Returns: float64 losses of the same shape. At a breakpoint itself sign(0) = +1 holds, up to
            the rounding of the breakpoint.
        Raises: ValueError for a learning rate outside [0, lr_max] or not a number.
        """
        asked = np.asarray(lrs, dtype=np.float64)
        flat = asked.ravel()
        if not ((flat >= 0) & (flat <= self.lr_max)).all():
            bad = flat[~((flat >= 0) & (flat <= self.lr_max))][0]
            raise ValueError(f"learning rate {bad} is outside [0, lr_max={self.lr_max}]")
        if (np.diff(flat) >= 0).all():
            # Sorted (a grid): place the few breakpoints among the learning rates, not the reverse.
            ends = np.append(np.searchsorted(flat, self._starts[1:], side="left"), flat.size)
            piece = np.repeat(np.arange(self._starts.size), np.diff(ends, prepend=0))
        else:
            piece = np.searchsorted(self._starts, flat, side="right") - 1
        c0, c1, c2 = self._coefficients
        losses = (c2[piece] * flat + c1[piece]) * flat + c0[piece]
        return _not_negative(losses).reshape(asked.shape)

    @property
    def breakpoints(self) -> Array:
        """Where a unit flips for some example: sorted, distinct, in [0, lr_max]."""
        return np.unique(self._starts[1:])

    def minimum(self) -> Minimum:
        """The lowest loss over every real learning rate in (0, lr_max], see :class:`Minimum`."""
        return self._minimum

    @cached_property
    def _minimum(self) -> Minimum:
        starts, (c0, c1, c2) = self._starts, self._coefficients
        after = np.append(starts[1:], np.nextafter(self.lr_max, np.inf))
        # Events at the same float make empty pieces; the last of them is the one that holds.
        keep = np.flatnonzero((starts < after) & (after > _TINY))
        c0, c1, c2 = c0[keep], c1[keep], c2[keep]
        lo = np.maximum(starts[keep], _TINY)
        hi = np.nextafter(after[keep], -np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            vertex = np.where(c2 > 0, -c1 / (2 * c2), np.where(c1 < 0, hi, lo))
        lr = np.clip(vertex, lo, hi)
        loss = _not_negative((c2 * lr + c1) * lr + c0)
        best = int(np.argmin(loss))  # the first, hence the smallest learning rate, wins a tie

        # An end of a piece belongs to it or not; an open end is a limit unless the loss is level there.
        level = 2 * c2[best] * lr[best] + c1[best] == 0
        event = keep[best]
        closed_left = self._from_here[event] and starts[event] > 0
        closed_right = event + 1 == starts.size or not self._from_here[event + 1]
        at_left, at_right = lr[best] == lo[best], lr[best] == hi[best]
        inside = not at_left and not at_right
        attained = inside or level or (at_left and closed_left) or (at_right and closed_right)
        return Minimum(float(lr[best]), float(loss[best]), bool(attained))


_TINY = np.nextafter(0.0, 1.0)


def _not_negative(losses: Array) -> Array:
    """A loss of zero can come out of the cancelling sums as a few ulps below it."""
    clamped: Array = np.maximum(losses, 0.0)
    return clamped


def _squared_error(pieces: Pieces, targets: Array) -> Array:
    """Each piece's share of the mean squared error, as (3, pieces) coefficients of 1, t, t^2."""
    residual = pieces.at_rest - targets[pieces.example]
    slope = pieces.slope
    share = 1.0 / targets.size
    return share * np.stack(
        [
            np.einsum("po,po->p", residual, residual),
            -2.0 * np.einsum("po,po->p", residual, slope),
            np.einsum("po,po->p", slope, slope),
        ]
    )


def loss_curve(
    model: nn.Module,
    direction: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    lr_max: float = 0.5,
) -> LossCurve:
    """The mean squared error of ``model`` after ``w - lr * direction``, for every lr in [0, lr_max].

    Args:
        model: an ``nn.Sequential`` of ``nn.Linear`` with a ``BinaryActivation`` between each two.
        direction: a tensor for every name in ``model.named_parameters()``, of the parameter's shape.
        inputs: (batch, in_features), any float dtype and device.
        targets: (batch, out_features).
        lr_max: the largest learning rate, > 0.
    Returns: the curve; it holds no reference to the model, which is not changed.
    Raises: NotExactError for a model of another build; ValueError for shapes that do not fit,
        an empty batch, lr_max not > 0, or a value that is not finite.
    """
    if not (np.isfinite(lr_max) and lr_max > 0):
        raise ValueError(f"lr_max={lr_max} must be > 0 and finite")
    layers = moving_layers(model, direction)
    x, y = as_float64("inputs", inputs), as_float64("targets", targets)
    if x.ndim != 2 or not len(x) or x.shape[1] != layers[0].w.shape[1]:
        raise ValueError(f"inputs must be (batch >= 1, {layers[0].w.shape[1]}), not {x.shape}")
    if y.shape != (len(x), len(layers[-1].w)):
        raise ValueError(f"targets must be {(len(x), len(layers[-1].w))}, not {y.shape}")
    return LossCurve(linear_pieces(layers, x, float(lr_max)), y, float(lr_max))
