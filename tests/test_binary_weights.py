"""Layers of binary weights, against their equations in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from srste import api
from srste.curve import Line
from srste.losses import SquaredError
from srste.networks.binary_weights import MagnitudeAwareLinear
from srste.networks.models.binary_weights import BinaryWeightMLP
from srste.problem.task import OneBatch


@pytest.mark.parametrize("bias", [True, False])
def test_forward_and_backward_by_the_equations(bias):
    torch.manual_seed(0)
    layer = MagnitudeAwareLinear(5, 4, bias=bias).double()
    with torch.no_grad():
        layer.weight.mul_(3)  # some beyond 1
        layer.weight[0, 0] = 0.0
    x, g = torch.randn(7, 5).double(), torch.randn(7, 4).double()
    y = layer(x)
    w = layer.weight.detach().numpy()
    scale = np.abs(w).mean(1, keepdims=True)
    binary = scale * np.where(w >= 0, 1.0, -1.0)
    b = layer.bias.detach().numpy() if bias else 0
    np.testing.assert_allclose(y.detach().numpy(), x.numpy() @ binary.T + b, rtol=1e-12)
    (y * g).sum().backward()
    expected = scale * (g.numpy().T @ x.numpy()) * (np.abs(w) <= 1)
    assert 0 < (np.abs(w) > 1).sum() < w.size
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-12, atol=1e-14)
    if bias:
        np.testing.assert_allclose(layer.bias.grad.numpy(), g.numpy().sum(0), rtol=1e-12)


def test_estimators_and_curves_of_the_network():
    torch.manual_seed(0)
    model = BinaryWeightMLP(4, 6, 3, 1)
    assert [type(m).__name__ for m in model if isinstance(m, nn.Linear)] == [
        "Linear", "MagnitudeAwareLinear", "MagnitudeAwareLinear", "Linear"
    ]  # fmt: skip
    task = OneBatch(model, SquaredError(), torch.randn(30, 4), torch.randn(30, 1), 0)
    for name in ("ste", "sr_ste", "reinmax", "disarm"):
        direction = api.part("estimator", name).direction(task, task.batch(1), 2)
        assert all(g.isfinite().all() and g.any() for g in direction.values())
        curve = Line(model, direction).loss(task.inputs, task.targets, lr_max=0.5)
        assert not curve.exact
        stepped = Line(model, direction).at(0.2)
        with torch.no_grad():
            loss = SquaredError()(stepped(task.inputs), task.targets)
        assert float(curve(0.2)) == pytest.approx(float(loss), rel=1e-5)


def test_bad_sizes():
    with pytest.raises(ValueError, match=r"`BinaryWeightMLP\(width=0\)` must be an integer >= 1"):
        BinaryWeightMLP(width=0)


def test_psa_is_for_real_weights():
    torch.manual_seed(0)
    task = OneBatch(BinaryWeightMLP(4, 3, 2, 1), SquaredError(), torch.randn(5, 4), torch.randn(5, 1), 0)
    with pytest.raises(ValueError, match="between two activations stands MagnitudeAwareLinear; it"):
        api.part("estimator", "psa").direction(task, task.batch(1), 1)
