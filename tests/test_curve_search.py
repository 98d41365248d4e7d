"""The search of convex losses, on steep ones, of any size and by hand: no loss is lower than it says."""

from __future__ import annotations

from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from srste.curve import ExactCurve, Interval
from srste.curve.convex.search import ConvexSum
from srste.curve.convex.sums import Steps, StepSum
from srste.curve.engine.kernels.positions import just_after
from srste.losses import CrossEntropy, Logistic, SquaredError
from srste.networks.activations import BinaryActivation
from tests.lines import loss_curve
from tests.test_curve_losses import LOSSES


def two_margins(steepness):
    """Two examples whose logistic losses cross at 0.300135, the only minimum: their margins are
    ``s (t - 0.30012)`` and ``s (0.30015 - t)``."""
    model = nn.Linear(2, 1, bias=False).double()
    sides = torch.tensor([[-steepness, steepness]], dtype=torch.float64)
    with torch.no_grad():
        model.weight[:] = sides * torch.tensor([0.30012, 0.30015], dtype=torch.float64)
    x, y = torch.eye(2).double(), torch.ones(2, 1).double()
    return loss_curve(model, {"weight": sides}, x, y, 0.5, Logistic())


@pytest.mark.parametrize("steepness", [1e3, 1e4, 1e5, 1e6, 1e7])
def test_a_valley_with_steep_walls(steepness):
    curve = two_margins(steepness)
    lowest = np.logaddexp(0, -steepness * 1.5e-5)  # by symmetry, in the middle
    # Margins are differences of outputs of the size of the steepness.
    rounding = 1e-16 * steepness * 0.5
    assert curve.minimum().loss == pytest.approx(lowest, rel=4 * rounding + 1e-13, abs=1e-300)
    assert curve.minimum().attained
    assert curve.minimum().lr == pytest.approx(0.300135, rel=1e-6)
    assert curve.error <= 1e-12 * lowest + 1e-300
    (whole,) = curve.descents()
    assert (whole.lo, whole.hi, whole.loss) == (0.0, 0.5, curve.minimum().loss)


def one_unit(w, dw, out, d_out, loss, y, lr_max=1.0):
    """Examples, all 1, through one unit ``w - t dw`` to outputs ``(out - t d_out) * unit``."""
    model = nn.Sequential(
        nn.Linear(1, 1, bias=False), BinaryActivation(), nn.Linear(1, len(out), bias=False)
    )
    model = model.double()
    with torch.no_grad():
        model[0].weight.fill_(w)
        model[2].weight.copy_(torch.tensor(out)[:, None])
    direction = {
        "0.weight": torch.full((1, 1), dw).double(),
        "2.weight": torch.tensor(d_out).double()[:, None],
    }
    return loss_curve(model, direction, torch.ones(len(y), 1).double(), y, lr_max, loss)


def test_a_limit_is_one_at_a_real_end_alone():
    """The loss falls up to where the unit turns at 0.25, and jumps up: to be had just before if the unit
    falls there, since sign(0) = +1, also at it."""
    target = torch.ones(1, 1).double()
    falls = one_unit(0.25, 1.0, [1.0], [-40.0], Logistic(), target)
    assert (falls.minimum().lr, falls.minimum().attained) == (0.25, True)
    assert falls.minimum().loss == pytest.approx(np.log1p(np.exp(-11.0)), rel=1e-13)
    rises = one_unit(-0.25, -1.0, [-1.0], [40.0], Logistic(), target)
    assert (rises.minimum().lr, rises.minimum().attained) == (np.nextafter(0.25, 0), False)
    assert rises.minimum().loss == pytest.approx(np.log1p(np.exp(-11.0)), rel=1e-13)
    assert falls.descents() == [Interval(0.0, 0.25, falls.minimum().loss)]
    # Where it is zero from some place on, that is no limit of anything.
    flat = one_unit(0.5, 1.0, [0.0, 0.0], [-1e7, 1e7], CrossEntropy(), torch.tensor([0]))
    assert flat.minimum().loss == 0.0
    assert flat.minimum().attained
    assert flat(flat.minimum().lr) == 0.0


@pytest.mark.parametrize("count", [50_000, 23])  # interpolated; one by one
def test_losses_near_zero(count):
    """Down to e^-90, from outputs of size 60. What comes out below zero is given as 0: beside an example
    of the other class, whose loss is large just there, nothing is, and the sums are right too."""
    lrs = np.linspace(0, 1, count)
    unit = np.where(0.7 - lrs >= 0, 1, -1)
    first, second = (1 + 50 * lrs) * unit, (-3 - 20 * lrs) * unit
    alone, other = np.logaddexp(0, second - first), np.logaddexp(0, first - second)
    clear = np.abs(lrs - 0.7) > 1e-12
    assert alone.min() < 1e-20
    for classes, expected in (([0], alone), ([0, 1], (alone + other) / 2)):
        curve = one_unit(0.7, 1.0, [1.0, -3.0], [-50.0, 20.0], CrossEntropy(), torch.tensor(classes))
        np.testing.assert_allclose(curve(lrs)[clear], expected[clear], rtol=2e-15, atol=2e-14)


@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted(LOSSES)),
    seed=st.integers(0, 10_000),
    batch=st.sampled_from([1, 2, 5, 30]),
    width=st.sampled_from([1, 2, 5, 33]),
    depth=st.integers(1, 3),
    out=st.integers(2, 4),
    sizes=st.tuples(*[st.floats(-4, 4)] * 4),
    lr_max=st.floats(-4, 3),
)
def test_of_any_size(name, seed, batch, width, depth, out, sizes, lr_max):
    """Weights, directions, inputs and learning rates have sizes that do not fit each other."""
    last, moved, hidden, inputs = (10.0**size for size in sizes)
    lr_max = 10.0**lr_max
    torch.manual_seed(seed)
    layers = [nn.Linear(4, width), BinaryActivation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), BinaryActivation()]
    model = nn.Sequential(*layers, nn.Linear(width, out)).double()
    with torch.no_grad():
        model[-1].weight *= last
        model[-1].bias *= last
    direction = {
        key: torch.randn_like(p) * (moved if key.startswith(str(len(model) - 1)) else hidden)
        for key, p in model.named_parameters()
    }
    y = torch.randn(batch, out).double()
    if name == "cross-entropy":
        y = torch.randint(0, out, (batch,))
    if name == "logistic":
        y = y.sign()
    x = inputs * torch.randn(batch, 4).double()
    curve = loss_curve(model, direction, x, y, lr_max, LOSSES[name])

    ends = np.concatenate((curve.breakpoints, np.nextafter(curve.breakpoints, np.inf)))
    even, small = np.linspace(1e-9, 1, 2000), np.logspace(-12, 0, 2000)
    scan = np.concatenate((lr_max * even, lr_max * small, np.clip(ends, 1e-320, lr_max)))
    losses = curve(scan)
    largest = max(losses.max(), curve.pre_loss)
    lr, lowest, attained = curve.minimum()
    assert lowest - curve.error <= losses.min() * (1 + 1e-12) + 1e-15 * largest
    if attained:
        assert curve(lr) == pytest.approx(lowest, rel=1e-11, abs=1e-14 * largest)
    inside = np.zeros(len(scan), bool)
    for interval in curve.descents():
        inside |= (scan >= interval.lo) & (scan <= interval.hi)
    lower = losses < curve.pre_loss * (1 - 2e-12) - 1e-11 * largest
    assert not (lower & ~inside).any()


def of_several_sizes(name, seed, batch, common=0.0):
    """A network whose direction is as steep in its last layer as the seed says.

    common: what all outputs move by besides.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(4, 9), BinaryActivation(), nn.Linear(9, 9), BinaryActivation(), nn.Linear(9, 3)
    ).double()
    direction = {key: torch.randn_like(p) for key, p in model.named_parameters()}
    for key in ("4.weight", "4.bias"):
        direction[key] *= 10.0 ** (seed % 5 - 1)
    direction["4.bias"] += common
    x, y = torch.randn(batch, 4).double(), torch.randn(batch, 3).double().sign()
    if name == "cross-entropy":
        y = torch.randint(0, 3, (batch,))
    return lambda: loss_curve(model, direction, x, y, 1.0, LOSSES[name])


@pytest.mark.parametrize(
    ("name", "common"), [("logistic", 0.0), ("cross-entropy", 0.0), ("cross-entropy", 1e7)]
)
@pytest.mark.parametrize("seed", range(10))
def test_what_is_known_of_each_piece_holds(name, common, seed):
    curve = of_several_sizes(name, seed, 40, common)()
    curve.minimum()
    bounds = curve._pieces._bounds
    first, last = bounds.floats(slice(None))
    some = first <= last
    inside = np.linspace(first, last, 50)
    losses = curve(np.clip(inside, first, last)[:, some])
    rounding = 1e-13 * losses.max() + 1e-15 * common  # of outputs, of which losses are differences
    assert (losses >= bounds.low[some] - rounding).all()
    assert (losses <= bounds.high[some] + rounding).all()
    assert (bounds.low[some] <= bounds.up[some]).all()
    if seed % 5 > 1:
        return  # so steep that parabolas are not that near, but where it matters
    # Fifty points nearly find the lowest, and the highest is at an end: parabolas are off by 2e-6.
    lowest, highest = losses.min(axis=0), losses.max(axis=0)
    assert (np.abs(bounds.up[some] - lowest) <= 1e-3 * (highest - lowest) + 1e-5).all()
    assert (bounds.high[some] - highest <= 1e-5).all()


@pytest.mark.parametrize("name", ["logistic", "cross-entropy"])
@pytest.mark.parametrize("seed", range(5))
def test_in_whatever_parts(name, seed, monkeypatch):
    """Parabolas of all learning rates at once or of few, finer ones down to one piece or none, the
    examples on one thread or on three: the same minimum and the same intervals."""
    make_curve = of_several_sizes(name, seed, 200)
    whole = make_curve()
    expected = [whole.minimum().loss, *(v for i in whole.descents() for v in (i.lo, i.hi, i.loss))]
    threads = torch.get_num_threads()
    for at_once, few, worth in ((500, 4, 10**9), (3000, 1, 10**9), (5000, 1000, 0), (1000, 2, 0)):
        monkeypatch.setattr("srste.curve.convex.bounds._AT_ONCE", at_once)
        monkeypatch.setattr("srste.curve.convex.bounds._FEW", few)
        monkeypatch.setattr("srste.curve.convex.search._WORTH_A_THREAD", worth)
        torch.set_num_threads(1 if worth else 3)
        try:
            curve = make_curve()
            found = [curve.minimum().loss, *(v for i in curve.descents() for v in (i.lo, i.hi, i.loss))]
        finally:
            torch.set_num_threads(threads)
        assert curve.error <= 1e-12
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)


def test_events_that_are_crowded(monkeypatch):
    """A hundred flips within 1e-8 of one another, and none before or after them: the outputs start at
    -0.1 and rise, fall by 1 with the flip, and rise again."""
    model = nn.Sequential(nn.Linear(1, 1), BinaryActivation(), nn.Linear(1, 1)).double()
    direction = {key: torch.zeros_like(p) for key, p in model.named_parameters()}
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (1.0, 0.5, 0.5, -0.6), strict=True):
            parameter.fill_(value)
    direction["0.bias"].fill_(1.0)
    direction["2.bias"].fill_(-0.1)
    x = torch.linspace(0, 1e-8, 100)[:, None].double()
    for at_once in (2_000_000, 20):
        monkeypatch.setattr("srste.curve.convex.bounds._AT_ONCE", at_once)
        curve = loss_curve(model, direction, x, torch.ones(100, 1).double(), 1.0, Logistic())
        assert len(curve.breakpoints) == 100
        lowest = np.logaddexp(0, 0.1 - 0.05)  # just before the first flip
        assert curve.minimum().loss == pytest.approx(lowest, rel=1e-9)
        assert curve.minimum().lr == pytest.approx(0.5, abs=1e-7)
        (whole,) = curve.descents()
        assert (whole.lo, whole.hi) == (0.0, pytest.approx(0.5, abs=1e-7))
        bounds = curve._pieces._bounds
        begin, end = bounds.floats(0)[0], bounds.floats(len(bounds.keys) - 1)[1]
        ranges = list(bounds._ranges(float(begin), float(end), 0.1))
        assert (ranges[0][0], ranges[-1][1]) == (np.nextafter(0, 1), 1.0)
        assert all(one[1] == other[0] for one, other in pairwise(ranges))


@pytest.mark.parametrize("common", [1e3, 1e6, 1e9])
def test_what_all_classes_have_in_common_is_no_matter(common):
    model = nn.Linear(3, 4, bias=False).double()
    torch.manual_seed(0)
    x, y = torch.randn(20, 3).double().abs(), torch.randint(0, 4, (20,))
    losses = torch.nn.functional.cross_entropy(model(x), y)
    (gradient,) = torch.autograd.grad(losses, [model.weight])
    apart = 50 * (gradient + 0.02 * torch.randn(4, 3))
    found = [
        loss_curve(model, {"weight": apart + more}, x, y, 1.0, CrossEntropy()) for more in (0, common)
    ]
    rounding = 1e-14 * common  # of the outputs
    one, other = (curve.minimum() for curve in found)
    assert 0 < one.lr < 1
    assert other.loss == pytest.approx(one.loss, abs=rounding)
    assert other.lr == pytest.approx(one.lr, abs=10 * rounding**0.5)
    (first,), (second,) = (curve.descents() for curve in found)
    assert second.hi == pytest.approx(first.hi, abs=10 * rounding)


@pytest.mark.parametrize("scale", [20.0, 100.0, 600.0])
def test_a_level_far_below_is_crossed(scale):
    """Two margins, ``s (1 + 5 t)`` and ``1.2 s (1 - t)``: the loss falls below exp(-s) at first, and is
    as large as that again where the second margin is s, all but log(1 + exp(-s / 5))."""
    model = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight[:] = torch.tensor([[1.0, 1.2]]).double() * scale
    direction = {"weight": torch.tensor([[-5.0, 1.2]]).double() * scale}
    curve = loss_curve(
        model, direction, torch.eye(2).double(), torch.ones(2, 1).double(), 1.0, Logistic()
    )
    (only,) = curve.descents()
    assert only.lo == 0
    before = np.log1p(np.exp(-0.2 * scale))
    assert only.hi == pytest.approx((0.2 + before / scale) / 1.2, rel=1e-6)
    assert curve(only.hi) == pytest.approx(curve.pre_loss, rel=1e-12 * scale)


@pytest.mark.parametrize("loss", [SquaredError(), Logistic()])
def test_two_intervals_with_a_point_between(loss):
    """Two units cross at 0.5, where both are up: there alone the loss jumps up, far above."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), BinaryActivation(), nn.Linear(2, 1)).double()
    direction = {key: torch.zeros_like(p) for key, p in model.named_parameters()}
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[0.5], [-0.5]])
        model[2].weight[:], model[2].bias[:] = -1.0, 0.0
    direction["0.weight"][:] = torch.tensor([[1.0], [-1.0]])
    direction["2.bias"][:] = -0.5
    one = torch.ones(1, 1).double()
    curve = loss_curve(model, direction, one, one, 1.0, loss)
    assert curve(0.5) > curve.pre_loss > curve(np.nextafter(0.5, 1))
    assert [(i.lo, i.hi) for i in curve.descents()] == [(0.0, 0.5), (0.5, 1.0)]


def of_steps(*steps):
    """The logistic loss of one example by hand. steps: (position, margin at 0, its slope) each."""
    rest = np.array([[steps[0][1], -steps[0][2]]])
    outputs = np.array([[0.0, margin, -slope] for _, margin, slope in steps[1:]]).reshape(-1, 3)
    outputs.view(np.uint64)[:, 0] = [position for position, _, _ in steps[1:]]
    counts, target = np.array([len(outputs)]), np.ones((1, 1))
    sums = StepSum([Steps(rest, counts, outputs, target, False)], 1.0)
    return ExactCurve(ConvexSum(sums, 1.0), 1.0)


def at(lr):
    return np.float64(lr).view(np.uint64) << np.uint64(1)


BEFORE, HALF, AFTER = np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)


@pytest.mark.parametrize(
    ("begins", "ends", "slope", "attained"),
    [
        (at(HALF), at(AFTER), 1.0, False),
        (at(HALF), at(AFTER), -1.0, True),
        (just_after(BEFORE), just_after(HALF), 1.0, True),
        (just_after(BEFORE), just_after(HALF), -1.0, False),
    ],
)
def test_a_piece_of_one_float(begins, ends, slope, attained):
    """It has the end at which it is lowest or not: [0.5, after) and (before, 0.5]."""
    curve = of_steps((at(0), 0.0, 0.0), (begins, 3.0, slope), (ends, 0.0, 0.0))
    assert curve.minimum().lr == HALF
    assert curve.minimum().attained is attained


def test_a_piece_without_floats_parts_nothing():
    curve = of_steps((at(0), 0.0, 1.0), (just_after(HALF), 0.01, 1.0), (at(AFTER), 0.02, 1.0))
    (whole,) = curve.descents()
    assert (whole.lo, whole.hi) == (0.0, 1.0)


@pytest.mark.parametrize("loss", [Logistic(), CrossEntropy()])
def test_of_equal_losses_the_smallest_learning_rate(loss):
    model = nn.Linear(2, 2).double()
    still = {key: torch.zeros_like(p) for key, p in model.named_parameters()}
    targets = torch.ones(3, 2).double() if isinstance(loss, Logistic) else torch.tensor([0, 1, 0])
    curve = loss_curve(model, still, torch.randn(3, 2).double(), targets, 1.0, loss)
    assert curve.minimum() == (np.nextafter(0, 1), curve.pre_loss, True)
    assert curve.descents() == []


@pytest.mark.parametrize("bias", [100.0, 0.0])
def test_plateaus_of_many_pieces(bias):
    """Outputs that do not move although units turn, of losses that are 0, or log 2: one piece is as good
    as another, and thousands of them are not looked at."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), BinaryActivation(), nn.Linear(32, 2)).double()
    direction = {key: torch.randn_like(p) for key, p in model.named_parameters()}
    direction["2.weight"][:] = direction["2.bias"][:] = 0
    with torch.no_grad():
        model[2].weight[:] = 0
        model[2].bias[:] = torch.tensor([bias, 0.0])
    curve = loss_curve(
        model, direction, torch.randn(3000, 4).double(), torch.zeros(3000, dtype=torch.int64), 1.0,
        CrossEntropy(),
    )  # fmt: skip
    with patch.object(ConvexSum, "_searched", autospec=True, side_effect=ConvexSum._searched) as search:
        assert curve.minimum().loss == pytest.approx(np.log1p(np.exp(-bias)), abs=1e-15)
        assert curve.descents() == []
    assert len(curve.breakpoints) > 10_000
    assert search.call_count < 50


@pytest.mark.parametrize("scale", [1e13, 1e17, 1e25])
def test_where_rounding_hides_the_minimum_the_error_says_so(scale):
    """Margins that move by far more than 1 within an ulp of the learning rate."""
    for seed in range(10):
        torch.manual_seed(seed)
        model = nn.Linear(3, 1).double()
        direction = {key: scale * torch.randn_like(p) for key, p in model.named_parameters()}
        x, y = torch.randn(9, 3).double(), torch.randn(9, 1).double().sign()
        curve = loss_curve(model, direction, x, y, 1.0, Logistic())
        losses = curve(np.geomspace(1e-3 / scale, 1, 20_000))
        assert curve.minimum().loss - curve.error <= losses.min() * (1 + 1e-12)
        assert curve.minimum().loss <= curve.pre_loss * (1 + 1e-12)


def test_an_interval_ends_within_a_later_piece_and_begins_within_an_earlier_one():
    """Margins t, t again, and 1.5 - 2 t from 0.5 on: above 0, where the loss was, up to 0.75."""
    steps = [(at(0), 0.0, 1.0), (at(0.25), 0.0, 1.0), (at(0.5), 1.5, -2.0)]
    (whole,) = of_steps(*steps).descents()
    assert (whole.lo, whole.hi) == (0.0, pytest.approx(0.75, rel=1e-15))
    steps = [(at(0), 0.0, -1.0), (at(0.25), -0.5, 1.0), (at(0.75), 0.25, 0.0)]
    (whole,) = of_steps(*steps).descents()
    assert (whole.lo, whole.hi) == (pytest.approx(0.5, rel=1e-15), 1.0)
