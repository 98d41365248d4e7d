"""Checks made while a study runs: that draws change the direction, that the estimator leaves the
weights as they were, and that the step moves every tensor that it may move."""

import torch
from torch import nn

from srste.estimators.base import Direction, Estimator
from srste.problem.task import Batch, Redrawn, Task

MAX_NAMED = 10
"""Tensors that an alarm names, at most."""


class WeightSnapshot:
    """A copy of a model's state, to compare with and to restore."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def restore(self) -> bool:
        """Restore the state. Returns whether anything had changed."""
        now = self._model.state_dict()
        changed = [n for n, tensor in self._before.items() if not torch.equal(now[n], tensor)]
        with torch.no_grad():
            for name in changed:
                now[name].copy_(self._before[name])
        return bool(changed)


def ignores_draws(estimator: Estimator, task: Task, batch: Batch) -> bool:
    """Return whether an estimator that says it is stochastic gives bit for bit the same non-zero
    direction with other draws. One sample is enough to tell."""
    if not estimator.stochastic:
        return False
    one, other = (estimator.direction(t, batch, 1) for t in (task, Redrawn(task)))
    alike = (torch.equal(other[name], tensor) for name, tensor in one.items())
    return any(tensor.any() for tensor in one.values()) and all(alike)


def unmoved_tensors(model: nn.Module, direction: Direction) -> str:
    """Return the names of the parameter tensors whose direction is zero although they are not
    frozen (``requires_grad=False``); "" if there are none."""
    unmoved = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and p.numel() and not direction[name].any()
    ]
    more = [f"and {len(unmoved) - MAX_NAMED} more"] if len(unmoved) > MAX_NAMED else []
    return ", ".join([*unmoved[:MAX_NAMED], *more])
