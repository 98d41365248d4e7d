"""The updated model on examples that it was not updated for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from srste.curve import Line
from srste.problem import Batch, Problem


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


def zero_loss(problem: Problem, batch: Batch) -> float:
    """The loss of a student whose output is zero on that batch, float64."""
    with torch.no_grad():
        shape = problem.teacher(batch.inputs[:2]).shape[1:]
    targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    outputs = torch.zeros(len(batch.inputs), *shape, dtype=torch.float64, device=targets.device)
    return float(problem.loss(outputs, targets))


def held_out(line: Line, problem: Problem, heldout: Batch, lr: float, lr_max: float) -> Heldout:
    """What the step of size ``lr`` along the line does to the loss on ``heldout``, and what is the best
    that any step along it does.

    Args: line: of the problem's model. lr: the winning learning rate, in [0, lr_max].
    """
    curve = line.loss(heldout.inputs, heldout.targets, problem.loss, lr_max, problem.seed)
    lowest = curve.minimum() if curve.exact else None
    return Heldout(
        examples=len(heldout.inputs),
        pre_loss=curve.pre_loss,
        post_loss=float(curve([lr])[0]),
        best_lr=lowest.lr if lowest else None,
        best_loss=lowest.loss if lowest else None,
        attained=lowest.attained if lowest else None,
        zero_loss=zero_loss(problem, heldout),
    )
