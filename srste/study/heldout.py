"""The updated model on examples that it was not updated for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from srste.curve import Line
from srste.problem.task import Batch, Task, buffers_kept


@dataclass(frozen=True)
class Heldout:
    """Losses on held-out examples of the same problem, float64.

    examples: how many. pre_loss: before the step. post_loss: after the step that is best on the
    batch. best_lr, best_loss: of the step along the same direction that is best on the held-out
    examples, over all real learning rates in (0, lr_max]; attained: False where best_loss is a limit
    that is only approached; all three None where the loss curve has no exact form. zero_loss: of a
    student whose output is zero.
    """

    examples: int
    pre_loss: float
    post_loss: float
    best_lr: float | None
    best_loss: float | None
    attained: bool | None
    zero_loss: float


def zero_loss(task: Task, batch: Batch) -> float:
    """The loss of a model whose output is zero on that batch, float64."""
    device = batch.inputs.device
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices), buffers_kept(task.model):
        shape = task.model(batch.inputs[:2]).shape[1:]
    targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    outputs = torch.zeros(len(batch.inputs), *shape, dtype=torch.float64, device=targets.device)
    return float(task.loss(outputs, targets))


def held_out(line: Line, task: Task, heldout: Batch, lr: float, lr_max: float) -> Heldout:
    """What the step of size ``lr`` along the line does to the loss on ``heldout``, and what is the best
    that any step along it does.

    Args: line: of the task's model. lr: the winning learning rate, in [0, lr_max].
    """
    curve = line.loss(heldout.inputs, heldout.targets, task.loss, lr_max, task.seed)
    lowest = curve.minimum() if curve.exact else None
    return Heldout(
        examples=len(heldout.inputs),
        pre_loss=curve.pre_loss,
        post_loss=float(curve([lr])[0]),
        best_lr=lowest.lr if lowest else None,
        best_loss=lowest.loss if lowest else None,
        attained=lowest.attained if lowest else None,
        zero_loss=zero_loss(task, heldout),
    )
