"""Losses other than squared error, against a float64 brute force, a dense scan and bounds by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srste.curve import NotExactError
from srste.losses import AbsoluteError, CrossEntropy, Logistic, SquaredError
from srste.networks.models.mlp import MLP
from tests import oracle
from tests.curves import as_oracle, make
from tests.lines import curve_and_reason, loss_curve


def by_hand(name, outputs, targets):
    """The mean loss in NumPy, of outputs (batch, out)."""
    if name == "squared":
        return np.mean((outputs - targets) ** 2)
    if name == "absolute":
        return np.mean(np.abs(outputs - targets))
    if name == "logistic":
        return np.mean(np.logaddexp(0, -targets * outputs))
    classes = targets.astype(int)
    shifted = outputs - outputs.max(1, keepdims=True)
    return np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(classes)), classes])


LOSSES = {
    "squared": SquaredError(),
    "absolute": AbsoluteError(),
    "logistic": Logistic(),
    "cross-entropy": CrossEntropy(),
}


def case(name, seed, width, depth, out, bias, batch, how, whole=False):
    """model, direction, inputs, targets that suit the loss."""
    if name == "cross-entropy":
        out += 1
    model, direction, x, y = make(seed, width, depth, out, bias, batch, how, whole)
    if name == "logistic":
        y = torch.where(y >= 0, 1.0, -1.0).double()
    if name == "cross-entropy":
        y = y.argmax(1)
    return model, direction, x, y


def brute(name, model, direction, x, y, bias, lrs):
    network, g, inputs, targets = as_oracle(model, direction, x, y, bias)
    return np.array(
        [by_hand(name, oracle.forward(oracle.step(network, g, t), inputs), targets) for t in lrs]
    )


def clear_of_breakpoints(model, direction, x, y, bias, lrs):
    network, g, inputs, _ = as_oracle(model, direction, x, y, bias)
    return [t for t in lrs if oracle.distance_to_breakpoint(network, g, inputs, t) > 1e-9]


any_case = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["absolute", "logistic", "cross-entropy"]),
        "seed": st.integers(0, 2**31),
        "width": st.integers(1, 6),
        "depth": st.integers(1, 3),
        "out": st.integers(1, 3),
        "bias": st.booleans(),
        "batch": st.integers(1, 12),
        "how": st.sampled_from(["tensor", "row", "global", "none"]),
    }
)


@settings(max_examples=150)
@given(options=any_case, lr_max=st.floats(1e-3, 4.0))
def test_values(options, lr_max):
    parts = case(**options)
    curve = loss_curve(*parts, lr_max, LOSSES[options["name"]])
    lrs = np.linspace(0, lr_max, 40)
    clear = clear_of_breakpoints(*parts, options["bias"], lrs[1:])
    expected = brute(options["name"], *parts, options["bias"], [0.0, *clear])
    np.testing.assert_allclose(curve([0.0, *clear]), expected, rtol=1e-12, atol=1e-14)
    assert curve.pre_loss == pytest.approx(expected[0], rel=1e-14, abs=1e-15)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(curve(lrs[order]), curve(lrs)[order])


@settings(max_examples=60)
@given(options=any_case, lr_max=st.floats(1e-3, 4.0), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_many_values_at_once_are_those_of_each(options, lr_max, scale):
    """Many are interpolated, a few are summed one by one; breakpoints among them, spaced unevenly."""
    model, direction, x, y = case(**options)
    direction = {name: scale * part for name, part in direction.items()}
    curve = loss_curve(model, direction, x, y, lr_max, LOSSES[options["name"]])
    some = curve.breakpoints[:40]
    lrs = np.concatenate((np.linspace(0, lr_max, 3000) ** 2 / lr_max, some, np.nextafter(some, 0)))
    lrs = np.clip(lrs, 0, lr_max)
    np.random.default_rng(0).shuffle(lrs)
    picked = np.arange(0, len(lrs), 37)
    one_by_one = [float(curve(lrs[k])) for k in picked]
    np.testing.assert_allclose(curve(lrs)[picked], one_by_one, rtol=1e-12, atol=1e-13 * curve.pre_loss)


@settings(max_examples=80)
@given(options=any_case, lr_max=st.floats(1e-2, 4.0))
def test_the_minimum(options, lr_max):
    """Below a dense scan, and a value of the curve; with the error that it states."""
    parts = case(**options)
    curve = loss_curve(*parts, lr_max, LOSSES[options["name"]])
    lr, lowest, attained = curve.minimum()
    scan = np.linspace(lr_max / 800, lr_max, 800)
    losses = curve(scan)
    assert 0 < lr <= lr_max
    assert isinstance(attained, bool)
    assert curve(lr) == pytest.approx(lowest, rel=1e-14, abs=1e-15)
    # Many values at once come from polynomials, which are rounded as their largest values are.
    rounding = 1e-14 * losses.max()
    assert lowest <= losses.min() + rounding
    assert 0 <= curve.error <= 1e-12
    # Around the best of the scan, a fine one: it finds nothing that is lower either.
    fine = np.clip(scan[losses.argmin()] + np.linspace(-1, 1, 801) * lr_max / 800, 1e-300, lr_max)
    assert lowest <= curve(fine).min() + rounding


@settings(max_examples=80)
@given(options=any_case, squared=st.booleans(), lr_max=st.floats(1e-2, 4.0))
def test_the_descent_certificate(options, squared, lr_max):
    """Every learning rate of a scan lowers the loss just where an interval says so."""
    options = options | ({"name": "squared"} if squared else {})
    parts = case(**options)
    curve = loss_curve(*parts, lr_max, LOSSES[options["name"]])
    found = curve.descent()
    scan = np.linspace(lr_max / 400, lr_max, 400)
    lower = curve.pre_loss - curve(scan) > 1e-9 * curve.pre_loss
    higher = curve(scan) - curve.pre_loss > 1e-9 * curve.pre_loss
    inside = np.zeros(400, bool)
    for interval in curve.descents():
        assert 0 <= interval.lo <= interval.hi <= lr_max
        assert interval.loss < curve.pre_loss
        inside |= (scan > interval.lo) & ((scan < interval.hi) | (interval.hi == lr_max))
    assert not (lower & ~inside).any()
    assert not (higher & inside).any()
    intervals = curve.descents()
    assert found.exists == bool(intervals) == (found.intervals > 0)
    assert found.exists == (curve.pre_loss - curve.minimum().loss > 1e-12 * curve.pre_loss)
    if found.exists:
        lengths = [i.hi - i.lo for i in intervals]
        assert found.first == intervals[0]
        assert found.smallest.length == min(lengths)
        assert found.largest.length == max(lengths)
        assert found.total == pytest.approx(sum(lengths))
        assert min(i.loss for i in intervals) == pytest.approx(curve.minimum().loss, rel=1e-9, abs=1e-12)
    else:
        assert found.first is found.smallest is found.largest is None


def test_a_loss_that_returns_from_afar_has_not_fallen():
    """Three units turn and the output comes back to what it was, by sums that round otherwise."""
    model = MLP(1, 3, 1, 1, bias=True).double()
    zero = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, values in (("0.bias", (0.1, 0.2, -0.3)), ("2.weight", (1, 2, 3)), ("2.bias", (0,))):
            parameter = dict(model.named_parameters())[name]
            parameter.copy_(torch.tensor(values).double().reshape(parameter.shape))
        model[0].weight.zero_()
        model[2].weight.div_(8)
    direction = zero | {"0.bias": torch.tensor([1.0, 1.0, -1.0]).double()}
    x, y = torch.zeros(1, 1).double(), torch.full((1, 1), -1e-3).double()
    curve = loss_curve(model, direction, x, y)
    assert curve(0.4) == pytest.approx(curve.pre_loss, rel=1e-9)
    assert curve(0.25) > 1000 * curve.pre_loss
    assert not curve.descent().exists


@pytest.mark.parametrize("name", LOSSES)
def test_more_examples_than_a_block_and_threads(name, monkeypatch):
    parts = case(name, 5, 12, 3, 2, True, 300, "row")
    lrs = np.linspace(0, 0.5, 501)
    before = torch.get_num_threads()
    curves = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for block in (1, 250_000):
                monkeypatch.setattr("srste.curve.engine.follower._BLOCK", block)
                curves.append(loss_curve(*parts, 0.5, LOSSES[name]))
    finally:
        torch.set_num_threads(before)
    for curve in curves[1:]:
        np.testing.assert_allclose(curve(lrs), curves[0](lrs), rtol=1e-12)
        assert curve.minimum().loss == pytest.approx(curves[0].minimum().loss, rel=1e-12)
        np.testing.assert_allclose(curve.breakpoints, curves[0].breakpoints, rtol=1e-12)


class TestByHand:
    def one(self, loss, y, w=1.0, g=1.0, lr_max=2.0):
        """The output is w - t g, without any unit."""
        model = torch.nn.Linear(1, 1, bias=False).double()
        with torch.no_grad():
            model.weight.fill_(w)
        one = torch.ones(1, 1).double()
        return loss_curve(model, {"weight": g * one}, one, y * one, lr_max, loss)

    def test_absolute_error_is_zero_where_the_output_is_the_target(self):
        curve = self.one(AbsoluteError(), 0.25)
        np.testing.assert_array_equal(curve([0, 0.5, 0.75, 1, 2]), [0.75, 0.25, 0, 0.25, 1.25])
        assert curve.minimum() == (0.75, 0.0, True)
        first = curve.descent().first
        assert (first.lo, first.hi) == (0.0, 1.5)

    def test_logistic_loss_only_falls(self):
        curve = self.one(Logistic(), 1.0, w=0.0, g=-1.0)
        np.testing.assert_allclose(curve([0.0, 2.0]), np.log1p(np.exp([0.0, -2.0])), rtol=1e-15)
        assert curve.minimum()[::2] == (2.0, True)
        first = curve.descent().first
        assert (first.lo, first.hi) == (pytest.approx(0, abs=1e-15), 2.0)

    def test_large_outputs_overflow_nothing(self):
        curve = self.one(Logistic(), 1.0, w=-1e5, g=-1e6)
        np.testing.assert_allclose(curve([0.0, 0.1]), [1e5, np.log(2)], atol=1e-10)
        assert curve.minimum().loss == pytest.approx(0, abs=1e-300)


class TestRefused:
    def test_targets(self):
        model, direction, x, _ = make(0, 3, 1, 2, False, 4, "none", False)
        for loss, y, says in [
            (CrossEntropy(), torch.zeros(4, 2), r"targets must be \(4,\) integer classes"),
            (
                CrossEntropy(),
                torch.zeros(4),
                r"must be \(4,\) integer classes, not float32 \(4,\)",
            ),
            (CrossEntropy(), torch.tensor([0, 1, 2, 0]), "targets must be classes from 0 to 1"),
            (Logistic(), torch.zeros(4, 2), "targets must be -1 or +1"),
            (AbsoluteError(), torch.zeros(4), r"targets must be \(4, 2\), as the outputs, not \(4,\)"),
        ]:
            with pytest.raises(ValueError, match=says.replace("+", r"\+")):
                loss_curve(model, direction, x, y, 0.5, loss)

    def test_one_output_has_no_classes(self):
        model, direction, x, _ = make(0, 3, 1, 1, False, 4, "none", False)
        with pytest.raises(ValueError, match="cross-entropy needs outputs"):
            loss_curve(model, direction, x, torch.zeros(4, dtype=torch.long), 0.5, CrossEntropy())
        with pytest.raises(ValueError, match="cross-entropy needs outputs for two"):
            CrossEntropy().targets(torch.zeros(4, 1))

    def test_a_loss_without_a_form(self):
        class Huber:
            form = ""

        model, direction, x, y = make(0, 3, 1, 1, False, 4, "none", False)
        with pytest.raises(NotExactError, match="Huber has no exact form"):
            loss_curve(model, direction, x, y, 0.5, Huber())

    def test_callables_of_any_kind_are_evaluated(self):
        class DoubledError(SquaredError):
            def __call__(self, outputs, targets):
                return 2 * super().__call__(outputs, targets)

        class QuarticError(SquaredError):
            def _each(self, outputs, targets):
                return super()._each(outputs, targets) ** 2

        class RenamedError(SquaredError):
            pass

        model, direction, x, y = make(0, 3, 1, 1, False, 4, "none", False)
        twice = DoubledError()
        for loss in (twice, twice.__call__):
            curve, why = curve_and_reason(model, direction, x, y, 0.5, loss)
            assert why.endswith("has no exact form")
            assert curve.pre_loss == pytest.approx(2 * SquaredError()(model(x), y).item(), rel=1e-6)
        assert not curve_and_reason(model, direction, x, y, loss=QuarticError())[0].exact
        assert curve_and_reason(model, direction, x, y, loss=RenamedError())[0].exact


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_itself(name):
    """PyTorch's against NumPy's, and the teacher's targets."""
    outputs = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double() * 30
    loss = LOSSES[name]
    targets = loss.targets(torch.roll(outputs, 1, 0))
    assert loss(outputs, targets).item() == pytest.approx(
        by_hand(name, outputs.numpy(), targets.numpy()), rel=1e-13
    )
