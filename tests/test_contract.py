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

        def cost(self, model, samples):
            return (1 if samples == 1 else 2, 1)

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
    "a_network_of_float64_has_directions_of_float64": [
        lambda self, task, batch, n, d: {name: g.float() for name, g in d.items()},
    ],
    "a_loss_of_zero_gives_a_direction_of_zero": [
        lambda self, task, batch, n, d: with_first(d, lambda g: g + 1e-3),
    ],
    "passes_are_as_declared": [
        lambda self, task, batch, n, d: (task.model(batch.inputs), d)[1],
        lambda self, task, batch, n, d: api.part("estimator", "ste").direction(task, batch, n),
    ],
}
OF_MOMENTS = {
    "estimates_are_on_average_as_expected": {
        "its sign": lambda self, g, n: -g,
        "its scale": lambda self, g, n: 1.25 * g,
        "a bias": lambda self, g, n: g + 0.1,
        "a sum over samples": lambda self, g, n: 2 * g,
        "never zeroed": lambda self, g, n: self.summed(g),
    },
    "more_samples_have_less_variance_as_independent_ones_have": {
        "draws used again": None,
        "a sum, not a mean": lambda self, g, n: n * g,
        "divided by its root": lambda self, g, n: n**0.5 * g,
    },
}


def test_each_part_of_the_contract_has_its_faults():
    tests = {m for m in dir(EstimatorContract) if m.startswith("test_")}
    assert {f"test_{name}" for name in [*FAULTS, *OF_MOMENTS]} == tests


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


PLAIN = ["estimator/normalisation=none"]


def unbiased(change):
    """Leave-one-out pairs with a fault in what they give, or with the draws of one sample for all."""

    class Faulty:
        stochastic = unbiased = True

        def __init__(self):
            self._plain = api.part("estimator", "leave_one_out", PLAIN)
            self.units = self._plain.units
            self._sum = {}

        def cost(self, model, samples):
            return self._plain.cost(model, samples)

        def summed(self, g):
            self._sum[g.shape] = self._sum.get(g.shape, 0) + g
            return self._sum[g.shape]

        def direction(self, task, batch, samples):
            if change is None:
                return self._plain.direction(task, batch, 1)
            direction = self._plain.direction(task, batch, samples)
            return {name: change(self, g, samples) for name, g in direction.items()}

    class Tried(EstimatorContract):
        make = make_plain = staticmethod(Faulty)

    return Tried()


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, faults in OF_MOMENTS.items() for fault in faults]
)
def test_the_contract_tells_a_fault_of_the_mean_or_the_variance(name, fault):
    with pytest.raises(
        AssertionError, match=r"standard errors|as long|variance of the mean|another mean"
    ):
        getattr(unbiased(OF_MOMENTS[name][fault]), f"test_{name}")()


@pytest.mark.parametrize("name", OF_MOMENTS)
def test_the_contract_tells_none_where_there_is_none(name):
    getattr(unbiased(lambda self, g, n: g), f"test_{name}")()
