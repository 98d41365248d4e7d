"""What is watched while a study runs: that its draws are draws, and that the weights come back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from srste.estimators.base import Direction, Estimator
from srste.problem import Batch, Problem

SAME_DRAWS, NOT_RESTORED = "same draws", "weights not restored"
"""Kinds of alarm; `srste.alarms.MEANING` says what they mean."""


class Unchanged:
    """Holds a model's weights against what they were, and puts them back."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def restore(self) -> bool:
        """Whether something had changed; it has not any more."""
        now = self._model.state_dict()
        changed = [n for n, tensor in self._before.items() if not torch.equal(now[n], tensor)]
        with torch.no_grad():
            for name in changed:
                now[name].copy_(self._before[name])
        return bool(changed)


def draws_do_nothing(
    estimator: Estimator, problem: Problem, batch: Batch, direction: Mapping[str, Tensor]
) -> bool:
    """Whether an estimator that says it is stochastic gives the same direction from other draws.

    direction: what it gave. A mean over samples that are all alike is one of them, so one fresh sample
    is enough to compare with. Different draws differ by much more than rounding.
    """
    if not estimator.stochastic:
        return False
    other: Direction = estimator.direction(problem.redrawn(), batch, 1)
    sizes = {name: float(tensor.abs().max()) for name, tensor in direction.items()}
    alike = (float((other[n] - t).abs().max()) <= 1e-4 * sizes[n] for n, t in direction.items())
    return any(sizes.values()) and all(alike)  # what is not finite is not alike
