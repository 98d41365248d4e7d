"""Units of several levels: forward and backward by their equations, loss curves by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from srste import api
from srste.curve import Line
from srste.estimators.base import no_norm
from srste.estimators.coordinate_difference import CoordinateDifference
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation, BinaryStep, acting
from srste.networks.levels import Levels, Stairs, stairs_of
from srste.networks.models.quantised import QuantisedMLP
from srste.problem.data.teacher import RandomTeacher
from srste.problem.task import OneBatch
from tests import formulas
from tests.built import stepped

KINDS = list(itertools.product((2, 3, 4, 7), (-1, 0)))


def nearest(a, levels, low):
    """The nearest level, by distances to all of them; of two as near the upper one."""
    values = np.linspace(low, 1, levels)
    distances = np.abs(a[..., None] - values)
    return values[levels - 1 - np.argmin(distances[..., ::-1], axis=-1)]


@pytest.mark.parametrize(("levels", "low"), KINDS)
def test_the_nearest_level(levels, low):
    a = np.concatenate([np.linspace(-2, 2, 4001), np.random.default_rng(0).normal(size=500)])
    halfway = low + (1 - low) * (np.arange(levels - 1) + 0.5) / (levels - 1)
    away = np.abs(a[:, None] - halfway).min(1) > 1e-9
    module = Levels(levels, low)
    given = module(torch.from_numpy(a)).numpy()
    np.testing.assert_allclose(given[away], nearest(a, levels, low)[away], atol=1e-15)
    np.testing.assert_allclose(module.stairs(torch.from_numpy(a)).numpy(), given, atol=1e-15)
    if low == 0 and levels == 4:  # DoReFa's
        dorefa = np.floor(3 * np.clip(a, 0, 1) + 0.5) / 3
        np.testing.assert_allclose(given[away], dorefa[away], atol=1e-15)


@pytest.mark.parametrize("surrogate", sorted(formulas.SLOPES))
@pytest.mark.parametrize(("levels", "low"), KINDS)
def test_the_slope_is_that_of_its_steps(levels, low, surrogate):
    module = nn.Sequential(Levels(levels, low), nn.Identity())
    a = torch.linspace(-2, 2, 333, dtype=torch.float64)
    estimator = api.part("estimator", "ste", [f"estimator/surrogate={surrogate}"])
    from srste.networks.estimating import Rounded

    given = a.clone().requires_grad_()
    with acting(module, Rounded(estimator.quantiser, estimator.surrogate, None)):
        (slope,) = torch.autograd.grad(module(given).sum(), given)
    height, expected = (1 - low) / (levels - 1), np.zeros(len(a))
    for i in range(1, levels):
        c = low + (1 - low) * (i - 0.5) / (levels - 1)
        u = (levels - 1) * (a.numpy() - c)
        # The step is b = (q + 1) / 2 of height `height`, and u rises (levels - 1) times as fast as a.
        expected += height * formulas.SLOPES[surrogate](u) / 2 * (levels - 1)
    clear = np.ones(len(a), bool)
    if surrogate in ("clipped", "relu1", "steep", "reste"):  # at an edge either will do
        edges = {"clipped": 1, "relu1": 1 / 2, "steep": 1 / 4, "reste": 1.5}[surrogate]
        for c in low + (1 - low) * (np.arange(levels - 1) + 0.5) / (levels - 1):
            clear &= np.abs(np.abs((levels - 1) * (a.numpy() - c)) - edges) > 1e-9
    np.testing.assert_allclose(slope.numpy()[clear], expected[clear], rtol=1e-10, atol=1e-12)
    if (surrogate, low) in (("clipped", -1), ("relu1", 0)):
        inside = (a > low + 1e-9) & (a < 1 - 1e-9) & torch.from_numpy(clear)
        assert (slope[inside] == 1).all()
        assert not slope[(a < low - 1e-9) | (a > 1 + 1e-9)].any()


def case(levels, low, bias=True, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    model = QuantisedMLP(4, 5, 2, 2, levels, low, bias).to(dtype)
    x, y = torch.randn(40, 4, dtype=dtype), torch.randn(40, 2, dtype=dtype)
    return OneBatch(model, SquaredError(), x, y, seed)


@pytest.mark.parametrize(("levels", "low"), KINDS)
def test_the_curve_is_exact(levels, low):
    task = case(levels, low)
    direction = api.part("estimator", "ste", ["estimator/normalisation=none"]).direction(
        task, task.batch(1), 1
    )
    curve = Line(task.model, direction).loss(task.inputs, task.targets, lr_max=2.0)
    assert curve.exact
    for lr in np.random.default_rng(0).uniform(0, 2, 40):
        # Not within rounding of a breakpoint.
        if np.abs(curve.breakpoints - lr).min() < 1e-9:
            continue
        loss = SquaredError()(stepped(task.model, direction, lr)(task.inputs), task.targets).item()
        assert float(curve(lr)) == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("radius", [0.01, 0.3, 2.0])
@pytest.mark.parametrize(("levels", "low"), KINDS)
def test_the_discrete_gradient_is_that_of_two_passes_a_weight(levels, low, radius, bias):
    task = case(levels, low, bias)
    given = CoordinateDifference(no_norm, radius).direction(task, task.batch(1), 1)

    def loss():
        with torch.no_grad():
            h = task.inputs.numpy()
            arrays = [p.detach().numpy() for p in task.model.parameters()]
            layers = (
                list(zip(arrays[::2], arrays[1::2], strict=True)) if bias else [(w, 0) for w in arrays]
            )
            for w, b in layers[:-1]:
                h = module(torch.from_numpy(h @ w.T + b)).numpy()
            w, b = layers[-1]
            return float(np.mean((h @ w.T + b - task.targets.numpy()) ** 2))

    module = Levels(levels, low)
    for name, p in task.model.named_parameters():
        flat = p.detach().view(-1)
        for i in range(len(flat)):
            before, losses = float(flat[i]), []
            for sign in (1, -1):
                flat[i] = before + sign * radius
                losses.append(loss())
            flat[i] = before
            slope = (losses[0] - losses[1]) / (2 * radius)
            assert float(given[name].reshape(-1)[i]) == pytest.approx(slope, abs=1e-12 / radius)


def test_what_a_module_computes():
    assert stairs_of(BinaryActivation()) == Stairs((0.0,), (-1.0, 1.0))
    assert stairs_of(BinaryStep()) == Stairs((0.0,), (0.0, 1.0))
    assert stairs_of(nn.ReLU()) is None
    levels = Levels(3)
    assert stairs_of(levels) == Stairs((-0.5, 0.5), (-1.0, 0.0, 1.0))
    with acting(levels, lambda a: a):
        assert stairs_of(levels) is None
    assert repr(levels).startswith("Levels(\n  3, low=-1")


def test_a_network_at_its_start():
    torch.manual_seed(0)
    model = QuantisedMLP(64, 300, 2, 1, 2, bias=True)
    a = model[0](torch.randn(2000, 64)).detach()
    # The weights of 300 units have a variance each of relative error sqrt(2 / 64).
    assert float(a.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / 64 / 300))
    assert not model[0].bias.any()


def test_a_real_valued_teacher_has_no_levels():
    teacher = RandomTeacher(4, "relu").teacher(QuantisedMLP(4, 3, 2, 1))
    assert [type(m) for m in list(teacher)[1::2]] == [nn.ReLU, nn.ReLU]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Levels(1), r"`Levels\(levels=1\)` must be an integer >= 2"),
        (lambda: Levels(3, 0.5), r"`Levels\(low=0.5\)` must be -1 or 0"),
        (lambda: QuantisedMLP(width=0), r"`QuantisedMLP\(width=0\)` must be an integer >= 1"),
    ],
)
def test_bad_arguments(made, says):
    with pytest.raises(ValueError, match=says):
        made()
