"""What is watched while a study runs: that its draws are draws, that the weights come back, and that the
step moves all that it may move."""

from __future__ import annotations

import torch
from torch import nn

from srste.estimators.base import Direction, Estimator
from srste.problem.task import Batch, Redrawn, Task

SAME_DRAWS, NOT_RESTORED = "same draws", "weights not restored"
NOT_MOVED = "tensors that do not move"
"""Kinds of alarm; `srste.analysis.alarms.MEANING` says what they mean."""


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


def draws_do_nothing(estimator: Estimator, task: Task, batch: Batch) -> bool:
    """Whether an estimator that says it is stochastic gives the same direction from other draws, to the
    last bit: one sample is enough to tell, and where draws do nothing all the arithmetic is the same."""
    if not estimator.stochastic:
        return False
    one, other = (estimator.direction(t, batch, 1) for t in (task, Redrawn(task)))
    alike = (torch.equal(other[name], tensor) for name, tensor in one.items())
    return any(tensor.any() for tensor in one.values()) and all(alike)


NAMED = 10
"""Tensors that an alarm names, at most."""


def not_moved(model: nn.Module, direction: Direction) -> str:
    """The names of the parameter tensors whose direction is zero although they are not declared to stay
    (``requires_grad=False``), "" if there are none."""
    still = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and p.numel() and not direction[name].any()
    ]
    more = [f"and {len(still) - NAMED} more"] if len(still) > NAMED else []
    return ", ".join([*still[:NAMED], *more])
