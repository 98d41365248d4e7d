"""Samples with weights that are fitted to a batch by exact line searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import nn

from srste.curve import Line
from srste.curve.loss_curve import Step
from srste.errors import NotApplicableError
from srste.estimators.base import Direction, Normalisation
from srste.estimators.weighted import WeightedSamples, is_finite, lowest_step, weighted_sum
from srste.networks.arguments import integer, one_of
from srste.networks.estimating import AnySurrogate
from srste.networks.rounding import Quantiser
from srste.problem.task import Batch, Task

FITTED_ON = ("same", "next")


class FittedWeights(WeightedSamples):
    """Straight-through samples with weights >= 0 of sum 1, fitted to the loss of a batch.

    Direction: normalisation(sum over samples of weight_i g_i), g_i the i-th sample's gradient after the
               normalisation; the weights lower the loss after a step of one length by Frank and Wolfe's
               steps, each with an exact line search

    The step's length is that of the best step along the samples' mean. Each round tries, from the
    present point, the lines towards each sample's step alone, and goes to the lowest loss on them. The
    loss is not convex in the weights: these are good ones, and not the best there are.

    Args:
        quantiser, surrogate, normalisation, draws: see `StraightThrough`.
        fitted_on: "same": the batch that the samples are of; "next": another batch, the one after it, so
            that the weights are fitted on one batch and used on another.
        rounds: of line searches, >= 1; it ends before when no line lowers the loss.
        lr_max: the largest step along the mean, > 0.
    Raises: ValueError when an argument is out of range, or for ``fitted_on="next"`` where there is one
        batch.
    Properties: stochastic; N forward-backward passes, and at most N * rounds + 1 exact loss curves; of a
        network or a loss without an exact curve the best of 200 points of each line by a forward pass
        each. It chooses by the loss of a batch, so compare it on held-out examples, too.
    References: Frank and Wolfe (1956), "An algorithm for quadratic programming"; the question of the
        note of June 2021 whether samples should have weights of their own.
    """

    def __init__(
        self,
        quantiser: Quantiser,
        surrogate: AnySurrogate,
        normalisation: Normalisation,
        fitted_on: Literal["same", "next"] = "same",
        rounds: int = 5,
        lr_max: float = 0.5,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        super().__init__(quantiser, surrogate, normalisation, lr_max, draws)
        self._fitted_on = one_of(self, "fitted_on", fitted_on, FITTED_ON)
        self._rounds = integer(self, "rounds", rounds)

    def _weighted(self, task: Task, batch: Batch, directions: Sequence[Direction]) -> Direction:
        weights = np.full(len(directions), 1 / len(directions))
        mixed = weighted_sum(weights.tolist(), directions)
        if not is_finite(task.model, mixed):
            return mixed  # the study says what is not finite
        to_fit = batch if self._fitted_on == "same" else _after(task, batch)

        def lowest(model: nn.Module, direction: Direction, most: float) -> Step | None:
            return lowest_step(model, direction, to_fit, task.loss, most, task.seed)[0]

        first = lowest(task.model, mixed, self._lr_max)
        if first is None:
            return mixed
        length, loss = first
        for _ in range(self._rounds):
            model = Line(task.model, mixed).at(length)
            tried = []
            for place, direction in enumerate(directions):
                towards = {n: length * (g - mixed[n]) for n, g in direction.items()}
                if any(t.any() for t in towards.values()) and (least := lowest(model, towards, 1.0)):
                    tried.append((least.loss, least.lr, place))
            if not tried or not min(tried)[0] < loss:
                break
            loss, part, place = min(tried)
            weights *= 1 - part
            weights[place] += part
            mixed = weighted_sum(weights.tolist(), directions)
        return mixed


def _after(task: Task, batch: Batch) -> Batch:
    """Return the batch after this one."""
    try:
        return task.batch(batch.index + 1)
    except IndexError as error:
        raise NotApplicableError(
            f"`FittedWeights(fitted_on=next)` must be same here: {error}"
        ) from error
