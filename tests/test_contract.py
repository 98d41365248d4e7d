"""The contract of estimators that is shipped, `srste.testing`, held to planted faults."""

from __future__ import annotations

import pytest
import torch

from srste import api
from srste.testing import EstimatorContract


def planted(**fault):
    """STE with a fault, as a class that the contract is for."""

    class Faulty:
        stochastic = fault.get("stochastic", False)
        calls = 0

        def direction(self, task, batch, samples):
            self.calls += 1
            direction = api.part("estimator", "ste").direction(task, batch, samples)
            return fault["of"](self, task, batch, samples, dict(direction))

    return Faulty


def with_first(direction, change):
    name = next(iter(direction))
    return direction | {name: change(direction[name])}


def written(task):
    with torch.no_grad():
        task.model[0].weight.add_(1)


FAULTS = {
    "a_finite_tensor_for_every_parameter": [
        lambda self, task, batch, n, d: with_first(d, lambda g: g / 0),
        lambda self, task, batch, n, d: with_first(d, lambda g: g[:1]),
        lambda self, task, batch, n, d: {name: torch.zeros_like(g) for name, g in d.items()},
        lambda self, task, batch, n, d: with_first(d, lambda g: g.requires_grad_()),
    ],
    "same_call_same_direction_whatever_came_before": [
        lambda self, task, batch, n, d: {name: g * self.calls for name, g in d.items()},
        lambda self, task, batch, n, d: {name: g + torch.rand(()) for name, g in d.items()},
    ],
    "the_model_and_pytorch_are_left_unchanged": [
        lambda self, task, batch, n, d: (written(task), d)[1],
        lambda self, task, batch, n, d: (task.model.eval(), d)[1],
        lambda self, task, batch, n, d: (torch.rand(1), d)[1],
        lambda self, task, batch, n, d: (batch.inputs.add_(1), d)[1],
        lambda self, task, batch, n, d: (task.model(batch.inputs).sum().backward(), d)[1],
    ],
    "samples_matter_exactly_if_it_is_stochastic": [
        lambda self, task, batch, n, d: {name: g * n for name, g in d.items()},
    ],
    "the_order_of_examples_does_not_matter_if_it_draws_nothing": [
        lambda self, task, batch, n, d: with_first(d, lambda g: g * (2 + batch.inputs[0].sum().tanh())),
    ],
    "the_network_matters": [
        lambda self, task, batch, n, d: {name: torch.ones_like(g) for name, g in d.items()},
    ],
    "parameters_that_require_no_gradient_stay": [
        lambda self, task, batch, n, d: {name: g + 1 for name, g in d.items()},
    ],
}


def test_each_part_of_the_contract_has_its_faults():
    assert {f"test_{name}" for name in FAULTS} == {m for m in dir(EstimatorContract) if "test_" in m}


@pytest.mark.parametrize("name", FAULTS)
def test_the_contract_tells_a_planted_fault(name):
    for fault in FAULTS[name]:

        class Tried(EstimatorContract):
            make = staticmethod(planted(of=fault))

        with pytest.raises((AssertionError, ValueError)):
            getattr(Tried(), f"test_{name}")()


def test_the_contract_tells_draws_that_are_none():
    class Tried(EstimatorContract):
        make = staticmethod(planted(stochastic=True, of=lambda self, task, batch, n, d: d))

    with pytest.raises(AssertionError, match="it says that it is stochastic, and is not"):
        Tried().test_samples_matter_exactly_if_it_is_stochastic()
