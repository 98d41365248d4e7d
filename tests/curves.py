"""Random cases for the tests of the loss curve."""

from __future__ import annotations

import numpy as np
import torch

from srste.networks.models.mlp import MLP
from tests import oracle
from tests.lines import loss_curve

TINY = np.nextafter(0.0, 1.0)


def normalised(direction, how):
    """tensor, row (of matrices and vectors), global or none."""
    if how == "tensor":
        return {k: g / (g.norm() + 1e-8) for k, g in direction.items()}
    if how == "row":
        return {k: g / (g.norm(dim=-1, keepdim=True) + 1e-8) for k, g in direction.items()}
    if how == "global":
        norm = torch.cat([g.flatten() for g in direction.values()]).norm()
        return {k: g / (norm + 1e-8) for k, g in direction.items()}
    return direction


def make(seed, width, depth, out, bias, batch, how, whole, features=3):
    """A random case. whole: integer weights and inputs, which make exact zeros and coincidences."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        if whole:
            return torch.randint(-2, 3, shape, generator=generator).double()
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    model = MLP(features, width, depth, out, bias).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(draw(*parameter.shape))
    direction = {name: draw(*p.shape) for name, p in model.named_parameters()}
    return model, normalised(direction, how), draw(batch, features), draw(batch, out)


def as_oracle(model, direction, x, y, bias):
    weights = dict(model.named_parameters())
    return (
        oracle.network_of(weights, bias),
        oracle.network_of(direction, bias),
        x.numpy(),
        y.numpy(),
    )


def a_case(seed, width, depth, out, bias, batch, how):
    names = ("seed", "width", "depth", "out", "bias", "batch", "how", "whole")
    return dict(zip(names, (seed, width, depth, out, bias, batch, how, False), strict=True))


def assert_equals_brute_force(model, direction, x, y, bias, lrs):
    """The curve at these learning rates, to 1e-12 relative."""
    network, g, inputs, targets = as_oracle(model, direction, x, y, bias)
    np.testing.assert_allclose(
        loss_curve(model, direction, x, y)(lrs),
        oracle.brute_force(network, g, inputs, targets, lrs),
        rtol=1e-12,
    )
