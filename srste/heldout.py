"""The updated model on examples that it was not updated for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from srste.curve import loss_curve
from srste.estimators.base import Direction
from srste.problem import Batch, mean_squared_error


@dataclass(frozen=True)
class Heldout:
    """Losses on held-out examples of the same problem, float64.

    examples: how many. pre_loss: before the step. post_loss: after the step that is best on the
    batch. best_lr, best_loss: of the step along the same direction that is best on the held-out
    examples, over all real learning rates in (0, lr_max]; attained: False where best_loss is a limit
    that is only approached. zero_loss: of a student whose output is zero.
    """

    examples: int
    pre_loss: float
    post_loss: float
    best_lr: float
    best_loss: float
    attained: bool
    zero_loss: float


def zero_loss(batch: Batch) -> float:
    """The loss of a student whose output is zero on that batch, float64."""
    targets = batch.targets.double()
    return float(mean_squared_error(torch.zeros_like(targets), targets))


def held_out(
    model: nn.Module, direction: Direction, heldout: Batch, lr: float, lr_max: float
) -> Heldout:
    """What the step ``w - lr * direction`` does to the loss on ``heldout``, and what is the best that
    any step along that direction does.

    Args: lr: the winning learning rate, in [0, lr_max]. Others as for :func:`srste.curve.loss_curve`.
    """
    curve = loss_curve(model, direction, heldout.inputs, heldout.targets, lr_max)
    lowest = curve.minimum()
    return Heldout(
        examples=len(heldout.inputs),
        pre_loss=curve.pre_loss,
        post_loss=float(curve([lr])[0]),
        best_lr=lowest.lr,
        best_loss=lowest.loss,
        attained=lowest.attained,
        zero_loss=zero_loss(heldout),
    )
