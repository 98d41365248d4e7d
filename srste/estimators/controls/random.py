"""Control: a random direction."""

import torch
from torch import nn

from srste.estimators.base import Cost, Direction, Normalisation
from srste.problem.task import Batch, Task
from srste.randomness import normal


class Random:
    """A direction that knows nothing of the loss.

    Direction: normalisation(standard normals, zero where ``requires_grad=False``); each ``samples`` is
        another draw

    What a search of the learning rate finds along any line at all.

    Args: normalisation: see `srste.estimators.base`.
    Properties: stochastic; one draw whatever ``samples``; no forward or backward pass.
    """

    stochastic = True

    def __init__(self, normalisation: Normalisation) -> None:
        self.normalisation = normalisation

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(0, 0)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        generator = task.stream("random", "batch", batch.index, "of", samples)
        draws = {
            name: normal(generator, tuple(p.shape), p.device).to(p.dtype)
            if p.requires_grad
            else torch.zeros_like(p)
            for name, p in task.model.named_parameters()
        }
        return self.normalisation(draws)
