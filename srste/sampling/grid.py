"""Every multiple of a step, exhaustively."""

import math
from fractions import Fraction

import numpy as np
import optuna
from numpy.typing import NDArray

from srste.sampling.base import Losses, Trials

MOST_POINTS = 10_000_000


class Grid:
    """All learning rates k * step in (0, lr_max], k = 1, 2, ..., in that order.

    Trial number k - 1 is the learning rate k * step, rounded once (not the sum of k steps).

    Args: lr_max: > 0. step: > 0, at most lr_max, and such that there are at most 10 million points.
    Raises: ValueError that names the argument.
    Properties: deterministic, exhaustive; a study costs milliseconds.
    """

    def __init__(self, lr_max: float = 0.5, step: float = 1e-5) -> None:
        for name, value in (("lr_max", lr_max), ("step", step)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"`Grid({name}={value})` must be > 0")
        if step > lr_max:
            raise ValueError(f"`Grid(step={step})` must be at most lr_max={lr_max}")
        # str() gives the shortest decimal of a float, which is the one that was typed.
        exact_step = Fraction(str(step))
        self.trials = int(Fraction(str(lr_max)) / exact_step)
        if self.trials > MOST_POINTS:
            raise ValueError(
                f"`Grid(step={step})` gives {self.trials:,} points, more than {MOST_POINTS:,}"
            )
        self.lr_max = float(lr_max)
        self.step = float(step)
        self._exact_step = exact_step

    def learning_rates(self) -> NDArray[np.float64]:
        """(trials,) the grid, ascending."""
        p, q = self._exact_step.numerator, self._exact_step.denominator
        if max(p * self.trials, q) < 2**53:  # both exact as floats, so the division rounds once
            return np.arange(1, self.trials + 1, dtype=np.float64) * p / q
        return np.array([k * p / q for k in range(1, self.trials + 1)])

    def rehearse(self) -> None:
        """Nothing is made beyond what the constructor checks."""

    def run(self, losses: Losses, pre_loss: float, seed: int) -> Trials:
        """See :class:`srste.sampling.base.Sampling`."""
        lrs = self.learning_rates()
        distribution = optuna.distributions.FloatDistribution(lrs[0], lrs[-1], step=self.step)
        return Trials(lrs, losses(lrs), pre_loss, distribution)
