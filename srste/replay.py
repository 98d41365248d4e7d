"""The winner replayed: a real update of the real model, and a real forward pass in its own dtype.

The loss curve is exact in float64; what a user runs is float32. The two may differ where rounding
decides the sign of a pre-activation that is almost zero. This module makes the step for real, and
says whether such units explain the difference.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from srste.curve.network import Array, MovingLayer, as_float64, moving_layers


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
    model: nn.Module,
    direction: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    lr: float,
    curve_loss: float,
) -> Replay:
    """Steps a copy of ``model`` by ``w - lr * direction`` and holds it against the loss curve.

    Between the two stands one float64 forward pass of the stepped network. The curve must give its
    loss, but for examples that float64 itself cannot decide; and the real model must give its output
    for every example that the model's dtype can decide.

    Args: shapes as for :func:`srste.curve.loss_curve`. lr: >= 0. curve_loss: the curve's at lr.
    Raises: as :func:`srste.curve.loss_curve`.
    """
    with torch.no_grad():
        pre_loss = _mean_squared(model(inputs), targets)
        stepped = copy.deepcopy(model)
        for name, parameter in stepped.named_parameters():
            # As a tensor, so that a learning rate beyond the dtype is infinite and not an exception.
            parameter.sub_(direction[name] * torch.tensor(lr, dtype=parameter.dtype))
        outputs = stepped(inputs)
        post_loss = _mean_squared(outputs, targets)

    layers = moving_layers(model, direction)
    x, y = as_float64("inputs", inputs), as_float64("targets", targets)
    with np.errstate(over="ignore", invalid="ignore"):
        unit_roundoff = torch.finfo(outputs.dtype).eps / 2
        exact, reach, (undecided, fence) = _forward(
            layers, x, lr, [np.finfo(np.float64).eps / 2, unit_roundoff]
        )
        # What the terms of the loss are made of, and all of it for an example that is undecided.
        size = (reach + np.abs(y)) ** 2
        allowed = 1e-12 * size.mean() + size[undecided].sum() / y.size
        curve_agrees = abs(curve_loss - ((exact - y) ** 2).mean()) <= allowed

        bound = _gamma(layers[-1].w.shape[1], unit_roundoff) * reach
        agrees = np.abs(outputs.double().cpu().numpy() - exact) <= bound  # false for nan
    model_agrees = bool((agrees.all(axis=1) | fence).all())
    return Replay(pre_loss, post_loss, int(fence.sum()), bool(curve_agrees) and model_agrees)


def _mean_squared(outputs: Tensor, targets: Tensor) -> float:
    # The mean in float64, so that its own rounding does not blur the comparison.
    return float(((outputs - targets).double() ** 2).mean())


def _gamma(terms: int, u: float) -> float:
    """A sum of n products in unit roundoff u is within n u / (1 - n u) of exact, relative to the sum
    of magnitudes, in any order (Higham, 2002, section 3.1). Here the step adds three roundings to
    each weight and the bias one term."""
    n = (terms + 5) * u
    return n / (1 - n)


def _forward(
    layers: list[MovingLayer], x: Array, lr: float, roundoffs: list[float]
) -> tuple[Array, Array, list[NDArray[np.bool_]]]:
    """(outputs, the sums of magnitudes that they were made of, and for each unit roundoff which examples
    have a pre-activation within rounding of zero in it) of the stepped network, in float64."""
    h = x
    fences = [np.zeros(len(x), dtype=bool) for _ in roundoffs]
    for layer in layers:
        a, d = layer(h)
        output = a - lr * d
        reach = np.abs(h) @ (np.abs(layer.w) + lr * np.abs(layer.dw)).T
        reach += np.abs(layer.b) + lr * np.abs(layer.db)
        if layer is not layers[-1]:
            size = np.abs(output)
            for fence, u in zip(fences, roundoffs, strict=True):
                np.logical_or(fence, (size <= _gamma(h.shape[1], u) * reach).any(axis=1), out=fence)
            h = np.where(output >= 0, 1.0, -1.0)
    return output, reach, fences
