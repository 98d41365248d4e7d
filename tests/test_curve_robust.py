"""The exact loss curve of numbers of any size, of many equal examples, and of numbers that are none."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from srste.curve import Interval
from srste.networks.activations import BinaryActivation
from srste.networks.models.mlp import MLP
from tests.curves import TINY
from tests.lines import loss_curve
from tests.support import ROOT
from tests.test_curve_losses import LOSSES, brute, case, clear_of_breakpoints

every_loss = pytest.mark.parametrize("name", LOSSES)


def a_case(name, batch=12):
    return case(name, 5, 5, 2, 2, True, batch, "none")


def scaled(direction, size):
    return {name: size * g for name, g in direction.items()}


def assert_sound(curve, lrs):
    """Finite losses, and a minimum and intervals that they agree with."""
    losses = curve(lrs)
    assert np.isfinite(losses).all()
    lr, lowest, _ = curve.minimum()
    assert 0 < lr <= curve.lr_max
    assert curve(lr) == pytest.approx(lowest, rel=1e-14)
    assert lowest <= losses[lrs > 0].min() * (1 + 1e-13)
    assert math.copysign(1, curve.error) == 1
    assert curve.error <= 1e-12
    assert curve.descent().exists == (curve.pre_loss - lowest > 1e-12 * curve.pre_loss)


@every_loss
@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e30, 1e38])
def test_float32_inputs_of_any_size(name, size):
    model, direction, x, y = a_case(name)
    x = (x.clamp(-3, 3) * size).float()  # the smallest are denormal
    curve = loss_curve(model, direction, x, y, 0.5, LOSSES[name])
    lrs = np.linspace(0, 0.5, 65)
    parts = model, direction, x.double(), y
    clear = clear_of_breakpoints(*parts, True, lrs[1:])
    assert len(clear) > 50
    np.testing.assert_allclose(curve(clear), brute(name, *parts, True, clear), rtol=1e-11)
    assert_sound(curve, lrs)


def test_losses_beyond_all_floats_are_not_taken_for_none():
    model, direction, x, y = a_case("squared")
    with torch.no_grad():
        list(model.parameters())[-2].mul_(1e160)
    losses = loss_curve(model, direction, x, y)(np.linspace(0, 0.5, 1_001))
    assert not np.isfinite(losses).any()


@every_loss
@pytest.mark.parametrize("power", [-100, -30, 30, 100])
def test_a_direction_times_a_power_of_two_is_the_same_curve_on_another_scale(name, power):
    """To the bit: nothing in it depends on how long the direction is."""
    model, direction, x, y = a_case(name)
    size = 2.0**power
    lrs = np.linspace(0, 0.5, 65)
    curve = loss_curve(model, direction, x, y, 0.5, LOSSES[name])
    other = loss_curve(model, scaled(direction, size), x, y, 0.5 / size, LOSSES[name])
    np.testing.assert_array_equal(other(lrs / size), curve(lrs))
    np.testing.assert_array_equal(other.breakpoints * size, curve.breakpoints)
    one, two = curve.minimum(), other.minimum()
    assert (two.lr * size, two.loss, two.attained) == one
    expected = [Interval(i.lo * size, i.hi * size, i.loss) for i in other.descents()]
    assert expected == curve.descents()
    assert other.error == curve.error


@every_loss
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_directions_of_any_size(name, size):
    """Far too small to flip a unit, and so large that all have flipped by the first learning rate."""
    model, direction, x, y = a_case(name)
    direction = scaled(direction, size)
    lrs = np.linspace(0, 0.5, 9)
    curve = loss_curve(model, direction, x, y, 0.5, LOSSES[name])
    expected = brute(name, model, direction, x, y, True, lrs)
    np.testing.assert_allclose(curve(lrs), expected, rtol=1e-12)
    assert_sound(curve, lrs)
    assert (curve.breakpoints.size > 0) == (size > 1)


@every_loss
@pytest.mark.parametrize("lr_max", [TINY, 1e-310, 1e-30, 1e30, 1e100])
def test_ranges_of_any_size(name, lr_max):
    model, direction, x, y = a_case(name)
    lrs = np.array([0, lr_max / 3, lr_max / 2, lr_max])
    curve = loss_curve(model, direction, x, y, lr_max, LOSSES[name])
    expected = brute(name, model, direction, x, y, True, lrs)
    np.testing.assert_allclose(curve(lrs), expected, rtol=1e-12)
    assert_sound(curve, lrs)


@every_loss
@pytest.mark.parametrize("ulps", [1, 2, 3, 10, 1e6])
def test_many_learning_rates_that_are_hardly_apart(name, ulps):
    """Together they have the losses that each of them has alone."""
    curve = loss_curve(*a_case(name), 0.5, LOSSES[name])
    lrs = 0.1 + np.linspace(0, ulps, 1000) * np.spacing(0.1)
    losses = dict(zip(lrs, curve(lrs), strict=True))
    some = list(losses)[:: max(1, len(losses) // 20)]
    alone = [float(curve(lr)) for lr in some]
    np.testing.assert_allclose([losses[lr] for lr in some], alone, rtol=1e-13)


def one_example(name):
    torch.manual_seed(0)
    outputs = 3 if name == "cross-entropy" else 1
    model = MLP(8, 8, 2, outputs)
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    target = torch.tensor([1]) if name == "cross-entropy" else torch.ones(1, 1)
    return model, direction, torch.randn(1, 8), target


@every_loss
def test_many_equal_examples_are_one(name):
    model, direction, x, y = one_example(name)
    count = 50_000
    one = loss_curve(model, direction, x, y, 0.5, LOSSES[name])
    many = loss_curve(
        model, direction, x.expand(count, 8), y.repeat(count, *[1] * (y.ndim - 1)), 0.5, LOSSES[name]
    )
    lrs = np.linspace(0, 0.5, 51)
    # Equal terms may all be rounded the same way: a sum of n is off by n u of the largest at most.
    off = 4 * count * 1.2e-16 * one(lrs).max()
    np.testing.assert_allclose(many(lrs), one(lrs), rtol=0, atol=off)
    assert many.minimum().loss == pytest.approx(one.minimum().loss, abs=off)
    assert many.minimum().lr == pytest.approx(one.minimum().lr, rel=1e-6)
    assert many.descent().intervals == one.descent().intervals
    assert many.descent().total == pytest.approx(one.descent().total, rel=1e-6)


MILLION = """
import resource, time
import numpy as np
from tests.lines import loss_curve
from tests.test_curve_robust import one_example
model, direction, x, y = one_example("squared")
one = loss_curve(model, direction, x, y)
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
many = loss_curve(model, direction, x.repeat(1_000_000, 1), y.repeat(1_000_000, 1))
lrs = np.linspace(0, 0.5, 51)
off = abs(many(lrs) - one(lrs)).max() / one(lrs).max()
print(off, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_million_equal_examples_in_reasonable_time_and_memory():
    done = subprocess.run(
        [sys.executable, "-c", MILLION],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    off, seconds, kilobytes = map(float, done.stdout.split())
    assert off < 4 * 1e6 * 1.2e-16
    assert seconds < 60
    assert kilobytes < 1_500_000


def conv():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), BinaryActivation(), nn.Conv2d(4, 6, 3, padding=1, groups=2),
        BinaryActivation(), nn.Flatten(), nn.Linear(6 * 16, 3),
    )  # fmt: skip


@every_loss
def test_convolutions_in_any_blocks_and_on_any_threads(name, monkeypatch):
    model = conv()
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    x, y = torch.randn(150, 1, 9, 9), LOSSES[name].targets(torch.randn(150, 3))
    lrs = np.linspace(0, 0.5, 301)
    before = torch.get_num_threads()
    curves = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for block, fewest in ((1, 1), (1, 64), (250_000, 64)):
                monkeypatch.setattr("srste.curve.engine.follower._BLOCK", block)
                monkeypatch.setattr("srste.curve.engine.follower._FEWEST", fewest)
                curves.append(loss_curve(model, direction, x, y, 0.5, LOSSES[name]))
    finally:
        torch.set_num_threads(before)
    for curve in curves[1:]:
        np.testing.assert_allclose(curve(lrs), curves[0](lrs), rtol=1e-12)
        np.testing.assert_allclose(curve.breakpoints, curves[0].breakpoints, rtol=1e-12)
        assert curve.minimum().lr == pytest.approx(curves[0].minimum().lr, rel=1e-12)


class TestNotFinite:
    @pytest.mark.parametrize("build", ["chain", "convolutions"])
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(
        ("name", "where"),
        [
            (name, where)
            for name in LOSSES
            for where in ("inputs", "targets", "0.weight", "direction")
            if (name, where) != ("cross-entropy", "targets")  # integers
        ],
    )
    def test_is_told_in_one_line(self, name, where, build, bad):
        model, shape = (MLP(4, 5, 2, 3), (4,)) if build == "chain" else (conv(), (1, 9, 9))
        direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
        x, y = torch.randn(70, *shape), LOSSES[name].targets(torch.randn(70, 3))
        last = list(direction)[-1]
        spoilt = {"inputs": x, "targets": y, "direction": direction[last]}.get(where)
        if spoilt is None:
            spoilt = model[0].weight.data
        spoilt.view(-1)[-1] = bad  # of the last example
        says = f"direction['{last}']" if where == "direction" else where
        expected = f"{says} holds a value that is not finite"
        with pytest.raises(ValueError) as error:
            loss_curve(model, direction, x, y, 0.5, LOSSES[name])
        assert str(error.value) == expected

    @pytest.mark.parametrize("place", [1, 3])
    def test_a_buffer(self, place):
        """The variance of a batch norm, before the first signs or after them."""
        model = nn.Sequential(
            nn.Linear(4, 4), nn.BatchNorm1d(4), BinaryActivation(), nn.BatchNorm1d(4),
            BinaryActivation(), nn.Linear(4, 2),
        ).eval()  # fmt: skip
        model[place].running_var[0] = -1
        direction = {
            n: torch.zeros_like(p) if n == "1.weight" else torch.randn_like(p)
            for n, p in model.named_parameters()
        }
        with pytest.raises(
            ValueError, match=r"^the model makes a value that is not finite of these inputs$"
        ):
            loss_curve(model, direction, torch.randn(3, 4), torch.randn(3, 2))


@pytest.mark.parametrize("examples", [1, 3, 1000])
@pytest.mark.parametrize("fit", [1e-3, 1e-1])
def test_a_loss_that_comes_back_from_far_above_is_what_it_was(examples, fit):
    """Two units that turn one after the other take a good fit away and give it back: no descent."""
    model = MLP(1, 2, 1, 1, bias=True).double()
    names = [name for name, _ in model.named_parameters()]
    for seed in range(20):
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, values in zip(names, ([[0], [0]], [0.1, -0.2], [[1, 1]], [0]), strict=True):
                model.get_parameter(name).copy_(torch.tensor(values))
            model[2].weight.mul_(torch.randn(()))
        direction = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        direction["0.bias"].copy_(torch.tensor([1, -1]))
        x = torch.zeros(examples, 1).double()
        y = (fit * torch.randn(examples, 1)).double()
        curve = loss_curve(model, direction, x, y)
        assert curve(0.4) == pytest.approx(curve.pre_loss, rel=1e-14)
        assert all(interval.hi <= 0.2 + 1e-7 for interval in curve.descents())
