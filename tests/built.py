"""Networks of any build, and their exact loss curve held against a brute force by the model itself."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation, BinaryStep
from tests.lines import loss_curve


def stepped(model, direction, lr):
    """A copy after w - lr * g, parameter by parameter."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.sub_(lr * direction[name])
    return other


def pre_activations(model, x):
    """All that is binarised in a pass, example by example, and the output."""
    seen = []
    hooks = [
        m.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(1)))
        for m in model.modules()
        if isinstance(m, BinaryActivation)
    ]
    with torch.no_grad():
        output = model(x)
    for hook in hooks:
        hook.remove()
    return torch.cat([*seen, torch.ones(len(x), 1)], 1), output


def assert_exact(model, direction, x, y, lr_max=0.5, count=50, loss=None, ties=False):
    """Against the model at ``count`` learning rates that are no breakpoints. Returns the curve.

    ties: whether a pre-activation of zero is one, and not what rounding has left of a sum.
    """
    loss = loss or SquaredError()
    before = copy.deepcopy(model.state_dict())
    curve = loss_curve(model, direction, x, y, lr_max, loss)
    assert curve.exact
    lrs = np.random.default_rng(0).uniform(0, lr_max, count)
    clear, expected = [0.0], [loss(model(x), y).item()]
    for lr in lrs:
        a, output = pre_activations(stepped(model, direction, lr), x)
        if ((a.abs() > 1e-9) | (ties & (a == 0))).all():
            clear.append(lr)
            expected.append(loss(output, y).item())
    assert len(clear) > count / 2
    np.testing.assert_allclose(curve(clear), expected, rtol=1e-11, atol=1e-13)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    return curve


def a_direction(model, scale=1.0, still=()):
    generator = torch.Generator().manual_seed(7)
    return {
        name: torch.zeros_like(p)
        if any(part in name for part in still)
        else scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for name, p in model.named_parameters()
    }


class Residual(nn.Module):
    """A sum past a binary block; the sum is binarised again."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(5, width)
        self.block = nn.Sequential(BinaryActivation(), nn.Linear(width, width), BinaryActivation())
        self.inner = nn.Linear(width, width, bias=False)
        self.act = BinaryActivation()
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        a = self.first(x)
        return self.last(self.act(a + self.inner(self.block(a)) - 0.5 * a))


class Tree(nn.Module):
    """Binary layers of which each reads an earlier one, not always the one before it.

    read: which one each layer after the first reads, the outputs last.
    """

    def __init__(self, read, width):
        super().__init__()
        self.first = nn.Linear(5, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in read[:-1])
        self.acts = nn.ModuleList(BinaryActivation() for _ in read)
        self.last = nn.Linear(width, 3)
        self.read = read

    def forward(self, x):
        h = [self.acts[0](self.first(x))]
        for act, layer, source in zip(self.acts[1:], self.layers, self.read[:-1], strict=True):
            h.append(act(layer(h[source])))
        return self.last(h[self.read[-1]])


class InputsTwice(nn.Module):
    """Inputs that reach later layers as well."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.act, self.again = BinaryActivation(), BinaryActivation()
        self.last = nn.Linear(width, 8)

    def forward(self, x):
        h = self.again(self.second(self.act(self.first(x))) + 0.5 * x)
        return self.last(h) + x[:, :8]


class Pooled(nn.Module):
    """Functions in the place of modules, a concatenation, and a shape taken from the input."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, groups=2)
        self.sign, self.step = BinaryActivation(), BinaryStep()
        self.last = nn.Linear(4 * 4 + 6 * 9, 3)
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        a = self.one(functional.relu(x))
        h = self.sign(a)
        b = self.step(self.two(h) * 2 - self.scale)
        pooled = functional.avg_pool2d(a / 3, 3)
        return self.last(torch.cat((self.sign(pooled).flatten(1), b.reshape(x.size(0), -1)), dim=1))


def conv(act=BinaryActivation, **options):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, **options), act(), nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.AvgPool2d(2), act(), nn.Flatten(), nn.LazyLinear(3),
    )  # fmt: skip


def ready(model, *shape, seed=0, batch=6):
    """The model in float64, evaluated once, with inputs."""
    torch.manual_seed(seed)
    x = torch.randn(batch, *shape, dtype=torch.float64)
    model = model.double()
    model(x)
    return model.eval(), x
