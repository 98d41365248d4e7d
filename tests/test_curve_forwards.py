"""Forwards written in many ways: followed exactly, or refused for what is in the way; never wrong."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from srste.curve import NotExactError
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation, BinaryStep
from tests.built import InputsTwice, Residual, a_direction, assert_exact, ready, stepped
from tests.lines import curve_and_reason, loss_curve


class Written(nn.Module):
    """A network whose forward is a function of it and its inputs (rows, 6)."""

    def __init__(self, forward):
        super().__init__()
        self.f, self.b, self.o = nn.Linear(6, 6), BinaryActivation(), nn.Linear(6, 2)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def units(m, x):
    return m.b(m.f(x))


def added_in_place(m, x):
    h = m.f(x)
    h = h.add_(x)
    return m.o(m.b(h))


FOLLOWED = {
    "at least zero": lambda m, x: m.o((m.f(x) >= 0).to(x.dtype)),
    "above zero": lambda m, x: m.o((m.f(x) > 0).to(x)),
    "at most a still value": lambda m, x: m.o(m.f(x).le(0.3 * x).double()),
    "below zero": lambda m, x: m.o((m.f(x) < 0.0).to(x.dtype) * 2 - 1),
    "from the other side": lambda m, x: m.o((0.3 * x >= m.f(x)).type_as(x)),
    "where": lambda m, x: m.o(torch.where(m.f(x) >= 0, 1.0, -1.0).to(x.dtype)),
    "where it is still": lambda m, x: m.o(m.b(torch.where(x > 0, m.f(x), -m.f(x)))),
    "PyTorch's sign": lambda m, x: m.o(torch.sign(m.f(x))),
    "sign as a method": lambda m, x: m.o(m.f(x).sign()),
    "a copy": lambda m, x: m.o(m.b(m.f(x).clone().detach())),
    "a stack": lambda m, x: m.o(torch.stack((units(m, x), 0.5 * x), dim=1).sum(1)),
    "parts": lambda m, x: m.o(torch.cat(units(m, x).chunk(2, dim=1)[::-1], dim=1)),
    "parts of a size": lambda m, x: m.o(torch.cat(torch.split(units(m, x), [1, 2, 3], 1)[::-1], 1)),
    "the other way round": lambda m, x: m.o(units(m, x).flip(1).roll(1, 1)),
    "chosen units": lambda m, x: m.o(units(m, x)[:, [0, 0, 1, 2, 3, 4]]),
    "padded": lambda m, x: m.o(functional.pad(units(m, x)[:, 1:5], (1, 1))),
    "as another one": lambda m, x: m.o(units(m, x).reshape(-1, 2, 3).view_as(x)),
    "a matrix product": lambda m, x: units(m, x) @ m.o.weight.T + m.o.bias,
    "torch.matmul": lambda m, x: torch.matmul(units(m, x), m.o.weight.mT),
    "a sum with a factor": lambda m, x: m.o(torch.add(units(m, x), x, alpha=0.3)),
    "units added to moving ones": lambda m, x: m.o(m.b(m.f(x) - 0.5 * m.f(x) + x)),
    "in place, and not read again": added_in_place,
    "sorted inputs": lambda m, x: m.o(m.b(m.f(x.sort(1).values))),
    "times constants": lambda m, x: m.o(units(m, x) / 3 * torch.arange(6)),
    "weights made of others": lambda m, x: functional.linear(units(m, x), m.o.weight - m.o.weight[0, 0]),
}  # fmt: skip


def forgotten_in_place(m, x):
    h = units(m, x)
    h.mul_(0.3)
    return m.o(h)


def alias(m, x):
    h = units(m, x)
    g = h
    g += 1.0
    return m.o(h)


ITS_OWN = "^mul: units are multiplied by what depends on the example$"
UNSEEN = "^its forward does what its graph does not show"
REFUSED = {
    "units times the inputs": (lambda m, x: m.o(units(m, x) * x), ITS_OWN),
    "units over the inputs": (
        lambda m, x: m.o(units(m, x) / (1 + x**2)),
        "^truediv: units are multiplied by what depends on the example$",
    ),
    "units chosen by the inputs": (
        lambda m, x: m.o(torch.where(x > 0, units(m, x), 0.0)),
        "^where: units are multiplied by what depends on the example$",
    ),
    "units read by an index of the inputs": (
        lambda m, x: m.o(units(m, x).index_select(1, (x[0] > 0).long())),
        "^index_select: what it reads depends on the step or on the example$",
    ),
    "in place, and forgotten": (forgotten_in_place, UNSEEN),
    "in place, under another name": (alias, UNSEEN),
    "inputs that are written": (
        lambda m, x: m.o(m.b(m.f(x.clamp_(min=0)))),
        "^it writes into its inputs$",
    ),
    "noise": (lambda m, x: m.o(units(m, x)) + torch.randn(1), "^it draws at random$"),
    "noise of the inputs": (
        lambda m, x: m.o(units(m, x) + torch.bernoulli(x.clamp(0, 1))),
        "^(it draws at random|an example's output depends on the other examples of its batch)$",
    ),
    "Python's noise": (lambda m, x: m.o(units(m, x)) + random.random(), UNSEEN),
    "a logical or": (lambda m, x: m.o(((m.f(x) >= 0) + (m.f(x) >= -0.5)).to(x.dtype)), UNSEEN),
    "half precision": (
        lambda m, x: m.o(m.f(x).half().to(x.dtype)),
        "^half: half of a value that moves$",
    ),
    "data behind the back": (lambda m, x: m.o(m.b(m.f(x).data)), "data of a value$"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_followed(name):
    model, x = ready(Written(FOLLOWED[name]), 6, batch=9)
    assert_exact(model, a_direction(model), x, torch.randn(9, 2).double())


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    forward, says = REFUSED[name]
    torch.manual_seed(0)
    model, x, y = Written(forward), torch.randn(9, 6), torch.randn(9, 2)
    kept = x.clone()
    with pytest.raises(NotExactError, match=says):
        loss_curve(model, a_direction(model), x, y)
    assert torch.equal(x, kept)


def test_inputs_in_float64_are_not_written_either():
    model = nn.Sequential(nn.ELU(inplace=True), nn.Linear(6, 6), BinaryActivation(), nn.Linear(6, 2))
    x = torch.randn(9, 6, dtype=torch.float64)
    kept = x.clone()
    with pytest.raises(NotExactError, match="it writes into its inputs"):
        loss_curve(model.double(), a_direction(model), x, torch.randn(9, 2).double())
    assert torch.equal(x, kept)


def test_random_numbers_go_on_where_they_were():
    model, x = ready(Written(FOLLOWED["a copy"]), 6)
    before = torch.get_rng_state()
    loss_curve(model, a_direction(model), x, torch.zeros(6, 2).double())
    assert torch.equal(before, torch.get_rng_state())
    noisy = Written(REFUSED["noise"][0]).double()
    state = torch.get_rng_state()
    with pytest.raises(NotExactError):
        loss_curve(noisy, a_direction(noisy), x, torch.zeros(6, 2).double())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("act", [BinaryActivation, BinaryStep, nn.Dropout])
def test_hooks_on_what_has_no_parameters(act):
    model = nn.Sequential(nn.Linear(6, 6), act(), BinaryActivation(), nn.Linear(6, 2)).eval()
    model[1].register_forward_hook(lambda _, __, output: 0.5 * output + 0.3)
    x, y = torch.randn(9, 6), torch.randn(9, 2)
    with pytest.raises(NotExactError, match=r"^module 1 \(\w+\) has hooks"):
        loss_curve(model, a_direction(model), x, y)


def test_a_forward_put_in_the_place_of_another():
    model = nn.Sequential(nn.Linear(6, 6), BinaryActivation(), nn.Linear(6, 2))
    inner = model[2].forward
    model[2].forward = lambda h: 3 * inner(h)
    with pytest.raises(NotExactError, match="another forward than its class"):
        loss_curve(model, a_direction(model), torch.randn(9, 6), torch.randn(9, 2))


def test_an_activation_is_known_by_its_forward_and_not_by_its_name():
    class Half(BinaryActivation):
        def forward(self, a):
            return 0.5 * super().forward(a)

    class Mislabelled(BinaryActivation):
        levels = (-2.0, 2.0)

    class Own(nn.Module):
        def forward(self, a):
            return (a >= 0).to(a.dtype) - 0.5

    x, y = torch.randn(6, 6).double(), torch.randn(6, 2).double()
    for act in (Mislabelled, Own, Half):
        model, x = ready(nn.Sequential(nn.Linear(6, 6), act(), nn.Linear(6, 2)), 6)
        assert_exact(model, a_direction(model), x, y)


def test_examples_mixed_by_weights_that_are_zero_as_yet():
    model = Written(lambda m, x: m.o(units(m, x) - units(m, x).mean(0, keepdim=True)))
    nn.init.zeros_(model.o.weight)
    with pytest.raises(NotExactError, match="depends on the other examples"):
        loss_curve(model, a_direction(model), torch.randn(9, 6), torch.randn(9, 2))


def test_whole_numbers_that_are_mixed():
    def forward(m, x):
        h = functional.one_hot(x, 6).to(m.f.weight.dtype)
        return m.o(m.b(m.f(h - h.mean(0))))

    model = Written(forward)
    with pytest.raises(NotExactError, match="depends on the other examples"):
        loss_curve(model, a_direction(model), torch.arange(6), torch.randn(6, 2))


def test_whole_numbers_as_inputs():
    torch.manual_seed(0)
    model = Written(lambda m, x: m.o(m.b(m.f(functional.one_hot(x, 6).to(m.f.weight.dtype))))).double()
    x, y, direction = torch.randint(0, 6, (9,)), torch.randn(9, 2).double(), a_direction(model)
    curve, why = curve_and_reason(model, direction, x, y)
    assert (curve.exact, why) == (True, "")
    for lr in (0.0, 0.1, 0.4):
        expected = SquaredError()(stepped(model, direction, lr)(x), y).item()
        assert curve(lr) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("model", [Residual(7), InputsTwice(8)])
@pytest.mark.parametrize("size", [1e-30, 1e9, 1e15, 1e30])
@pytest.mark.parametrize("place", [0, 3])
def test_one_example_of_another_size(model, size, place):
    """It has no part in how the others are rounded, and the order of examples none in the result."""
    model, x = ready(model, model.first.in_features)
    x[place] *= size
    y = model(x).detach()
    y += torch.randn_like(y) * (1 + y.abs())
    direction = a_direction(model)
    assert_exact(model, direction, x, y)
    lrs = np.linspace(0, 0.5, 50)
    straight, reverse = (
        loss_curve(model, direction, x[order], y[order])(lrs) for order in (range(6), range(5, -1, -1))
    )
    np.testing.assert_allclose(straight, reverse, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-20, 1e20, 1e38])
def test_directions_of_any_size_are_no_reason_to_refuse(size):
    """Where a step overflows the model's own precision, nothing can be compared, and nothing is."""
    torch.manual_seed(0)
    model = Residual(7)
    x, y = torch.randn(9, 5), torch.randn(9, 2)
    curve = loss_curve(model, a_direction(model, size), x, y)
    assert curve.exact
    assert curve.pre_loss == pytest.approx(SquaredError()(model(x), y).item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_any_precision(dtype):
    torch.manual_seed(0)
    model = Residual(7).to(dtype)
    direction = a_direction(model)
    x, y = torch.randn(40, 5), torch.randn(40, 2)
    curve = loss_curve(model, direction, x, y)
    double = loss_curve(
        copy.deepcopy(model).double(), {n: g.double() for n, g in direction.items()}, x.double(), y
    )
    np.testing.assert_allclose(curve([0.0, 0.1, 0.5]), double([0.0, 0.1, 0.5]), rtol=1e-12)
