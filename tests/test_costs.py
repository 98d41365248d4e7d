"""What a direction costs, where that is a bound or not declared; srste.testing counts all others."""

from __future__ import annotations

from unittest import mock

import torch
from torch import nn

from srste import api
from srste.estimators import cost_of
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from srste.problem.task import OneBatch


def network():
    return nn.Sequential(
        nn.Linear(4, 3), BinaryActivation(), nn.Linear(3, 3), BinaryActivation(), nn.Linear(3, 1)
    )


def test_the_discrete_gradient_s_is_a_bound():
    """It runs the layers above a unit, and those for some of the examples only."""
    estimator = api.part("estimator", "cdg")
    model = network()
    examples = []
    for layer in list(model)[2:][::2]:
        layer.register_forward_hook(lambda _, inputs, __: examples.append(len(inputs[0])))
    task = OneBatch(model, SquaredError(), torch.randn(50, 4), torch.randn(50, 1), 0)
    with mock.patch("copy.deepcopy", side_effect=lambda module: module.double()):
        estimator.direction(task, task.batch(1), 1)
    cost = cost_of(estimator, network(), 1)
    assert cost == (7, 0, True)
    assert 0 < sum(examples) <= 50 * 2 * cost.forward


def test_of_another_network_it_is_two_passes_a_weight():
    model = nn.Sequential(
        nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), BinaryActivation(), nn.Linear(2, 1)
    )
    weights = sum(p.numel() for p in model.parameters())
    assert cost_of(api.part("estimator", "cdg"), model, 1) == (2 * weights, 0, False)


def test_an_estimator_need_not_declare_any():
    assert cost_of(api.part("estimator", "never_zeroed"), network(), 1) is None
