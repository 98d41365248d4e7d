"""Straight-through signs written into a forward: their curve is that of the signs, by brute force."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from srste.losses import CrossEntropy, SquaredError
from srste.networks.activations import BinaryActivation, BinaryStep
from tests.built import a_direction, pre_activations, stepped
from tests.lines import curve_and_reason, loss_curve, replayed


class SignFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return torch.where(a >= 0, torch.ones_like(a), -torch.ones_like(a))

    @staticmethod
    def backward(ctx, gradient):
        (a,) = ctx.saved_tensors
        return gradient * (a.abs() <= 1)


def hard_tanh(x):
    c = functional.hardtanh(x)
    return c + (torch.sign(x) - c).detach()


def clamped_first(x):
    x = x.clamp(-1, 1)
    return x + (x.sign() - x).detach()


def clamped_apart(x):
    return torch.clamp(x, min=-1.5, max=1.5) + (x.sign() - torch.clamp(x, min=-1.5, max=1.5)).detach()


class ByModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.clamp = nn.Hardtanh(-2.0, 2.0)

    def forward(self, x):
        c = self.clamp(x)
        return c - (c - torch.where(c >= 0, 1.0, -1.0)).detach()


def smooth(x):
    z = 3 * x
    return torch.tanh(z) + (SignFunction.apply(x) - torch.tanh(z)).detach()


IDIOMS = {
    "the usual one": lambda x: x + (torch.sign(x) - x).detach(),
    "the other way round": lambda x: (torch.sign(x) - x).detach() + x,
    "in three": lambda x: x.sign().detach() + x - x.detach(),
    "less a difference": lambda x: x - (x - x.sign()).detach(),
    "in place": lambda x: (x.sign() - x).detach().add_(x),
    "hard tanh": hard_tanh,
    "clamped first": clamped_first,
    "clamped twice": clamped_apart,
    "a module": ByModule(),
    "where": lambda x: x + (torch.where(x >= 0, 1.0, -1.0) - x).detach(),
    "where, of tensors": lambda x: (
        torch.where(x > 0, torch.ones_like(x), -torch.ones_like(x)).detach() + x - x.detach()
    ),
    "a comparison": lambda x: ((x >= 0).to(x.dtype) * 2 - 1 - x).detach() + x,
    "tanh": smooth,
    "a function of autograd's": SignFunction.apply,
}
STEPS = {
    "of a sigmoid": lambda x: torch.sigmoid(x) + ((x >= 0).to(x.dtype) - torch.sigmoid(x)).detach(),
    "of the value": lambda x: x + ((x > 0).to(x.dtype) - x).detach(),
}


class Act(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)  # which may be a module


class Net(nn.Module):
    """Two hidden layers, the second with a sum past it."""

    def __init__(self, one, two, width):
        super().__init__()
        self.first, self.second, self.last = (
            nn.Linear(4, width),
            nn.Linear(width, width),
            nn.Linear(width, 3),
        )
        self.one, self.two = one, two

    def forward(self, x):
        h = self.one(self.first(x))
        return self.last(self.two(self.second(h) + 0.5 * h))


def case(function, seed, dtype=torch.float64, width=6, act=BinaryActivation, batch=20):
    """The network with the idiom, the same with the project's activation, direction, inputs, targets."""
    torch.manual_seed(seed)
    model = Net(Act(function), Act(function), width).to(dtype)
    twin = Net(act(), act(), width).to(dtype)
    twin.load_state_dict(model.state_dict())
    x, y = torch.randn(batch, 4, dtype=dtype), torch.randn(batch, 3, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    direction = {
        n: torch.randn(p.shape, generator=generator).to(dtype) for n, p in model.named_parameters()
    }
    return model, twin, direction, x, y


@pytest.mark.parametrize("name", [*IDIOMS, *STEPS])
def test_against_the_model_s_own_forward(name):
    act = BinaryStep if name in STEPS else BinaryActivation
    for seed in range(6):
        parts = case((IDIOMS | STEPS)[name], seed, act=act, width=seed + 1)
        model, twin, direction, x, y = parts
        loss, y = (CrossEntropy(), y.argmax(1)) if seed == 5 else (SquaredError(), y)
        curve, why = curve_and_reason(model, direction, x, y, 0.5, loss)
        assert (curve.exact, why) == (True, "")
        clear, expected = [], []
        for lr in np.random.default_rng(seed).uniform(0, 0.5, 40):
            if (pre_activations(stepped(twin, direction, lr), x)[0].abs() > 1e-9).all():
                clear.append(lr)
                expected.append(loss(stepped(model, direction, lr)(x), y).item())
        assert len(clear) > 30
        np.testing.assert_allclose(curve(clear), expected, rtol=1e-12, atol=1e-14)
        same = loss_curve(twin, direction, x, y, 0.5, loss)
        assert curve.minimum().loss == pytest.approx(same.minimum().loss, rel=1e-12)
        # Where the sign of 0 is 0 there may be one more, which is a single learning rate.
        assert curve.descent().total == pytest.approx(same.descent().total, abs=1e-9)


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e5, 1e12])
@pytest.mark.parametrize("name", ["the usual one", "hard tanh", "in three", "where"])
def test_float32_is_explained_by_the_rounding_of_the_sum(name, size):
    """`x + (sign(x) - x)` is not quite -1 or +1, and with x of 1e12 it is 0."""
    model, _, direction, x, y = case(IDIOMS[name], 0, torch.float32, width=8, batch=60)
    curve, _ = curve_and_reason(model, direction, x * size, y)
    assert curve.exact
    for lr in (0.0, 0.1, 0.3, curve.minimum().lr):
        assert replayed(model, direction, x * size, y, lr, float(curve(lr))).explained
    if size == 1:
        wrong = float(curve(0.3)) + 1e-3
        assert not replayed(model, direction, x, y, 0.3, wrong).explained


def residue(x):
    """Half of what should cancel is left."""
    return x + (torch.sign(x) - 0.5 * x).detach()


ADVICE = "; a straight-through sign is exact as srste.networks.activations.BinaryActivation"
NOT_EXACT = {
    "something is left": (residue, "second: its input moves and so do its weights"),
    "clamped on one side": (
        lambda x: x.clamp(0) + (x.sign() - x.clamp(0)).detach(),
        "clamp: clamp of a",
    ),
    "a polynomial": (
        lambda x: (x - x.sign() * x * x) + (x.sign() - (x - x.sign() * x * x)).detach(),
        "mul: units are multiplied by what depends on the example",
    ),
    "two clamps": (
        lambda x: x.clamp(-1, 1) + (x.sign() - x.clamp(-2, 2)).detach(),
        "clamp: clamp of a value that moves",
    ),
    "a clamp that is left": (lambda x: x.clamp(-1, 1).detach(), "clamp: clamp of a value that moves"),
    "a sign of what is shifted": (
        lambda x: (lambda c: c + (c.sign() - c).detach())(x.clamp(0.5, 1)),
        "clamp: clamp of a value that moves",
    ),
}


@pytest.mark.parametrize("name", NOT_EXACT)
def test_what_does_not_cancel_is_evaluated_and_the_reason_says_what_helps(name):
    function, says = NOT_EXACT[name]
    model, _, direction, x, y = case(function, 0)
    curve, why = curve_and_reason(model, direction, x, y)
    assert not curve.exact
    assert why.startswith(says)
    assert why.endswith(ADVICE)
    for lr in (0.0, 0.2):
        expected = SquaredError()(stepped(model, direction, lr)(x), y).item()
        assert curve(lr) == pytest.approx(expected, rel=1e-12)


def test_the_reason_of_others_is_as_it_was():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    curve, why = curve_and_reason(model, a_direction(model), torch.randn(6, 4), torch.randn(6, 3))
    assert (curve.exact, why) == (False, "module 1 (Tanh) has an input that moves")


def test_what_is_not_the_same_does_not_cancel():
    """Two layers of the same weights are the same numbers only until one of them moves."""
    torch.manual_seed(0)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.o = nn.Linear(4, 5), nn.Linear(5, 3)
            self.g = copy.deepcopy(self.f)

        def forward(self, x):
            a, b = self.f(x), self.g(x)
            return self.o(a + (torch.sign(a) - b).detach())

    model = Twice().double()
    direction = a_direction(model)
    x, y = torch.randn(9, 4).double(), torch.randn(9, 3).double()
    curve, why = curve_and_reason(model, direction, x, y)
    assert not curve.exact
    assert why.startswith("o: its input moves and so do its weights")
