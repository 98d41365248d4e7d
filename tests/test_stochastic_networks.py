"""Estimators of stochastic binary networks against the exact mean loss, and that against enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from srste import api
from srste.estimators.base import gradient_of
from srste.estimators.expected_loss import expected_loss
from srste.estimators.sampled import losses_of_examples
from srste.losses import CrossEntropy, SquaredError
from srste.networks.activations import BinaryActivation, BinaryStep
from srste.networks.rounding import StochasticRounding
from srste.networks.units import HardSigmoid, Logistic, Triangular
from srste.problem.task import OneBatch
from tests.support import choices

UNITS = {"logistic": Logistic(), "hard_sigmoid": HardSigmoid(), "triangular": Triangular()}
PROBABILITY = {
    "logistic": lambda a: 1 / (1 + math.exp(-a)),
    "hard_sigmoid": lambda a: min(max((a + 1) / 2, 0.0), 1.0),
    "triangular": lambda a: (1 + max(a, -1)) ** 2 / 2 if a < 0 else 1 - (1 - min(a, 1)) ** 2 / 2,
}


def case(kind=BinaryActivation, loss=None, sizes=(3, 2, 3, 2), batch=3, seed=0):
    """A small network, and a batch for it, in float64."""
    generator = torch.Generator().manual_seed(seed)
    modules = []
    for below, above in itertools.pairwise(sizes):
        linear = nn.Linear(below, above, dtype=torch.float64)
        with torch.no_grad():
            for p in linear.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.4)
        modules += [linear, kind()]
    x = torch.randn(batch, sizes[0], generator=generator, dtype=torch.float64)
    y = torch.randn(batch, sizes[-1], generator=generator, dtype=torch.float64)
    if isinstance(loss, CrossEntropy):
        y = torch.randint(0, sizes[-1], (batch,), generator=generator)
    return nn.Sequential(*modules[:-1]), loss or SquaredError(), x, y


def by_enumeration(model, units, loss, x, y):
    """The mean over all combinations of all units' values, one example and one combination at a time."""
    layers = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in list(model)[::2]]
    levels = model[1].levels
    total = 0.0
    for example in range(len(x)):
        for drawn in itertools.product((0, 1), repeat=sum(len(b) for _, b in layers[:-1])):
            left, h, probability = list(drawn), x[example].numpy(), 1.0
            for weight, bias in layers[:-1]:
                p = [PROBABILITY[units](a) for a in weight @ h + bias]
                bits = [left.pop(0) for _ in p]
                probability *= math.prod(q if b else 1 - q for q, b in zip(p, bits, strict=True))
                h = np.array([levels[b] for b in bits])
            outputs = torch.from_numpy(layers[-1][0] @ h + layers[-1][1])
            total += probability * float(loss(outputs[None], y[example : example + 1]))
    return total / len(x)


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", [BinaryActivation, BinaryStep])
@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()])
def test_the_expected_loss_is_that_of_all_combinations(kind, units, loss):
    model, _, x, y = case(kind, loss)
    computed = expected_loss(model, UNITS[units], loss, x, y)
    assert float(computed.detach()) == pytest.approx(by_enumeration(model, units, loss, x, y), rel=1e-12)


@pytest.mark.parametrize("units", UNITS)
def test_its_gradient_is_that_of_central_differences(units):
    model, loss, x, y = case(sizes=(3, 2, 2, 1))
    gradient = gradient_of(expected_loss(model, UNITS[units], loss, x, y), model)
    for name, p in model.named_parameters():
        flat = p.detach().view(-1)
        for i in range(len(flat)):
            before, losses = float(flat[i]), []
            for moved in (before + 1e-6, before - 1e-6):
                flat[i] = moved
                losses.append(by_enumeration(model, units, loss, x, y))
            flat[i] = before
            slope = (losses[0] - losses[1]) / 2e-6
            assert float(gradient[name].view(-1)[i]) == pytest.approx(slope, abs=2e-8)


@pytest.mark.parametrize(
    ("model", "units", "says"),
    [
        (nn.Sequential(nn.Linear(3, 13), BinaryActivation(), nn.Linear(13, 1)), Logistic(),
         "at most 12"),
        (nn.Sequential(nn.Linear(3, 2), BinaryActivation(), nn.Linear(2, 1)), StochasticRounding(),
         "must be one of logistic, hard_sigmoid, triangular"),
        (nn.Sequential(nn.Sequential(nn.Linear(3, 2), BinaryActivation()), nn.Linear(2, 1)), Logistic(),
         "activations within a module"),
        (BinaryActivation(), Logistic(), "must stand in a row"),
    ],
)  # fmt: skip
def test_networks_whose_states_are_not_gone_through(model, units, says):
    with pytest.raises(ValueError, match=says):
        expected_loss(model, units, SquaredError(), torch.zeros(2, 3), torch.zeros(2, 1))


UNBIASED = ["reinforce", "leave_one_out", "arm", "disarm"]
COPIES, REPEATS = 4000, 30


def means(name, units, kind, loss, seed=0, sizes=(3, 2, 3, 2)):
    """REPEATS gradients, each the mean of COPIES draws, and the exact gradient, as vectors."""
    model, loss, x, y = case(kind, loss, seed=seed, sizes=sizes)
    overrides = [f"estimator/quantiser={units}", "estimator/normalisation=none"]
    estimator = api.part("estimator", name, overrides)
    exact = gradient_of(expected_loss(model, UNITS[units], loss, x, y), model)
    many = x.repeat(COPIES, 1), y.repeat(COPIES, *[1] * (y.ndim - 1))
    computed = []
    for repeat in range(REPEATS):
        task = OneBatch(model, loss, *many, repeat)
        computed.append(_flat(estimator.direction(task, task.batch(1), 1)))
    return torch.stack(computed), _flat(exact)


def _flat(direction):
    return torch.cat([g.flatten() for g in direction.values()])


@pytest.mark.parametrize("name", UNBIASED)
@pytest.mark.parametrize(
    ("units", "kind", "loss"),
    [
        ("logistic", BinaryActivation, SquaredError()),
        ("hard_sigmoid", BinaryStep, SquaredError()),
        ("triangular", BinaryActivation, CrossEntropy()),
    ],
)
def test_unbiased(name, units, kind, loss):
    computed, exact = means(name, units, kind, loss)
    error = computed.std(0) / math.sqrt(REPEATS)
    # Of some 25 numbers, with 29 degrees of freedom: 6 standard errors.
    assert ((computed.mean(0) - exact).abs() <= 6 * error + 1e-12).all()
    assert float(exact.norm()) > 10 * float(error.norm()), "nothing could be told"


def test_reinmax_is_exact_for_a_quadratic_loss_of_one_layer():
    """And the straight-through estimator of the network is not."""
    sizes = (3, 3, 1)
    computed, exact = means("reinmax", "logistic", BinaryActivation, None, sizes=sizes)
    error = computed.std(0) / math.sqrt(REPEATS)
    assert ((computed.mean(0) - exact).abs() <= 6 * error + 1e-12).all()
    computed, exact = means("logistic_st", "logistic", BinaryActivation, None, sizes=sizes)
    error = computed.std(0) / math.sqrt(REPEATS)
    assert ((computed.mean(0) - exact).abs() > 6 * error).any()


@pytest.mark.parametrize("units", UNITS)
def test_psa_is_exact_for_one_layer(units):
    """Every flip is evaluated: the mean over the draws of one example is the gradient."""
    computed, exact = means("psa", units, BinaryStep, CrossEntropy(), sizes=(3, 3, 2))
    error = computed.std(0) / math.sqrt(REPEATS)
    assert ((computed.mean(0) - exact).abs() <= 6 * error + 1e-12).all()


def test_mean_field_is_exact_for_a_linear_loss():
    model, _, x, y = case(sizes=(3, 2, 1))

    def loss(outputs, targets):
        return (outputs * targets).mean()

    task = OneBatch(model, loss, x, y, 0)
    estimator = api.part("estimator", "mean_field", ["estimator/normalisation=none"])
    exact = gradient_of(expected_loss(model, Logistic(), loss, x, y), model)
    for name, g in estimator.direction(task, task.batch(1), 1).items():
        torch.testing.assert_close(g, exact[name], rtol=1e-12, atol=1e-15)


def test_a_loss_that_is_not_a_mean_is_refused():
    with pytest.raises(ValueError, match="is not the mean of its examples' losses"):
        losses_of_examples(lambda o, t: ((o - t) ** 2).sum(), torch.ones(3, 2), torch.zeros(3, 2))


def test_batch_norm_in_training_mode_is_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), BinaryActivation(), nn.Linear(4, 1))
    task = OneBatch(model, SquaredError(), torch.randn(8, 3), torch.randn(8, 1), 0)
    with pytest.raises(ValueError, match=r"module 1 \(BatchNorm1d\) normalises by the batch"):
        api.part("estimator", "reinforce").direction(task, task.batch(1), 1)
    model.eval()
    api.part("estimator", "reinforce").direction(task, task.batch(1), 1)


@pytest.mark.parametrize("name", [*UNBIASED, "psa", "mean_field"])
def test_a_quantiser_without_probabilities_is_refused(name):
    with pytest.raises(ValueError, match=r"\(quantiser=Sign\)` must be one of logistic, hard_sigmoid"):
        api.part("estimator", name, ["estimator/quantiser=sign"])


def test_psa_s_networks():
    model = nn.Sequential(
        nn.Linear(3, 4),
        BinaryActivation(),
        nn.Linear(4, 4),
        nn.ReLU(),
        BinaryActivation(),
        nn.Linear(4, 1),
    )
    task = OneBatch(model, SquaredError(), torch.randn(8, 3), torch.randn(8, 1), 0)
    with pytest.raises(ValueError, match="between two activations stands Linear, ReLU"):
        api.part("estimator", "psa").direction(task, task.batch(1), 1)
    rounding = api.part("estimator", "psa", ["estimator/quantiser=stochastic_rounding"])
    with pytest.raises(ValueError, match="its probabilities depend on the other examples"):
        rounding.direction(task, task.batch(1), 1)


def test_every_quantiser_is_tried_here():
    assert set(choices("estimator/quantiser")) == {*UNITS, "sign", "stochastic_rounding"}
