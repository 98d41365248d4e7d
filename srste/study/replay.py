"""The winner replayed: a real update of the real model, and a real forward pass in its own dtype.

The loss curve is exact in float64; what a user runs is float32. The two may differ where rounding
decides the sign of a pre-activation that is almost zero. This module makes the step for real, and
says whether such units explain the difference.
"""

from __future__ import annotations

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
    """pre_loss, post_loss: of the model in its own dtype, before and after the step.

    on_the_fence: examples with a unit whose sign rounding can decide.
    explained: whether rounding explains the difference to the loss curve.
    """

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
    """Steps a copy of the line's model by ``lr`` and holds it against the loss curve.

    Between the two stands one float64 forward pass of the stepped network. The curve must give its
    loss, but for examples that float64 itself cannot decide; and the real model must give its output
    for every example that the model's dtype can decide.

    Args: shapes as for :meth:`srste.curve.line.Line.loss`. lr: >= 0. curve_loss: the curve's at lr.
        loss: one with an exact form; the mean squared error, if none is given.
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
    # So that the rounding of the loss itself does not blur the comparison.
    return float(loss(outputs.double(), as_double(targets)))


def _largest_loss(loss: ExactLoss, reach: Array, targets: Tensor) -> Array:
    """(examples,) what an example's loss can at most be with outputs within their reach."""
    there = as_double(targets.detach().cpu())
    there = there.reshape(reach.shape) if there.is_floating_point() else there
    largest: Array = loss.bound(torch.from_numpy(reach), there).numpy()
    return largest
