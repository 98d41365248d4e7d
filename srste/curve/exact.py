"""The exact loss curve of a network with binary activations.

Along ``w - t g`` every layer moves, yet a layer whose inputs are binary sees a constant input between
two flips, so its pre-activation is linear in t there, and each of its units flips at most once more.
Each example is followed from flip to flip; between two of them its output is linear in t and its
squared error quadratic. The curve of the batch is the sum (`pieces.py`): quadratic between two
breakpoints of the union, its coefficients those at 0 and what each flip has added to them. Fifty
thousand learning rates then cost one cumulative sum and one polynomial each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from srste.curve.chain import as_float64, chain
from srste.curve.network import (
    ROUNDING,
    Array,
    Network,
    as_lrs,
    check_direction,
    check_lr_max,
    check_model,
    is_finite,
)
from srste.losses import LossFunction, SquaredError

if TYPE_CHECKING:
    from srste.curve.convex import ConvexSum
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


@dataclass(frozen=True)
class Interval:
    """Learning rates from ``lo`` to ``hi``, which may belong to it or not; where both are the same it is
    the one at which units cross. loss: the lowest in it."""

    lo: float
    hi: float
    loss: float

    @property
    def length(self) -> float:
        return self.hi - self.lo


class Descent(NamedTuple):
    """The learning rates in (0, lr_max] that lower the loss, by more than its rounding.

    intervals: how many there are. total: their length together. first: the one of the smallest learning
    rates. smallest, largest: the shortest and the longest one; of several the first. None without any:
    then no step along the direction lowers the loss, however the learning rate is chosen.
    """

    intervals: int
    total: float
    first: Interval | None
    smallest: Interval | None
    largest: Interval | None

    @property
    def exists(self) -> bool:
        return self.intervals > 0


class LossCurve:
    """The loss over a batch as a function of the learning rate, exact in float64.

    pre_loss: the loss at learning rate 0.
    exact: True: values are right to rounding at every learning rate, and the minimum over all of them is
        known.
    lr_max: the curve is known on [0, lr_max].
    """

    exact = True

    def __init__(self, pieces: Pieces | ConvexSum, lr_max: float):
        self.lr_max = lr_max
        self.pre_loss = pieces.pre_loss
        self._pieces = pieces

    def __call__(self, lrs: ArrayLike) -> Array:
        """The loss at these learning rates.

        Args: lrs: any shape, each in [0, lr_max]; of a dtype narrower than float64, what is above
            ``lr_max`` by its rounding alone (one machine epsilon) is taken as ``lr_max``.
        Returns: float64 losses of the same shape. At a breakpoint itself sign(0) = +1 holds, up to
            the rounding of the breakpoint.
        Raises: ValueError for a learning rate outside [0, lr_max] or not a number.
        """
        losses = as_lrs(lrs, self.lr_max)
        flat = losses.reshape(-1)
        bad = self._pieces.evaluate(flat)
        if bad >= 0:
            raise ValueError(f"learning rate {flat[bad]} is outside [0, lr_max={self.lr_max}]")
        return losses

    @property
    def breakpoints(self) -> Array:
        """Where the loss takes another course: sorted, distinct, in [0, lr_max]."""
        return np.unique(self._pieces.starts)

    def minimum(self) -> Minimum:
        """The lowest loss over every real learning rate in (0, lr_max], see :class:`Minimum`."""
        return self._minimum

    @cached_property
    def _minimum(self) -> Minimum:
        return Minimum(*self._pieces.lowest())

    @property
    def error(self) -> float:
        """No loss in (0, lr_max] is lower than that of :meth:`minimum` by more, rounding aside: 0 where
        the minimum has a closed form, as for squared and absolute error."""
        _ = self._minimum
        return self._pieces.error

    def descents(self) -> list[Interval]:
        """The intervals of (0, lr_max] in which the loss is lower than before the step, by more than its
        rounding; in order."""
        return list(self._descents)

    @cached_property
    def _descents(self) -> list[Interval]:
        found = self._pieces.below(self.pre_loss)
        deep = self.pre_loss - found[:, 2] > ROUNDING * self.pre_loss + self._pieces.rounding(
            found[:, 1]
        )
        return [Interval(*map(float, interval)) for interval in found[deep]]

    def descent(self) -> Descent:
        """Whether and where any learning rate lowers the loss, see :class:`Descent`."""
        found = self._descents
        if not found:
            return Descent(0, 0.0, None, None, None)
        shortest, longest = (pick(found, key=lambda i: i.length) for pick in (min, max))
        return Descent(len(found), sum(i.length for i in found), found[0], shortest, longest)


def network_of(model: nn.Module, direction: Mapping[str, Tensor], inputs: Tensor) -> Network:
    """The model on its way along a direction.

    Args: direction: a tensor for every name in ``model.named_parameters()``, of the parameter's shape,
        dtype and device. inputs: (batch, ...), those that it is to run on.
    Raises: NotExactError naming what has no exact form, but for links between units that are too many,
        which is seen when they are asked for; ValueError naming the parameter that has no tensor
        like it in the direction, or for weights or a direction that are not finite.
    """
    check_model(model)
    found = chain(model, direction) if inputs.ndim == 2 and isinstance(direction, Mapping) else None
    if found is not None and found.is_finite:
        if inputs.shape[1] != found.features:
            raise ValueError(f"inputs must be (batch, {found.features}), not {tuple(inputs.shape)}")
        return found
    parameters = dict(model.named_parameters())
    check_direction(parameters, direction)
    for name, parameter in parameters.items():
        for what, tensor in ((name, parameter), (f"direction[{name!r}]", direction[name])):
            if not is_finite(as_float64(tensor)):
                raise ValueError(f"{what} holds a value that is not finite")
    from srste.curve.built import Traced

    return Traced(model, direction, inputs)


def loss_curve(
    model: nn.Module,
    direction: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    lr_max: float = 0.5,
    loss: LossFunction | None = None,
) -> LossCurve:
    """The loss of ``model`` after ``w - lr * direction``, for every lr in [0, lr_max].

    Args:
        model: made of linear layers, convolutions, binary activations and what else is exact, see
            `srste.curve.traced`.
        direction: a tensor for every name in ``model.named_parameters()``, of the parameter's shape,
            dtype and device.
        inputs: (batch, ...), any float dtype and device.
        targets: of the outputs' shape, or (batch,) classes.
        lr_max: the largest learning rate, > 0.
        loss: the mean squared error, if none is given.
    Returns: the curve; it holds no reference to the model, which is not changed. It is computed on as
        many threads as ``torch.get_num_threads()``, whose number changes no loss by more than rounding.
    Raises: NotExactError for a model or a loss without an exact form; ValueError for shapes that do not
        fit, an empty batch, lr_max not > 0, or a value that is not finite.
    """
    check_lr_max(lr_max)
    if inputs.ndim < 1 or not len(inputs):
        raise ValueError(f"inputs must be (batch >= 1, ...), not {tuple(inputs.shape)}")
    network = network_of(model, direction, inputs)
    # Numba and the kernels take half a second to import: not for `--help`, and not for a bad command.
    from srste.curve.summing import summed

    return LossCurve(
        summed(network, loss or SquaredError(), inputs, targets, float(lr_max)), float(lr_max)
    )
