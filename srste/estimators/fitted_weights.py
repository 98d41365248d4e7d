"""Samples with weights that are fitted to a batch by exact line searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from srste.curve import ExactCurve, Line
from srste.curve.loss_curve import Step
from srste.estimators.base import DRAWS, Cost, Direction, Normalisation
from srste.estimators.by_decrease import check_stochastic
from srste.estimators.straight_through import gradient_through
from srste.networks.arguments import integer, one_of, positive
from srste.networks.estimating import AnySurrogate
from srste.networks.rounding import Quantiser, StochasticUnits
from srste.problem.task import Batch, Task

FITTED_ON = ("same", "next")


class FittedWeights:
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

    stochastic = True

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
        check_stochastic(self, quantiser)
        self._quantiser, self._surrogate, self._normalisation = quantiser, surrogate, normalisation
        self._fitted_on = one_of(self, "fitted_on", fitted_on, FITTED_ON)
        self._rounds, self._lr_max = integer(self, "rounds", rounds), positive(self, "lr_max", lr_max)
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
        mean = {n: torch.stack([d[n] for d in directions]).mean(0) for n in directions[0]}
        finite = all(t.isfinite().all() for t in (*mean.values(), *task.model.parameters()))
        if not finite:
            return mean  # the study says what is not finite
        to_fit = batch if self._fitted_on == "same" else task.batch(batch.index + 1)
        return self._normalisation(self._fitted(task, to_fit, mean, directions))

    def _fitted(
        self, task: Task, batch: Batch, mean: Direction, directions: Sequence[Direction]
    ) -> Direction:
        """Return the weighted sum of the directions."""
        length, loss = self._lowest(task, batch, task.model, mean, self._lr_max)
        offset = {n: -length * g for n, g in mean.items()}
        steps = [{n: -length * g for n, g in d.items()} for d in directions]
        for _ in range(self._rounds):
            model = Line(task.model, {n: -t for n, t in offset.items()}).at(1.0)
            tried = []
            for step in steps:
                towards = {n: offset[n] - step[n] for n in step}  # a step goes against it
                if any(t.any() for t in towards.values()):
                    part, lower = self._lowest(task, batch, model, towards, 1.0)
                    tried.append((lower, part, towards))
            if not tried:
                break
            lower, part, towards = min(tried, key=lambda one: one[0])
            if not lower < loss:
                break
            offset, loss = {n: t - part * towards[n] for n, t in offset.items()}, lower
        return {n: -t / length for n, t in offset.items()}

    @staticmethod
    def _lowest(task: Task, batch: Batch, model: nn.Module, direction: Direction, most: float) -> Step:
        """Return the step with the lowest loss along a direction from a model's weights."""
        curve = Line(model, direction).loss(batch.inputs, batch.targets, task.loss, most, task.seed)
        if not isinstance(curve, ExactCurve):
            return curve.lowest()
        lr, loss, _ = curve.minimum()
        return Step(lr, loss)
