"""The loss of the network whose units are drawn, beside that of its signs."""

from __future__ import annotations

import math

import numpy as np
import torch

from srste.curve import Line
from srste.estimators.sampled import SampledPass, check_units
from srste.networks.activations import acting
from srste.networks.arguments import integer
from srste.networks.rounding import Quantiser
from srste.problem.task import Batch, Task, buffers_kept
from srste.randomness import seeded
from srste.study.results import DrawnLoss


class StochasticEvaluation:
    """The mean loss over draws of all units, before a step along the direction and after it.

    It is the objective of the estimators of stochastic networks, and the one that the note of June 2021
    measured first. Along the same direction another learning rate is best for it, which is chosen among
    ``rates`` of them, lr_max (k / rates)^2 for k = 1..rates, by the mean loss over ``draws`` draws, the
    same for every learning rate. The losses before and after that step are means over other draws: they
    are not low because the learning rate was chosen by them.

    Args: quantiser: stochastic units. draws: >= 2. rates: >= 1.
    Raises: ValueError for a quantiser without probabilities, and when a number is out of range.
    """

    def __init__(self, quantiser: Quantiser, draws: int = 10, rates: int = 50) -> None:
        self.units = check_units(self, quantiser)
        self.draws = integer(self, "draws", draws, least=2)
        self.rates = integer(self, "rates", rates)

    def of(self, line: Line, task: Task, batch: Batch, lr_max: float) -> DrawnLoss | None:
        """Return the losses along a line of the task's model; None where they are not finite."""
        lrs = lr_max * (np.arange(1, self.rates + 1) / self.rates) ** 2
        losses = [np.mean(self._losses(line, task, batch, float(lr), "choice")) for lr in lrs]
        finite = [(loss, float(lr)) for loss, lr in zip(losses, lrs, strict=True) if np.isfinite(loss)]
        if not finite:
            return None
        _, lr = min(finite)
        before, after = (self._losses(line, task, batch, rate, "measured") for rate in (0.0, lr))
        if not np.isfinite([*before, *after]).all():
            return None
        pre_error, post_error = (
            float(np.std(drawn, ddof=1)) / math.sqrt(self.draws) for drawn in (before, after)
        )
        return DrawnLoss(
            units=type(self.units).__name__,
            draws=self.draws,
            lr=lr,
            pre_loss=float(np.mean(before)),
            post_loss=float(np.mean(after)),
            pre_error=pre_error,
            post_error=post_error,
        )

    def _losses(self, line: Line, task: Task, batch: Batch, lr: float, purpose: str) -> list[float]:
        """Return the loss of each draw after a step of that size."""
        model = line.at(lr)
        losses = []
        for draw in range(1, self.draws + 1):
            names = ("evaluation", purpose, "batch", batch.index, "draw", draw)
            rule = SampledPass(self.units, task.stream(*names))
            with torch.no_grad(), buffers_kept(model), acting(model, rule), seeded(task.seed, *names):
                losses.append(float(task.loss(model(batch.inputs), batch.targets)))
        return losses
