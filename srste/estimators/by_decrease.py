"""Samples weighted by how far a step along each of them alone lowers the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srste.estimators.base import Direction, Normalisation
from srste.estimators.weighted import WeightedSamples, is_finite, lowest_step, weighted_sum
from srste.networks.estimating import AnySurrogate
from srste.networks.rounding import Quantiser
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


class ByDecrease(WeightedSamples):
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

    def __init__(
        self,
        quantiser: Quantiser,
        surrogate: AnySurrogate,
        weighting: Weighting,
        normalisation: Normalisation,
        lr_max: float = 0.5,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        super().__init__(quantiser, surrogate, normalisation, lr_max, draws)
        self._weighting = weighting
        weighting(np.ones(2))  # refuses a wrong argument now

    def _weighted(self, task: Task, batch: Batch, directions: Sequence[Direction]) -> Direction:
        decreases = np.array([self._decrease(task, batch, direction) for direction in directions])
        return weighted_sum(self._weighting(decreases).tolist(), directions)

    def _decrease(self, task: Task, batch: Batch, direction: Direction) -> float:
        """Return by how much the best step along a direction lowers the loss, at least 0."""
        if not is_finite(task.model, direction):
            return 0.0  # the study says what is not finite
        step, before = lowest_step(task.model, direction, batch, task.loss, self._lr_max, task.seed)
        return max(0.0, before - step.loss) if step else 0.0
