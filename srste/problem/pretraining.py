"""Pretraining of the student."""

import logging
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from srste.networks.estimating import estimating
from srste.networks.rounding import Sign
from srste.networks.surrogates import Clipped
from srste.problem.problem import Problem

log = logging.getLogger(__name__)

Weights = dict[str, torch.Tensor]
Advance = Callable[[int], None]


class Pretraining(Protocol):
    """Changes ``problem.model`` in place. steps: how many; 0 leaves the model raw."""

    steps: int

    def train(self, problem: Problem, advance: Advance) -> list[float]: ...


class NoPretraining:
    """The raw network: nothing is trained."""

    steps = 0

    def train(self, problem: Problem, advance: Advance) -> list[float]:
        """Leaves the model as it is and returns no losses."""
        return []


class Adam:
    """Adam with straight-through gradients (sign, clipped), on a fresh batch a step.

    Args: steps: >= 1. batch_size: examples a step, >= 1. lr: Adam's, > 0, at most 1e30.
    Raises: ValueError: `Adam(steps=...)` must be an integer >= 1, and so for the others.
    References: Kingma and Ba (2015), algorithm 1; Courbariaux et al. (2016), equation 4.
    """

    def __init__(self, steps: int = 500, batch_size: int = 16_000, lr: float = 1e-3) -> None:
        for name, value in (("steps", steps), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`Adam({name}={value})` must be an integer >= 1")
        if not 0 < lr <= 1e30:  # beyond, the step does not fit into float32
            raise ValueError(f"`Adam(lr={lr})` must be > 0 and at most 1e30")
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr

    def train(self, problem: Problem, advance: Advance) -> list[float]:
        """Trains ``problem.model``; ``advance(1)`` after each step. Returns the loss before each."""
        model, generator = problem.model, problem.stream("pretraining")
        optimiser = torch.optim.Adam(model.parameters(), lr=self.lr)
        losses = []
        for _ in range(self.steps):
            inputs, targets = problem.draw(generator, self.batch_size)
            with estimating(model, Sign(), Clipped(), generator):
                loss = problem.loss(model(inputs), targets)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
            advance(1)
        optimiser.zero_grad()
        return losses


def still_falling(losses: list[float]) -> bool:
    """Whether the loss was still falling at the end: more than 1 % from the tenth before last to the
    last tenth of the steps, and beyond two standard errors of that difference."""
    tenth = len(losses) // 10
    if tenth < 2:
        return False
    before, last = np.array(losses[-2 * tenth : -tenth]), np.array(losses[-tenth:])
    error = math.sqrt((before.var(ddof=1) + last.var(ddof=1)) / tenth)
    fall = float(before.mean() - last.mean())
    return fall > 2 * error and fall > 0.01 * float(before.mean())
