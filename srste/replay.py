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
from torch import Tensor, nn

from srste.curve.network import Array, as_float64, moving_layers


@dataclass(frozen=True)
class Replay:
    """pre_loss, post_loss: of the model in its own dtype, before and after the step.

    on_the_fence: examples with a unit whose sign rounding can decide.
    explained: whether every other example gives the curve's output up to rounding.
    """

    pre_loss: float
    post_loss: float
    on_the_fence: int
    explained: bool


def replay(
    model: nn.Module, direction: Mapping[str, Tensor], inputs: Tensor, targets: Tensor, lr: float
) -> Replay:
    """Steps a copy of ``model`` by ``w - lr * direction`` and compares it with exact arithmetic.

    Shapes and raised errors as for :func:`srste.curve.loss_curve`; lr: the learning rate, >= 0.
    """
    with torch.no_grad():
        pre_loss = _mean_squared(model(inputs), targets)
        stepped = copy.deepcopy(model)
        for name, parameter in stepped.named_parameters():
            parameter.sub_(direction[name], alpha=lr)
        outputs = stepped(inputs)
        post_loss = _mean_squared(outputs, targets)

    unit_roundoff = torch.finfo(outputs.dtype).eps / 2
    exact, bound, fence = _exact_outputs(
        model, direction, as_float64("inputs", inputs), lr, unit_roundoff
    )
    off = ~(np.abs(outputs.cpu().numpy() - exact) <= bound)  # nan is off, too
    return Replay(pre_loss, post_loss, int(fence.sum()), not bool((off.any(axis=1) & ~fence).any()))


def _mean_squared(outputs: Tensor, targets: Tensor) -> float:
    # The mean in float64, so that its own rounding does not blur the comparison.
    return float(((outputs - targets).double() ** 2).mean())


def _exact_outputs(
    model: nn.Module, direction: Mapping[str, Tensor], x: Array, lr: float, u: float
) -> tuple[Array, Array, np.ndarray]:
    """(outputs, bound on their rounding error in unit roundoff ``u``, examples on the fence).

    A float sum of n products is within gamma = n u / (1 - n u) of exact, relative to the sum of the
    magnitudes (Higham, 2002, section 3.1, any order of summation); the step adds two roundings to
    each weight and the bias one term to the sum.
    """
    h = x
    fence = np.zeros(len(x), dtype=bool)
    layers = moving_layers(model, direction)
    for layer in layers:
        a, d = layer(h)
        exact = a - lr * d
        n = (h.shape[1] + 4) * u
        size = np.abs(h) @ (np.abs(layer.w) + lr * np.abs(layer.dw)).T
        bound = n / (1 - n) * (size + np.abs(layer.b) + lr * np.abs(layer.db))
        if layer is not layers[-1]:
            fence |= (np.abs(exact) <= bound).any(axis=1)
            h = np.where(exact >= 0, 1.0, -1.0)
    return exact, bound, fence
