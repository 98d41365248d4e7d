"""Replay of the best step: a real update of the model, and a forward pass in the model's own dtype.

The loss curve is exact in float64; what a user runs is float32. The two may differ where rounding
decides the sign of a pre-activation that is almost zero; a replay checks whether such units explain
the difference.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from srste.curve.forms import exact_form
from srste.curve.line import Line
from srste.curve.network.base import Array, on_the_fence
from srste.curve.network.sequential import as_double
from srste.losses import ExactLoss, LossFunction, SquaredError


@dataclass(frozen=True)
class Replay:
    """pre_loss, post_loss: of the model in its own dtype, before and after the step. on_the_fence:
    examples with a unit whose sign rounding can decide. explained: whether rounding explains the
    difference to the loss curve."""

    pre_loss: float
    post_loss: float
    on_the_fence: int
    explained: bool


def replay(
    line: Line,
    inputs: Tensor,
    targets: Tensor,
    lr: float,
    curve_loss: float,
    loss: LossFunction | None = None,
) -> Replay:
    """Step a copy of the line's model by ``lr`` and compare it with the loss curve.

    Both are compared with a float64 forward pass of the stepped network: the curve must give its
    loss, except for examples that float64 cannot decide, and the real model its output for every
    example that the model's dtype can decide.

    Args: shapes as for :meth:`srste.curve.line.Line.loss`. lr: >= 0. curve_loss: the curve's at lr.
        loss: one with an exact form; by default the mean squared error.
    Raises: as :meth:`srste.curve.line.Line.exact_loss`.
    """
    loss = SquaredError() if loss is None else loss
    exact_loss = exact_form(loss)
    with torch.no_grad():
        pre_loss = _in_float64(loss, line.model(inputs), targets)
        outputs = line.at(lr)(inputs)
        post_loss = _in_float64(loss, outputs, targets)

    with np.errstate(over="ignore", invalid="ignore"):
        *hidden, last = line.network(inputs).stepped(inputs, lr)
        u = torch.finfo(outputs.dtype).eps / 2
        undecided, fence = (on_the_fence(hidden, len(inputs), v) for v in (np.finfo(float).eps / 2, u))

        exact = torch.from_numpy(last.values).reshape(outputs.shape)
        size = _largest_loss(exact_loss, last.magnitude, targets)
        allowed = 1e-12 * size.mean() + size[undecided].sum() / len(inputs)
        curve_agrees = abs(curve_loss - _in_float64(loss, exact, targets.cpu())) <= allowed

        real = outputs.double().cpu().numpy().reshape(last.values.shape)
        agrees = np.abs(real - last.values) <= last.rounding(u)  # false for nan
    model_agrees = bool((agrees.all(axis=1) | fence).all())
    return Replay(pre_loss, post_loss, int(fence.sum()), bool(curve_agrees) and model_agrees)


def _in_float64(loss: LossFunction, outputs: Tensor, targets: Tensor) -> float:
    # The loss's own rounding is to have no part in the comparison.
    return float(loss(outputs.double(), as_double(targets)))


def _largest_loss(loss: ExactLoss, reach: Array, targets: Tensor) -> Array:
    """Return (examples,) bounds on each example's loss for outputs within their reach."""
    targets = as_double(targets.detach().cpu())
    targets = targets.reshape(reach.shape) if targets.is_floating_point() else targets
    largest: Array = loss.bound(torch.from_numpy(reach), targets).numpy()
    return largest
