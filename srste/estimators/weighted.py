"""What estimators share whose straight-through samples have weights by what steps along them do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import nn

from srste.curve import Line
from srste.curve.loss_curve import Step, lowest_of
from srste.estimators.base import DRAWS, Cost, Direction, Normalisation
from srste.estimators.straight_through import gradient_through
from srste.losses import LossFunction
from srste.networks.arguments import one_of, positive
from srste.networks.estimating import AnySurrogate
from srste.networks.rounding import Quantiser, StochasticUnits
from srste.problem.task import Batch, Task

_TRIED = 200
"""Learning rates of a line without an exact curve, each a forward pass."""


class WeightedSamples(ABC):
    """Samples' directions, each normalised, and a weighted sum of them, normalised again.

    Args: quantiser, surrogate, normalisation, draws: see `StraightThrough`. lr_max: the largest learning
        rate of a step that is tried, > 0.
    Raises: ValueError when an argument is out of range.
    """

    stochastic = True

    def __init__(
        self,
        quantiser: Quantiser,
        surrogate: AnySurrogate,
        normalisation: Normalisation,
        lr_max: float,
        draws: Literal["nested", "independent"],
    ) -> None:
        if not quantiser.stochastic:
            named = f"`{type(self).__name__}(quantiser={type(quantiser).__name__})`"
            raise ValueError(
                f"{named} must be one of logistic, hard_sigmoid, triangular, stochastic_rounding: its "
                "samples are all the same"
            )
        self._quantiser, self._surrogate, self._normalisation = quantiser, surrogate, normalisation
        self._lr_max = positive(self, "lr_max", lr_max)
        self._draws = one_of(self, "draws", draws, DRAWS)

    @property
    def units(self) -> StochasticUnits | None:
        """Those of the stochastic network whose gradient its samples estimate; None without any."""
        return self._quantiser if isinstance(self._quantiser, StochasticUnits) else None

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`; without the loss curves."""
        return Cost(samples, samples)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        of_all = () if self._draws == "nested" else ("of", samples)
        directions = []
        for number in range(1, samples + 1):
            names = ("rounding", "batch", batch.index, "sample", number, *of_all)
            gradient = gradient_through(self._quantiser, self._surrogate, task, batch, *names)
            directions.append(self._normalisation(gradient))
        if samples == 1:
            return directions[0]
        return self._normalisation(self._weighted(task, batch, directions))

    @abstractmethod
    def _weighted(self, task: Task, batch: Batch, directions: Sequence[Direction]) -> Direction:
        """Return the weighted sum of the directions of several samples."""


def weighted_sum(weights: Sequence[float], directions: Sequence[Direction]) -> Direction:
    """The sum over directions of weight times direction."""
    total = {name: weights[0] * tensor for name, tensor in directions[0].items()}
    for weight, direction in zip(weights[1:], directions[1:], strict=True):
        total = {name: tensor + weight * direction[name] for name, tensor in total.items()}
    return total


def is_finite(model: nn.Module, *directions: Direction) -> bool:
    """Whether the weights and these directions are finite, so that there is a loss curve."""
    tensors = [tensor for direction in directions for tensor in direction.values()]
    return all(bool(tensor.isfinite().all()) for tensor in (*tensors, *model.parameters()))


def lowest_step(
    model: nn.Module, direction: Direction, batch: Batch, loss: LossFunction, lr_max: float, seed: int
) -> tuple[Step | None, float]:
    """The step along a direction with the lowest loss on a batch, over all learning rates in (0, lr_max]
    where the curve is exact, and else over 200 of them; None where no loss is finite. And the loss
    before the step."""
    curve = Line(model, direction).loss(batch.inputs, batch.targets, loss, lr_max, seed)
    if curve.exact:
        return Step(*curve.minimum()[:2]), curve.pre_loss
    lrs = np.linspace(0, lr_max, _TRIED + 1)[1:]
    return lowest_of(lrs, curve(lrs)), curve.pre_loss
