"""The exact loss curve of a network with sign activations.

Along ``w - t g`` every layer moves, yet a layer whose inputs are signs sees a constant input between
two flips, so its pre-activation is linear in t there, and each of its units flips at most once more.
Each example is followed from flip to flip; between two of them its output is linear in t and its
squared error quadratic. The curve of the batch is the sum (`pieces.py`): quadratic between two
breakpoints of the union, its coefficients those at 0 and what each flip has added to them. Fifty
thousand learning rates then cost one cumulative sum and one polynomial each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from srste.curve.network import Array, as_float64, moving_layers

if TYPE_CHECKING:
    from srste.curve.pieces import Pieces


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

    def __init__(self, pieces: Pieces):
        self.lr_max = pieces.lr_max
        self.pre_loss = float(pieces.coefficients[0, 0])
        self._pieces = pieces

    def __call__(self, lrs: ArrayLike) -> Array:
        """The loss at these learning rates.

        Args: lrs: any shape, each in [0, lr_max].
        Returns: float64 losses of the same shape. At a breakpoint itself sign(0) = +1 holds, up to
            the rounding of the breakpoint.
        Raises: ValueError for a learning rate outside [0, lr_max] or not a number.
        """
        losses = np.array(lrs, dtype=np.float64, order="C")
        flat = losses.reshape(-1)
        bad = self._pieces.evaluate(flat)
        if bad >= 0:
            raise ValueError(f"learning rate {flat[bad]} is outside [0, lr_max={self.lr_max}]")
        return losses

    @property
    def breakpoints(self) -> Array:
        """Where a unit flips for some example: sorted, distinct, in [0, lr_max]."""
        return np.unique(self._pieces.starts[1:])

    def minimum(self) -> Minimum:
        """The lowest loss over every real learning rate in (0, lr_max], see :class:`Minimum`."""
        return self._minimum

    @cached_property
    def _minimum(self) -> Minimum:
        return Minimum(*self._pieces.lowest())


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

    # Numba and the kernels take half a second to import: not for `--help`, and not for a bad command.
    from srste.curve.pieces import quadratic_pieces

    return LossCurve(quadratic_pieces(layers, x, y, float(lr_max)))
