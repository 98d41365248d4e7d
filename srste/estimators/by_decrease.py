"""Samples weighted by how far a step along each of them alone lowers the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from srste.curve import ExactCurve, Line
from srste.estimators.base import DRAWS, Cost, Direction, Normalisation
from srste.estimators.straight_through import gradient_through
from srste.networks.arguments import one_of, positive
from srste.networks.estimating import AnySurrogate
from srste.networks.rounding import Quantiser, StochasticUnits
from srste.problem.task import Batch, Task

Weighting = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From the decreases of the loss by the samples, (N,) and >= 0, to their weights, (N,), of sum 1."""


def best(decreases: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sample with the largest decrease alone: the best of N tries."""
    weights = np.zeros(len(decreases))
    weights[int(np.argmax(decreases))] = 1
    return weights


def softmax(decreases: NDArray[np.float64], temperature: float = 0.1) -> NDArray[np.float64]:
    """Weights proportional to exp(D_i / (temperature * the largest D)).

    Raises: ValueError for a temperature that is not > 0.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"`softmax(temperature={temperature})` must be > 0")
    most = float(decreases.max())
    weights = np.exp((decreases - most) / (temperature * most)) if most > 0 else np.ones(len(decreases))
    return np.asarray(weights / weights.sum())


def leave_one_out(decreases: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights proportional to how much a sample's decrease is above the mean of the others', for those
    above it; all alike where none is.

    References: Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!", for the mean of
        the others as the baseline.
    """
    count = len(decreases)
    if count == 1:
        return np.ones(1)
    above = np.maximum(0, decreases - (decreases.sum() - decreases) / (count - 1))
    return np.asarray(above / above.sum()) if above.any() else np.full(count, 1 / count)


def check_stochastic(estimator: object, quantiser: Quantiser) -> None:
    """Raises: ValueError that names the estimator, for a quantiser that draws nothing."""
    if not quantiser.stochastic:
        named = f"`{type(estimator).__name__}(quantiser={type(quantiser).__name__})`"
        raise ValueError(
            f"{named} must be one of logistic, hard_sigmoid, triangular, stochastic_rounding: its "
            "samples are all the same"
        )


class ByDecrease:
    """Straight-through samples, weighted by the exact decrease of the loss along each of them.

    Direction: normalisation(sum over samples of weight_i g_i), g_i the i-th sample's gradient after the
               normalisation, weights from D_i, by how much the best step along g_i alone lowers the loss
               of the batch

    Args:
        quantiser, surrogate, normalisation, draws: see `StraightThrough`.
        weighting: of the decreases, see :data:`Weighting`.
        lr_max: the largest learning rate of a sample's step, > 0.
    Raises: ValueError when an argument is out of range.
    Properties: stochastic; N forward-backward passes, and N exact loss curves, each of the time of some
        passes; of a network or a loss without an exact curve the best of 200 learning rates by a forward
        pass each. It chooses by the loss of the batch, so compare it on held-out examples, too.
    References: the question of the note of June 2021 whether samples should have weights of their own.
    """

    stochastic = True

    def __init__(
        self,
        quantiser: Quantiser,
        surrogate: AnySurrogate,
        weighting: Weighting,
        normalisation: Normalisation,
        lr_max: float = 0.5,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        check_stochastic(self, quantiser)
        self._quantiser, self._surrogate = quantiser, surrogate
        self._weighting, self._normalisation = weighting, normalisation
        self._lr_max = positive(self, "lr_max", lr_max)
        self._draws = one_of(self, "draws", draws, DRAWS)
        weighting(np.ones(2))  # refuses a wrong argument now

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
        weights = self._weighting(np.array([self._decrease(task, batch, d) for d in directions]))
        pooled = {
            name: sum(float(w) * d[name] for w, d in zip(weights, directions, strict=True))
            for name in directions[0]
        }
        return self._normalisation(pooled)  # type: ignore[arg-type]

    def _decrease(self, task: Task, batch: Batch, direction: Direction) -> float:
        """Return by how much the best step along a direction lowers the loss, at least 0."""
        if not all(t.isfinite().all() for t in (*direction.values(), *task.model.parameters())):
            return 0.0  # the study says what is not finite
        line = Line(task.model, direction)
        curve = line.loss(batch.inputs, batch.targets, task.loss, self._lr_max, task.seed)
        lowest = curve.minimum().loss if isinstance(curve, ExactCurve) else curve.lowest().loss
        return max(0.0, curve.pre_loss - lowest)
